import { describe, expect, it } from "vitest";
import { firstSeed } from "../seed.ts";
import { torture } from "./torture.ts";

/**
 * The suite's form leaves out what a loaded machine makes a matter of luck (what jumps, what is full, and the order in which
 * a family that is switched, linked and saved all at once is told apart). The long form (any of these variables) has
 * everything in it: more seeds (each takes 40 s), longer, or with less in it, to corner a fault.
 */
const USUALLY_WITHOUT = "disk,clock,links,alias,editor_save,switch_symlink,truncate,delete_create";
const SEEDS = Number(process.env["TAILRACE_TORTURE_SEEDS"] ?? 1);
const MINUTES = Number(process.env["TAILRACE_TORTURE_MINUTES"] ?? 0.5);
const IS_LONG = ["SEEDS", "MINUTES", "WITHOUT"].some((name) => process.env[`TAILRACE_TORTURE_${name}`] !== undefined);
const WITHOUT = process.env["TAILRACE_TORTURE_WITHOUT"] ?? (IS_LONG ? undefined : USUALLY_WITHOUT);

describe("the chance mix", () => {
  const first = firstSeed(20);
  for (let seed = first; seed < first + SEEDS; seed += 1)
    it(`loses nothing and repeats nothing, whatever is done to files, agent, disk and sinks (seed ${seed})`, {
      timeout: MINUTES * 60_000 + 120_000,
    }, async () => {
      const without = WITHOUT === undefined ? [] : ["--without", WITHOUT];
      const run = await torture(["--seed", String(seed), "--minutes", String(MINUTES), ...without]);
      expect(run.stdout).toMatch(/^RIGHT/);
      expect(run.code).toBe(0);
    });
});
