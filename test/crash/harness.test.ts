import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { CrashMachine, passing, until } from "./machine.ts";
import { ROTATION_KINDS } from "./rotation-kinds.ts";
import { verify } from "./verify.ts";

/** All that lies in the log folder of one file, oldest first: with dates in their order, with numbers the highest first. */
function contentOf(folder: string, file: string): string[] {
  const age = (name: string) => {
    const ending = name.slice(file.length + 1).replace(/\.gz$/, "");
    if (ending === "") return Number.POSITIVE_INFINITY;
    return ending.includes("-") || name.startsWith(`${file}-`) ? Number(ending.split("-").at(-1)) : -Number(ending);
  };
  const names = readdirSync(folder).filter((name) => name.startsWith(file));
  names.sort((one, other) => age(one) - age(other));
  return names.flatMap((name) => {
    const bytes = readFileSync(join(folder, name));
    return (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString().split("\n").slice(0, -1);
  });
}

describe("crash harness", () => {
  it.each(ROTATION_KINDS)("loses nothing by itself: $title", async ({ splitLines, gapMs, rotate }) => {
    await using machine = new CrashMachine();
    const files = ["a.log", "b.log"];
    const writer = await machine.writer({ files, linesPerTick: 20, tickMs: 2, payloadBytes: 100, splitLines, seed: 7 });
    // An empty file is not rotated.
    const hasLines = (file: string) => (statSync(join(machine.logs, file), { throwIfNoEntry: false })?.size ?? 0) > 0;
    for (let round = 0; round < 3; round += 1) {
      await until(() => files.every(hasLines), "lines in each file");
      await passing(20);
      await rotate(machine, writer);
      await passing(gapMs ?? 0);
    }
    await passing(50);
    const written = await writer.stop();
    const arrived = files.flatMap((file) => contentOf(machine.logs, file));
    expect(verify(written, arrived, { allowRepeats: false }).problems).toEqual([]);
    expect(readdirSync(machine.logs).length).toBe(8);
  });
});
