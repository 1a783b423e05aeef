import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const example = (name: string, ...args: string[]) =>
  run(process.execPath, [join(root, "examples", name), ...args], { timeout: 60_000 });

describe("examples", () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "tailrace-examples-"));
    writeFileSync(join(folder, "a.log"), "one\na secret\ntwo\n");
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("channel.mjs loses nothing and ends", async () => {
    const { stdout } = await example("channel.mjs");
    expect(stdout.trim().split("\n").at(-1)).toBe("12 sent, 12 received, 0 dropped");
  });

  it("pipeline.mjs delivers each line once, however often it runs", async () => {
    const output = join(folder, "collected.ndjson");
    for (let time = 0; time < 2; time += 1)
      await example("pipeline.mjs", join(folder, "*.log"), output, join(folder, "state"));
    const events = readFileSync(output, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(events).toMatchObject([
      { message: "one", team: "checkout" },
      { message: "a secret", team: "checkout" },
      { message: "two", team: "checkout" },
    ]);
  });

  it("own-sink.mjs gets all but the bad record", async () => {
    const { stdout } = await example("own-sink.mjs", join(folder, "*.log"), join(folder, "own-state"));
    expect(stdout).toBe("ONE!\nTWO!\n");
  });

  it("var-log.toml is a valid configuration", async () => {
    const { stdout, stderr } = await run(process.execPath, [
      join(root, "bin/tailrace.js"),
      "validate",
      "-c",
      join(root, "examples/var-log.toml"),
    ]);
    expect(stderr).toBe("");
    expect(stdout).toContain("exactly once");
  });
});
