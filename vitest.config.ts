import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    setupFiles: ["test/seeded-properties.ts"],
    // Real processes, disks and servers: generous for a loaded machine, and still an end. A wait for a condition has an
    // end of its own before, with words.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    expect: { poll: { timeout: 30_000, interval: 10 } },
    pool: "forks",
    // Most tests wait for processes and servers: two files at once on two cores take 11 minutes instead of 18.
    maxWorkers: 2,
    typecheck: { enabled: false },
  },
});
