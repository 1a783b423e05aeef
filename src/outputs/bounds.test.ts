import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Json } from "../checkpoint/checkpoint-store.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { sinkContext } from "../testing/sink-context.ts";
import { saveCutBytes } from "./cut-bytes.ts";
import { outputMarkName, toJson } from "./output-mark.ts";
import { OutputMarks } from "./output-marks.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-file-bounds-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("OutputMarks", () => {
  it("remember 10000 outputs; beyond that those not written for longest go, but never an open one", async () => {
    const mark = (writtenAtMs: number) => ({
      inode: "1",
      fileSystem: "fs",
      birthNs: "0",
      length: 1,
      createdAtMs: 0,
      writtenAtMs,
    });
    const marks = new Map<string, Json>();
    for (let output = 0; output < 10_000; output += 1)
      marks.set(outputMarkName(`/data/${output}` as BytePath), toJson(mark(output)));
    const remembered = new OutputMarks(sinkContext({ marks }));
    expect(remembered.tooMany(() => false)).toEqual([]);
    await remembered.save("/data/new" as BytePath, { output: mark(20_000) });
    const excess = remembered.tooMany((path) => path === "/data/0");
    expect([excess.length, excess[0], excess.at(-1)]).toEqual([1001, "/data/1", "/data/1001"]);
    await remembered.forget(excess);
    expect(remembered.outputs.size).toBe(9000);
  });
});

describe("saveCutBytes", () => {
  const MIB = 1024 * 1024;

  it("keeps the newest 64 MiB of all that was ever cut off", async () => {
    const cut = join(folder, "cut");
    mkdirSync(cut);
    // Sparse, and of rising age.
    for (const [name, mib, age] of [
      ["oldest", 30, 300],
      ["older", 30, 200],
      ["old", 30, 100],
    ] as const) {
      const path = join(cut, name);
      writeFileSync(path, "");
      truncateSync(path, mib * MIB);
      const at = Date.now() / 1000 - age;
      utimesSync(path, at, at);
    }
    const output = join(folder, "out.ndjson") as BytePath;
    writeFileSync(output, "committed, cut");
    const handle = await nodeFileSystem.open(output, "write");
    const context = sinkContext({ stateDir: folder });
    await saveCutBytes(context, handle, output, 10, 14);
    await handle.close();
    expect(
      readdirSync(cut)
        .filter((name) => !name.startsWith("out.ndjson"))
        .sort(),
    ).toEqual(["old", "older"]);
    expect(readdirSync(cut)).toHaveLength(3);
  });

  it("keeps the last 64 MiB where more is cut off at once", async () => {
    const output = join(folder, "out") as BytePath;
    writeFileSync(output, "");
    truncateSync(output, 70 * MIB);
    const handle = await nodeFileSystem.open(output, "write");
    const saved = await saveCutBytes(sinkContext({ stateDir: folder }), handle, output, 0, 70 * MIB);
    await handle.close();
    expect(statSync(saved).size).toBe(64 * MIB);
  });
});
