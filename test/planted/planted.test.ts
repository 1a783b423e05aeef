import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PLANTED, PLANTED_IN_FILES } from "./bugs.ts";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
/** What the tests of a copy need; everything else is linked. */
const COPIED = ["src", "test", "config", "examples", "package.json", "tsconfig.json", "vitest.config.ts"];

let copy: string;
beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), "tailrace-planted-"));
  for (const name of COPIED) cpSync(join(ROOT, name), join(copy, name), { recursive: true });
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));

function runTests(
  tests: readonly string[],
  kinds: string | undefined,
): { readonly code: number | null; readonly output: string } {
  const { CI: _ci, VITEST: _vitest, NODE_ENV: _env, ...env } = process.env;
  // The suite finds them with the schedules that it always has.
  delete env["TAILRACE_TEST_SEED"];
  delete env["TAILRACE_TEST_ROUNDS"];
  delete env["TAILRACE_TEST_KINDS"];
  if (kinds !== undefined) env["TAILRACE_TEST_KINDS"] = kinds;
  // Many of these bugs make a test wait for what never comes.
  const flags = ["--bail=1", "--reporter=default", "--testTimeout=30000"];
  const args = ["node_modules/vitest/vitest.mjs", "run", ...flags, ...tests];
  const ran = spawnSync(process.execPath, args, { cwd: copy, env, encoding: "utf8", maxBuffer: 1 << 26 });
  return { code: ran.status, output: `${ran.stdout}${ran.stderr}` };
}

/** A suite is worth what it finds: each of these bugs loses or repeats records, and is planted into a copy of the code. */
describe("a planted bug is found by the suite", () => {
  /** By what they are run with: whether the tests are green without any bug. */
  const sound = new Map<string, boolean>();

  it.each([...PLANTED, ...PLANTED_IN_FILES])(
    "$what",
    ({ what, file, find, replace, tests, kinds }) => {
      const path = join(copy, file);
      const before = readFileSync(path, "utf8");
      expect(before.split(find)).toHaveLength(2);
      if (kinds !== undefined) {
        const isSound = sound.get(kinds) ?? runTests(tests, kinds).code === 0;
        sound.set(kinds, isSound);
        // What is red anyway finds nothing.
        expect(isSound).toBe(true);
      }
      writeFileSync(path, before.replace(find, replace));
      const startMs = performance.now();
      try {
        const { code, output } = runTests(tests, kinds);
        console.info(`${what}: found after ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
        expect(code).not.toBe(0);
        // By a test that failed, not because nothing could be run.
        expect(output).toMatch(/Tests .*\d+ failed/);
      } finally {
        writeFileSync(path, before);
      }
    },
    300_000,
  );
});
