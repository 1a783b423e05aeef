import { appendFileSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Run, TailBench, texts, until } from "./tail-bench.test-kit.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";

let bench: TailBench;
beforeEach(() => {
  bench = new TailBench();
});
afterEach(() => bench.close());

const options = (changes: Partial<TailerManagerOptions>): TailerManagerOptions => ({
  include: [`${bench.folder}/*.log`],
  exclude: [],
  readFrom: "beginning",
  maxLineBytes: 1024 * 1024,
  lineDelimiter: Buffer.from("\n"),
  encoding: "utf-8",
  maxBatchBytes: 262144,
  scanIntervalMs: 20,
  idleScanIntervalMs: 100,
  partialLineTimeoutMs: 0,
  rotateWaitMs: 60,
  archives: true,
  maxOpenFiles: 100,
  maxFiles: 1000,
  tombstoneDays: 14,
  ignoreOlderMs: 0,
  removeAfterMs: 0,
  ...changes,
});

const comes = (run: Run, ...all: string[]) =>
  until(
    () => texts(run.lines).join() === all.join(),
    () => texts(run.lines),
  );

describe("TailerManager › other options while it runs", () => {
  it("goes on at what was sent, settled or not, and each line is sent once", async () => {
    writeFileSync(bench.path("a.log"), "one\ntwo\n");
    const run = bench.start({}, { settles: false });
    await comes(run, "one", "two");
    for (const maxBatchBytes of [1024, 4096, 1024]) {
      await run.manager.reconfigure(options({ maxBatchBytes }));
      appendFileSync(bench.path("a.log"), `${maxBatchBytes}\n`);
    }
    await comes(run, "one", "two", "1024", "4096", "1024");
  });

  it("keeps its descriptors: what has no name any more is read on", async () => {
    const writer = openSync(bench.path("a.log"), "w");
    writeSync(writer, "one\n");
    const run = bench.start({ rotateWaitMs: 60_000 }, { settles: false });
    await comes(run, "one");
    rmSync(bench.path("a.log"));
    await new Promise((resolve) => setTimeout(resolve, 60));
    await run.manager.reconfigure(
      options({
        rotateWaitMs: 60_000,
        maxBatchBytes: 1024,
        include: [`${bench.folder}/*.log`, `${bench.folder}/more/*`],
      }),
    );
    writeSync(writer, "two\n");
    await comes(run, "one", "two");
    expect(bench.events.filter(({ name }) => name === "gap")).toEqual([]);
  });

  it("frames what follows by the new options, in files that are open too", async () => {
    writeFileSync(bench.path("a.log"), "one\nhalf");
    const run = bench.start({}, { settles: false });
    await comes(run, "one");
    await run.manager.reconfigure(options({ lineDelimiter: Buffer.from(";"), maxLineBytes: 6 }));
    appendFileSync(bench.path("a.log"), ";x\ny;longer than six;");
    await comes(run, "one", "half", "x\ny", "longer", " than ", "six");
  });

  it("finds what matches now, from 0, also where it only reads from the end; lets go of what matches no more, and goes on there when it matches again", async () => {
    mkdirSync(bench.path("other"));
    writeFileSync(bench.path("a.log"), "");
    writeFileSync(bench.path("other/b.txt"), "b1\n");
    const both = [`${bench.folder}/*.log`, `${bench.folder}/other/*.txt`];
    const run = bench.start({ readFrom: "end" }, { settles: false });
    await until(
      () => run.manager.status().files === 1,
      () => run.manager.files(),
    );
    appendFileSync(bench.path("a.log"), "a1\n");
    await comes(run, "a1");
    await run.manager.reconfigure(options({ readFrom: "end", include: both }));
    await comes(run, "a1", "b1");
    await run.manager.reconfigure(options({ readFrom: "end", include: [both[1]!] }));
    appendFileSync(bench.path("a.log"), "a2\n");
    appendFileSync(bench.path("other/b.txt"), "b2\n");
    await comes(run, "a1", "b1", "b2");
    expect(run.manager.openFiles).toBe(1);
    await run.manager.reconfigure(options({ readFrom: "end", include: both, exclude: ["none"] }));
    await comes(run, "a1", "b1", "b2", "a2");
    expect(bench.events.filter(({ name }) => name === "gap" || name === "repeat")).toEqual([]);
  });

  it("loses nothing and repeats nothing while logs rotate and options change, again and again", async () => {
    const run = bench.start({ rotateWaitMs: 300 }, { settles: false });
    const wanted: string[] = [];
    for (let round = 0; round < 30; round += 1) {
      const line = `line ${round}`;
      wanted.push(line);
      appendFileSync(bench.path("a.log"), `${line}\n`);
      // A path that nobody has seen yet has no generations.
      if (round === 0) await comes(run, line);
      if (round % 5 === 4) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        renameSync(bench.path("a.log"), bench.path("a.log.1"));
      }
      const include = round % 2 === 0 ? [`${bench.folder}/*.log`] : [`${bench.folder}/*.log`, `${bench.folder}/*.x`];
      await run.manager.reconfigure(options({ rotateWaitMs: 300, include, maxBatchBytes: 1024 + round }));
    }
    await comes(run, ...wanted);
  });
});
