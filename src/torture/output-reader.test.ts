import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Generation } from "./generation.ts";
import { Ledger } from "./ledger.ts";
import { OutputReader } from "./output-reader.ts";

describe("OutputReader", () => {
  let folder: string;
  let path: string;
  const ledger = new Ledger(["out"]);
  const generation = new Generation("A", 0);
  ledger.beginGeneration(generation);
  const lines = Array.from({ length: 8 }, (_, at) => `${ledger.write(generation, at * 100, false)}\n`);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tailrace-reader-"));
    path = join(folder, "out");
    ledger.forget("out");
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const counts = () => lines.map((_, number) => ledger.cameTimes("out", { family: "A", number }));

  it("counts whole lines, as JSON or bare, and waits for the rest of one", () => {
    const reader = new OutputReader(path, "out", ledger);
    reader.read();
    writeFileSync(path, `${lines[0]}${JSON.stringify({ message: lines[1]!.slice(0, -1) })}\n${lines[2]!.slice(0, 9)}`);
    reader.read();
    expect(counts()).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
    appendFileSync(path, lines[2]!.slice(9));
    reader.read();
    expect(counts()).toEqual([1, 1, 1, 0, 0, 0, 0, 0]);
  });

  it("takes back what a crash cut, also where as much was written again before it looked", () => {
    const reader = new OutputReader(path, "out", ledger);
    writeFileSync(path, lines.slice(0, 5).join(""));
    reader.read();
    truncateSync(path, lines.slice(0, 2).join("").length);
    reader.read();
    expect(counts()).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
    appendFileSync(path, [...lines.slice(5), lines[4], lines[2]].join(""));
    reader.read();
    truncateSync(path, lines.slice(0, 2).join("").length);
    appendFileSync(path, lines.slice(2).join(""));
    reader.read();
    expect(counts()).toEqual([1, 1, 1, 1, 1, 1, 1, 1]);
  });

  it("begins again where nothing that it knows is left", () => {
    const reader = new OutputReader(path, "out", ledger);
    writeFileSync(path, lines.slice(0, 5).join(""));
    reader.read();
    writeFileSync(path, lines[7]!);
    reader.read();
    expect(counts()).toEqual([0, 0, 0, 0, 0, 0, 0, 1]);
  });
});
