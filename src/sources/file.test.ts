import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadPlan } from "../config/index.ts";
import { ConfigError, describeMistake } from "../errors.ts";
import { builtInStages } from "../stages.ts";

async function mistakesIn(lines: readonly string[]): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-file-source-"));
  try {
    const text = [...lines, "[sinks.out]", 'type = "blackhole"', 'inputs = ["in"]'].join("\n");
    writeFileSync(join(folder, "a.toml"), text);
    await loadPlan({ stages: builtInStages, env: {}, cwd: folder, configs: ["a.toml"], needs: "nothing" });
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.mistakes.map(describeMistake);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("the globs of a file source", () => {
  it("are refused where they cannot mean what they say, by file, line and key, with what to write instead", async () => {
    const lines = ["[sources.in]", 'type = "file"', "include = [", '  "/logs/*.log",', '  "/logs/a[b.log",', "]"];
    expect(await mistakesIn([...lines, 'exclude = ["x{a,b"]'])).toEqual([
      'a.toml:5: sources.in.include[1]: is "/logs/a[b.log"; a [ has no closing ] before the next slash or the end; write [[] for a bracket that is part of the name',
      'a.toml:7: sources.in.exclude[0]: is "x{a,b"; a { has no closing } in x{a,b; write [{] for a brace that is part of the name',
    ]);
  });

  it("are taken where they are what was advised", async () => {
    const lines = ["[sources.in]", 'type = "file"', 'include = ["/logs/a[[]b.log", "/{a,b}/[!x]*.log"]'];
    expect(await mistakesIn([...lines, 'exclude = ["x[{]a,b", "[(]*"]'])).toEqual([]);
  });
});
