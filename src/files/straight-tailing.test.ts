import { appendFileSync, linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { TailBench, texts, until } from "./tail-bench.test-kit.ts";

let bench: TailBench;
beforeEach(() => {
  bench = new TailBench();
});
afterEach(() => bench.close());

describe("TailerManager", () => {
  it("reads what is there and what is appended, in order", async () => {
    writeFileSync(bench.path("a.log"), "one\ntwo\n");
    const run = bench.start();
    await until(
      () => run.lines.length === 2,
      () => run.lines,
    );
    appendFileSync(bench.path("a.log"), "three\nfour\n");
    await until(
      () => run.lines.length === 4,
      () => run.lines,
    );
    expect(texts(run.lines)).toEqual(["one", "two", "three", "four"]);
    expect(run.lines.map((line) => line.offset)).toEqual([0, 4, 8, 14]);
    expect(run.lines[0]!.file).toBe(bench.path("a.log"));
    expect(run.manager.counters).toMatchObject({ bytes: 19, records: 4 });
  });

  it("finds a file that appears later", async () => {
    const run = bench.start({ readFrom: "end" });
    await until(
      () => run.manager.status().files === 0,
      () => run.manager.files(),
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    writeFileSync(bench.path("late.log"), "x\n");
    await until(
      () => run.lines.length === 1,
      () => run.lines,
    );
  });

  it("never gives out an unfinished line while it may grow", async () => {
    writeFileSync(bench.path("a.log"), "whole\nunfin");
    const run = bench.start();
    await until(
      () => run.lines.length === 1,
      () => run.lines,
    );
    appendFileSync(bench.path("a.log"), "ished");
    appendFileSync(bench.path("a.log"), "\n");
    await until(
      () => run.lines.length === 2,
      () => run.lines,
    );
    expect(texts(run.lines)).toEqual(["whole", "unfinished"]);
    expect(run.lines[1]).toMatchObject({ kind: "whole", offset: 6 });
  });

  it("gives out an unfinished line after its time-out, with a durable boundary, and its rest as a record of its own", async () => {
    writeFileSync(bench.path("a.log"), "begin");
    const run = bench.start({ partialLineTimeoutMs: 30 });
    await until(
      () => run.lines.length === 1,
      () => run.lines,
    );
    expect([...bench.positions.stored.values()][0]!.boundaries).toEqual([5]);
    appendFileSync(bench.path("a.log"), " end\nnext\n");
    await until(
      () => run.lines.length === 3,
      () => run.lines,
    );
    expect(run.lines.map(({ text, kind, offset }) => [text, kind, offset])).toEqual([
      ["begin", "partial", 0],
      [" end", "whole", 5],
      ["next", "whole", 10],
    ]);
  });

  it("saves a file's entry before its first record", async () => {
    writeFileSync(bench.path("a.log"), "one\n");
    const run = bench.start();
    await until(
      () => run.lines.length === 1,
      () => run.lines,
    );
    const entry = bench.positions.stored.get(run.lines[0]!.key)!;
    expect(entry.fingerprint.length).toBe(4);
    expect(entry.names).toEqual([bench.path("a.log")]);
  });

  it("reads on after a restart, with the same record ids for what it repeats", async () => {
    writeFileSync(bench.path("a.log"), "one\ntwo\n");
    const first = bench.start({}, { settles: false });
    await until(
      () => first.lines.length === 2,
      () => first.lines,
    );
    await first.kill();
    appendFileSync(bench.path("a.log"), "three\n");
    const second = bench.start();
    await until(
      () => second.lines.length === 3,
      () => second.lines,
    );
    expect(second.lines.slice(0, 2).map((line) => line.id)).toEqual(first.lines.map((line) => line.id));
    await second.stop();
    appendFileSync(bench.path("a.log"), "four\n");
    const third = bench.start();
    await until(
      () => third.lines.length === 1,
      () => third.lines,
    );
    expect(texts(third.lines)).toEqual(["four"]);
  });

  it("starts at the end of files without checkpoint when told so, also after a restart", async () => {
    writeFileSync(bench.path("a.log"), "old\n");
    const first = bench.start({ readFrom: "end" });
    await until(
      () => bench.positions.stored.size === 1,
      () => bench.events,
    );
    await first.stop();
    appendFileSync(bench.path("a.log"), "new\n");
    const second = bench.start({ readFrom: "end" });
    await until(
      () => second.lines.length === 1,
      () => second.lines,
    );
    expect(second.lines[0]).toMatchObject({ text: "new", offset: 4 });
    expect([...bench.positions.committed.values()]).toEqual([8]);
  });

  it("reads what appeared while nothing ran from its first byte, whatever was told of the first start", async () => {
    writeFileSync(bench.path("a.log"), "old\n");
    const first = bench.start({ readFrom: "end" });
    await until(
      () => bench.positions.stored.size === 1,
      () => bench.events,
    );
    await first.stop();
    writeFileSync(bench.path("b.log"), "new\n");
    const second = bench.start({ readFrom: "end" });
    await until(
      () => second.lines.length === 1,
      () => second.lines,
    );
    expect(second.lines[0]).toMatchObject({ text: "new", offset: 0 });
  });

  it("reads a file with several names once", async () => {
    writeFileSync(bench.path("a.log"), "one\n");
    linkSync(bench.path("a.log"), bench.path("hard.log"));
    symlinkSync(bench.path("a.log"), bench.path("soft.log"));
    const lines = await bench.once({ include: [`${bench.folder}/*.log`, `${bench.folder}/**/*.log`] });
    expect(texts(lines)).toEqual(["one"]);
  });

  it("reads a symbolic link into another folder, and its target once", async () => {
    mkdirSync(bench.path("pods"));
    mkdirSync(bench.path("containers"));
    writeFileSync(bench.path("pods/0.log"), "one\n");
    symlinkSync("../pods/0.log", bench.path("containers/web.log"));
    const lines = await bench.once({ include: [`${bench.folder}/**/*.log`] });
    expect(texts(lines)).toEqual(["one"]);
  });

  it("survives a circle of symbolic links between folders", async () => {
    mkdirSync(bench.path("x"));
    writeFileSync(bench.path("x/a.log"), "one\n");
    symlinkSync("..", bench.path("x/up"));
    const lines = await bench.once({ include: [`${bench.folder}/**/*.log`] });
    expect(texts(lines)).toEqual(["one"]);
  });

  it("reads files whose names are no UTF-8", async () => {
    const name = Buffer.concat([Buffer.from(`${bench.folder}/`), Buffer.from([0xff, 0x2e]), Buffer.from("log")]);
    writeFileSync(name, "one\n");
    const lines = await bench.once();
    expect(lines[0]).toMatchObject({ text: "one", file: `${bench.folder}/\\xFF.log` });
  });

  it("leaves out what exclude matches", async () => {
    writeFileSync(bench.path("a.log"), "one\n");
    writeFileSync(bench.path("b.log"), "two\n");
    expect(texts(await bench.once({ exclude: ["b*"] }))).toEqual(["one"]);
  });

  it("cuts a line longer than max_line_bytes and delivers all of it in bounded memory", async () => {
    const long = "x".repeat(3_000_000);
    writeFileSync(bench.path("a.log"), `${long}\nshort\n`);
    const run = bench.start({}, { once: true, budgetBytes: 2 * 1024 * 1024 });
    await run.ended;
    expect(texts(run.lines).slice(0, -1).join("")).toBe(long);
    expect(run.lines.map((line) => line.kind)).toEqual(["cut", "cut", "cut_end", "whole"]);
    expect(run.manager.counters.cutLines).toBe(1);
  });

  it("passes NUL bytes and invalid UTF-8 through", async () => {
    writeFileSync(bench.path("a.log"), Buffer.from([0, 0xff, 0x0a, 0xc3, 0x0a]));
    const lines = await bench.once();
    expect(lines).toHaveLength(2);
    expect(bench.positions.committed.get(lines[0]!.key)).toBe(5);
  });

  it("ends by itself with once, the unfinished last line delivered and marked", async () => {
    writeFileSync(bench.path("a.log"), "one\nrest");
    const lines = await bench.once();
    expect(lines.map(({ text, kind }) => [text, kind])).toEqual([
      ["one", "whole"],
      ["rest", "partial"],
    ]);
    appendFileSync(bench.path("a.log"), "!\n");
    expect((await bench.once()).map(({ text, offset }) => [text, offset])).toEqual([["!", 8]]);
  });

  it("keeps the order of each file with small reads and a channel of capacity 1", async () => {
    const count = 500;
    for (const name of ["a", "b", "c"]) {
      const lines = Array.from({ length: count }, (_, index) => `${name} ${index} ${"p".repeat(index % 90)}\n`);
      writeFileSync(bench.path(`${name}.log`), lines.join(""));
    }
    const run = bench.start({ maxBatchBytes: 700 }, { once: true, capacity: 1 });
    await run.ended;
    for (const name of ["a", "b", "c"]) {
      const numbers = texts(run.lines)
        .filter((text) => text.startsWith(name))
        .map((text) => Number(text.split(" ")[1]));
      expect(numbers).toEqual(Array.from({ length: count }, (_, index) => index));
    }
  });

  it("discovers thousands of files with few descriptors", async () => {
    for (let index = 0; index < 1000; index += 1) writeFileSync(bench.path(`${index}.log`), `${index}\n`);
    const run = bench.start({ maxOpenFiles: 25, scanIntervalMs: 100 });
    let most = 0;
    await until(
      () => {
        most = Math.max(most, run.manager.openFiles);
        return run.lines.length === 1000;
      },
      () => [run.lines.length, run.manager.openFiles, most],
    );
    expect(most).toBeLessThanOrEqual(25);
    expect(new Set(texts(run.lines)).size).toBe(1000);
    appendFileSync(bench.path("7.log"), "again\n");
    await until(
      () => run.lines.length === 1001,
      () => run.lines.length,
    );
    await run.stop();
  });
});
