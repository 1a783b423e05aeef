import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { firstSeed } from "./seed.ts";

/** Runs before each test file: its properties draw from the suite's seed, as all schedules do. */
const { testPath } = expect.getState();
if (testPath !== undefined && readFileSync(testPath, "utf8").includes('from "fast-check"')) {
  const { configureGlobal } = await import("fast-check");
  configureGlobal({ seed: firstSeed() });
}
