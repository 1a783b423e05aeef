import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { firstSeed } from "../seed.ts";

const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

/** Seeds of the long form; each takes 40 s. */
const SEEDS = Number(process.env["TAILRACE_TORTURE_SEEDS"] ?? 1);
const MINUTES = Number(process.env["TAILRACE_TORTURE_MINUTES"] ?? 0.5);

describe("the chance mix", () => {
  const first = firstSeed(20);
  for (let seed = first; seed < first + SEEDS; seed += 1)
    it(`loses nothing and repeats nothing, whatever is done to files, agent, disk and sinks (seed ${seed})`, {
      timeout: MINUTES * 60_000 + 120_000,
    }, () => {
      const args = ["torture", "--seed", String(seed), "--minutes", String(MINUTES)];
      const run = spawnSync(process.execPath, [AGENT, ...args], { encoding: "utf8", maxBuffer: 1 << 26 });
      expect(run.stdout).toMatch(/^RIGHT/);
      expect(run.status).toBe(0);
    });
});
