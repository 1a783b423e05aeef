import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AgentEvent } from "./agent-process.ts";
import { Generation } from "./generation.ts";
import { Ledger } from "./ledger.ts";
import { judge } from "./verdict.ts";

describe("judge", () => {
  let folder: string;
  let ledger: Ledger;
  let old: Generation;
  let lines: string[];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tailrace-verdict-"));
    ledger = new Ledger(["out"]);
    old = new Generation("A", 0);
    old.names.add("/logs/a.log");
    ledger.beginGeneration(old);
    lines = [0, 1, 2].map((at) => ledger.write(old, at * 100, false));
    const young = new Generation("A", 1);
    ledger.beginGeneration(young);
    lines.push(...[0, 1, 2].map((at) => ledger.write(young, at * 100, false)));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  async function verdictOn(output: readonly string[], events: readonly AgentEvent[] = []): Promise<string[]> {
    const path = join(folder, "out");
    writeFileSync(path, output.map((line) => `${line}\n`).join(""));
    const { faults } = await judge(ledger, [{ name: "out", isExact: true, path }], events, true);
    return faults.map(({ kind, generation, count }) => `${kind} ${generation?.number ?? "?"}: ${count}`);
  }

  it("finds nothing where each line came once and in order", async () => {
    expect(await verdictOn(lines)).toEqual([]);
  });

  it("finds a line that is missing, that came twice, that came too early, and that is torn or glued", async () => {
    expect(await verdictOn(lines.filter((_, at) => at !== 4))).toEqual(["missing 1: 1"]);
    expect(await verdictOn([...lines, lines[1]!])).toEqual(["twice 0: 1"]);
    expect(await verdictOn([...lines.slice(3), ...lines.slice(0, 3)])).toEqual(["out of order 0: 3"]);
    expect(await verdictOn([...lines.slice(0, 4), lines[4]!.slice(0, -3), lines[5]!])).toEqual([
      "foreign 1: 1",
      "missing 1: 1",
    ]);
    expect(await verdictOn([`${"\0".repeat(99)}${lines[0]}`, ...lines.slice(1)])).toEqual([
      "foreign 0: 1",
      "missing 0: 1",
    ]);
  });

  it("asks for a gap with its name and range where content was destroyed that an agent had seen", async () => {
    old.destroyedAtMs = 1_000;
    expect(await verdictOn(lines.slice(3))).toEqual([]);
    old.seenOffset = 300;
    const gap = { atMs: 2_000, event: "gap", file: "/logs/a.log", offset: 100 };
    expect(await verdictOn(lines.slice(3))).toEqual(["untold 0: 3"]);
    expect(
      await verdictOn(
        lines.filter((_, at) => at < 1 || at > 2),
        [gap],
      ),
    ).toEqual([]);
    expect(await verdictOn(lines.slice(3), [gap])).toEqual(["untold 0: 1"]);
    expect(await verdictOn(lines.slice(3), [{ ...gap, offset: 0, file: "/logs/b.log" }])).toEqual(["untold 0: 3"]);
    expect(await verdictOn(lines.slice(3), [{ ...gap, offset: 0, atMs: 500 }])).toEqual(["untold 0: 3"]);
  });

  it("promises no place among the others to a line that was written late", async () => {
    const path = join(folder, "out");
    const late = ledger.write(old, 300, true);
    writeFileSync(path, [...lines.slice(0, 3), ...lines.slice(3), late].join("\n").concat("\n"));
    expect((await judge(ledger, [{ name: "out", isExact: true, path }], [], true)).isRight).toBe(true);
  });
});
