import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    // Real processes, disks and servers: generous for a loaded machine, and still an end.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: "forks",
    typecheck: { enabled: false },
  },
});
