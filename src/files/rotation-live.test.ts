import {
  appendFileSync,
  closeSync,
  copyFileSync,
  ftruncateSync,
  linkSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Run, TailBench, texts, until } from "./tail-bench.test-kit.ts";

let bench: TailBench;
beforeEach(() => {
  bench = new TailBench();
});
afterEach(() => bench.close());

const log = () => bench.path("app.log");
const one = () => bench.path("app.log.1");
const everything = () => ({ include: [`${bench.folder}/**`], exclude: [] as string[] });

async function seen(run: Run, count: number): Promise<void> {
  await until(
    () => run.lines.length >= count,
    () => [texts(run.lines), bench.events.map((event) => event.message), run.manager.files()],
  );
}

/** Long enough for a wrong second delivery to show. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 250));
}

describe("a live rotation", () => {
  it("by rename and create reads the old file to its end, then the new one", async () => {
    writeFileSync(log(), "1\n2\n");
    const run = bench.start();
    await seen(run, 2);
    appendFileSync(log(), "3\n");
    renameSync(log(), one());
    appendFileSync(one(), "4\n");
    writeFileSync(log(), "5\n");
    await seen(run, 5);
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2", "3", "4", "5"]);
    expect(new Set(run.lines.map((line) => line.key)).size).toBe(2);
    expect(run.lines.every((line) => line.file === log())).toBe(true);
    expect(bench.eventsNamed("file_rotated")[0]!.facts).toMatchObject({ how: "renamed" });
  });

  it("reads what is written late into the renamed file", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start({ rotateWaitMs: 100 });
    await seen(run, 1);
    renameSync(log(), one());
    writeFileSync(log(), "2\n");
    await seen(run, 2);
    appendFileSync(one(), "late\n");
    await seen(run, 3);
    await until(
      () => bench.eventsNamed("file_finished").length === 1,
      () => bench.events,
    );
    appendFileSync(one(), "later than the tombstone\n");
    await seen(run, 4);
    expect(texts(run.lines)).toEqual(["1", "2", "late", "later than the tombstone"]);
  });

  it("reads each line once where the rotated names match too", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start(everything());
    await seen(run, 1);
    for (let turn = 2; turn < 6; turn += 1) {
      for (let number = 5; number > 0; number -= 1) {
        try {
          renameSync(bench.path(`app.log.${number}`), bench.path(`app.log.${number + 1}`));
        } catch {}
      }
      renameSync(log(), one());
      writeFileSync(log(), `${turn}\n`);
      await seen(run, turn);
    }
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2", "3", "4", "5"]);
  });

  it("reads a generation that came and went between two looks", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start({ scanIntervalMs: 300 });
    await seen(run, 1);
    appendFileSync(log(), "2\n");
    renameSync(log(), bench.path("app.log.2"));
    writeFileSync(one(), "3\n");
    writeFileSync(log(), "4\n");
    await seen(run, 4);
    expect(texts(run.lines)).toEqual(["1", "2", "3", "4"]);
  });

  it("reads a deleted file that it holds open to the end, its unfinished line marked", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start();
    await seen(run, 1);
    const writer = openSync(log(), "a");
    unlinkSync(log());
    writeSync(writer, "2\nrest");
    await seen(run, 3);
    closeSync(writer);
    expect(run.lines.map(({ text, kind }) => [text, kind])).toEqual([
      ["1", "whole"],
      ["2", "whole"],
      ["rest", "partial_end"],
    ]);
    await until(
      () => run.manager.openFiles === 0,
      () => run.manager.files(),
    );
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("by deletion and creation reads the new file from its start", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start();
    await seen(run, 1);
    unlinkSync(log());
    writeFileSync(log(), "2\n3\n");
    await seen(run, 3);
    expect(texts(run.lines)).toEqual(["1", "2", "3"]);
  });

  it("that is none, since an editor saved the same content under a new inode, reads what was added once", async () => {
    writeFileSync(log(), "1\n2\n");
    const run = bench.start();
    await seen(run, 2);
    writeFileSync(bench.path("swap"), "1\n2\n3\n");
    renameSync(bench.path("swap"), log());
    await seen(run, 3);
    appendFileSync(log(), "4\n");
    await seen(run, 4);
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2", "3", "4"]);
    expect(new Set(run.lines.map((line) => line.key)).size).toBe(1);
  });

  it("by copy and truncation finishes from the copy, then starts again at 0", async () => {
    writeFileSync(log(), "1\n2\n");
    const run = bench.start({ scanIntervalMs: 100 }, { settles: true });
    await seen(run, 2);
    appendFileSync(log(), "3\n");
    copyFileSync(log(), one());
    truncateSync(log());
    appendFileSync(log(), "4\n");
    await seen(run, 4);
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2", "3", "4"]);
    const [old, young] = [...bench.positions.stored.values()].sort((a, b) => a.generation - b.generation);
    expect([old!.generation, young!.generation]).toEqual([0, 1]);
  });

  it("by copy and truncation reads each byte once where the copy matches too and the truncation comes late", async () => {
    writeFileSync(log(), "1\n2\n");
    const run = bench.start(everything());
    await seen(run, 2);
    copyFileSync(log(), one());
    await settled();
    appendFileSync(log(), "3\n");
    await seen(run, 3);
    truncateSync(log());
    appendFileSync(log(), "4\n");
    await seen(run, 4);
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2", "3", "4"]);
  });

  it("by copy and truncation, refilled past the position between two looks", async () => {
    writeFileSync(log(), "1\n2\n");
    const run = bench.start({ scanIntervalMs: 200 });
    await seen(run, 2);
    appendFileSync(log(), "3\n");
    copyFileSync(log(), one());
    truncateSync(log());
    appendFileSync(log(), "a long line that reaches past what was read before\n");
    await seen(run, 4);
    expect(texts(run.lines)).toEqual(["1", "2", "3", "a long line that reaches past what was read before"]);
  });

  it("takes a refilled file with equal bytes around the position for truncated if a copy appeared", async () => {
    writeFileSync(log(), "same\nsame\n");
    const run = bench.start({ scanIntervalMs: 200 });
    await seen(run, 2);
    appendFileSync(log(), "old\n");
    copyFileSync(log(), one());
    truncateSync(log());
    appendFileSync(log(), "same\nsame\nnew\n");
    await seen(run, 6);
    await settled();
    expect(texts(run.lines)).toEqual(["same", "same", "old", "same", "same", "new"]);
  });

  it("by compression at once reads on from the descriptor, and never the archive", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start(everything());
    await seen(run, 1);
    appendFileSync(log(), "2\n");
    renameSync(log(), one());
    writeFileSync(bench.path("app.log.1.gz"), gzipSync("1\n2\n"));
    unlinkSync(one());
    writeFileSync(log(), "3\n");
    await seen(run, 3);
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2", "3"]);
  });

  it("knows the compressed form of a file that it has finished", async () => {
    writeFileSync(log(), "1\n");
    const run = bench.start(everything());
    await seen(run, 1);
    renameSync(log(), one());
    writeFileSync(log(), "2\n");
    await seen(run, 2);
    await until(
      () => bench.eventsNamed("file_finished").length === 1,
      () => bench.events,
    );
    writeFileSync(bench.path("app.log.1.gz"), gzipSync("1\n"));
    await settled();
    unlinkSync(one());
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2"]);
  });

  it("by truncation alone starts again at 0", async () => {
    writeFileSync(log(), "first\nsecond\n");
    const run = bench.start();
    await seen(run, 2);
    writeFileSync(log(), "x\n");
    await seen(run, 3);
    expect(texts(run.lines)).toEqual(["first", "second", "x"]);
    expect(run.lines[2]!.offset).toBe(0);
    expect(new Set(run.lines.map((line) => line.id)).size).toBe(3);
  });

  it("skips the hole that a writer without O_APPEND leaves after a truncation", async () => {
    const writer = openSync(log(), "w");
    writeSync(writer, "first\nsecond\n");
    const run = bench.start({ scanIntervalMs: 100 });
    await seen(run, 2);
    ftruncateSync(writer, 0);
    // No position given: it goes on where it was, and the file starts with a hole.
    writeSync(writer, "third\n");
    await seen(run, 3);
    writeSync(writer, "fourth\n");
    await seen(run, 4);
    closeSync(writer);
    expect(run.lines.map(({ text, offset }) => [text, offset]).slice(2)).toEqual([
      ["third", 13],
      ["fourth", 19],
    ]);
    expect(bench.eventsNamed("hole_skipped")[0]!.facts).toMatchObject({ bytes: 13 });
    expect(bench.positions.committed.get(run.lines[3]!.key)).toBe(26);
  });

  it("of a hard link that loses one of its names goes on as the same file", async () => {
    writeFileSync(log(), "1\n");
    linkSync(log(), bench.path("other.log"));
    const run = bench.start();
    await seen(run, 1);
    unlinkSync(log());
    appendFileSync(bench.path("other.log"), "2\n");
    await seen(run, 2);
    await settled();
    expect(texts(run.lines)).toEqual(["1", "2"]);
    expect(bench.eventsNamed("file_rotated")).toEqual([]);
  });

  it("of a symbolic link's target finds the renamed target in its real folder", async () => {
    rmSync(bench.path("data"), { recursive: true, force: true });
    const target = bench.path("target.txt");
    writeFileSync(target, "1\n");
    symlinkSync(target, log());
    const run = bench.start();
    await seen(run, 1);
    renameSync(target, `${target}.1`);
    appendFileSync(`${target}.1`, "2\n");
    writeFileSync(target, "3\n");
    await seen(run, 3);
    expect(texts(run.lines)).toEqual(["1", "2", "3"]);
  });

  it("by a rename to another name that matches is no rotation: the file goes on", async () => {
    writeFileSync(bench.path("a.log"), "1\nbegin");
    const run = bench.start();
    await seen(run, 1);
    renameSync(bench.path("a.log"), bench.path("b.log"));
    await settled();
    appendFileSync(bench.path("b.log"), " end\n");
    await seen(run, 2);
    expect(texts(run.lines)).toEqual(["1", "begin end"]);
  });

  it("delivers the unfinished last line at the rotation's end, marked", async () => {
    writeFileSync(log(), "1\nrest");
    const run = bench.start();
    await seen(run, 1);
    renameSync(log(), one());
    writeFileSync(log(), "2\n");
    await seen(run, 3);
    expect(run.lines.map(({ text, kind }) => [text, kind])).toContainEqual(["rest", "partial_end"]);
    expect([...bench.positions.stored.values()].some((entry) => entry.boundaries.includes(6))).toBe(true);
  });

  it("happens again and again under a writer that never stops, each line once and in order", async () => {
    const run = bench.start({ scanIntervalMs: 15, rotateWaitMs: 40 });
    let number = 0;
    for (let turn = 0; turn < 12; turn += 1) {
      const writer = openSync(log(), "a");
      for (let line = 0; line < 50; line += 1) {
        writeSync(writer, `${number}\n`);
        number += 1;
        if (line % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 6));
      }
      for (let old = 20; old > 0; old -= 1) {
        try {
          renameSync(bench.path(`app.log.${old}`), bench.path(`app.log.${old + 1}`));
        } catch {}
      }
      renameSync(log(), one());
      closeSync(writer);
    }
    await seen(run, number);
    await settled();
    expect(texts(run.lines).map(Number)).toEqual(Array.from({ length: number }, (_, index) => index));
  });
});
