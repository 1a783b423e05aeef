import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

  describe("tailrace.config.ts", () => {
    const config = join(root, "examples/tailrace.config.ts");
    const tailrace = (command: string, ...args: string[]) =>
      run(process.execPath, [join(root, "bin/tailrace.js"), command, "-c", config, ...args], {
        cwd: folder,
        timeout: 60_000,
      });

    it("stands in the guide as it is here", () => {
      expect(readFileSync(join(root, "docs/guide/operating.md"), "utf8")).toContain(readFileSync(config, "utf8"));
    });

    it("runs its function over every record", async () => {
      mkdirSync(join(folder, "app"));
      writeFileSync(join(folder, "app/a.log"), '{"user":"ann","Token":"t0"}\n{"user":"bob"}\nno JSON\n');
      const sets = ["api.enabled=false", `state_dir=${folder}/config-state`, `sources.app.include=["app/*.log"]`];
      // With threads too: they parse, and the function stays where it can be called.
      const threads = ["--set", "transform_threads=1"];
      await tailrace("run", "--once", ...sets.flatMap((set) => ["--set", set]), ...threads);
      const lines = readFileSync(join(folder, "app.ndjson"), "utf8").trim().split("\n");
      expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
        { user: "ann", Token: "***" },
        { user: "bob" },
      ]);
    });

    it("is shown with its lines, and its function as one", async () => {
      const { stdout } = await tailrace("explain", "--json", "transforms.mask");
      const shown = JSON.parse(stdout) as { key: string; value: unknown; set_by: string }[];
      expect(shown).toContainEqual(
        expect.objectContaining({
          key: "transforms.mask.function",
          value: "[function]",
          set_by: `${config}:${readFileSync(config, "utf8").split("\n").indexOf("      function(event) {") + 1}`,
        }),
      );
      expect((await tailrace("explain", "transforms.mask")).stdout).toContain("[function]");
      expect((await tailrace("validate")).stdout).toContain("exactly once");
      for (const format of ["ascii", "dot", "mermaid"])
        expect((await tailrace("graph", "--format", format)).stdout).toContain("mask");
    });
  });
});
