import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Batch, Messages } from "../record/index.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { FaultyFileSystem } from "../testing/faulty-file-system.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { sinkContext } from "../testing/sink-context.ts";
import { DriverStore, SinkDriver } from "../testing/sink-driver.ts";
import { bytesOf, finishedFiles, metadataOf } from "./parquet/read-back.test-kit.ts";
import { verified } from "./parquet/zstd.ts";
import { parquetSink } from "./parquet.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-parquet-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Drives a sink on real files, with real time. */
function driver(
  options: object,
  over: { store?: DriverStore; files?: FaultyFileSystem; clock?: typeof systemClock } = {},
) {
  const parsed = parquetSink.options.parse(options);
  return SinkDriver.open({
    open: (context) => parquetSink.open(parsed, context),
    store: over.store ?? new DriverStore(),
    fileSystem: over.files ?? nodeFileSystem,
    clock: over.clock ?? systemClock,
    stateDir: join(folder, "state"),
    maxRetries: 1000,
  });
}

const lines = (count: number, from = 0) =>
  Array.from({ length: count }, (_, index) => linesBatch("s", "k", (from + index) * 100, [`line ${from + index}`]));

async function messagesByFile(): Promise<{ [name: string]: unknown[] }> {
  const { rows } = await finishedFiles(nodeFileSystem, folder);
  return Object.fromEntries([...rows].map(([name, own]) => [name, own.map(({ message }) => message)]));
}

const signal = new AbortController().signal;
const visible = () => readdirSync(folder).filter((name) => name.endsWith(".parquet"));

async function until(isTrue: () => boolean): Promise<void> {
  const endAt = Date.now() + 60_000;
  while (!isTrue()) {
    if (Date.now() > endAt) throw new Error("waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("parquet sink", () => {
  it("has no file with its name before it is complete, and has one after a clean stop", async () => {
    const sink = await driver({ path: join(folder, "out.parquet") });
    await sink.run(lines(3));
    expect(readdirSync(folder)).toEqual([".out.parquet.open"]);
    await sink.close();
    expect(readdirSync(folder)).toEqual(["out.parquet"]);
    expect(await messagesByFile()).toEqual({ "out.parquet": ["line 0", "line 1", "line 2"] });
  });

  it("leaves nothing behind where there was no record", async () => {
    await (await driver({ path: join(folder, "out.parquet") })).close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("never takes a name that exists", async () => {
    for (const name of ["out.parquet", "out-1.parquet"]) writeFileSync(join(folder, name), name);
    const sink = await driver({ path: join(folder, "out.parquet") });
    await sink.run(lines(1));
    await sink.close();
    expect(visible()).toEqual(["out-1.parquet", "out-2.parquet", "out.parquet"]);
    for (const name of ["out.parquet", "out-1.parquet"]) expect(readFileSync(join(folder, name), "utf8")).toBe(name);
  });

  it("takes the next name where somebody takes the first in between", async () => {
    const files = new FaultyFileSystem(nodeFileSystem);
    const path = join(folder, "out.parquet");
    const sink = await driver({ path }, { files });
    await sink.run(lines(1));
    const rename = files.renameNoReplace.bind(files);
    files.renameNoReplace = (from, to) => {
      if (to.endsWith("out.parquet") && !existsSync(path)) writeFileSync(path, "mine");
      return rename(from, to);
    };
    await sink.close();
    expect(readdirSync(folder)).toEqual(["out-1.parquet", "out.parquet"]);
    expect(readFileSync(path, "utf8")).toBe("mine");
  });

  it("finishes a file at rotate.max_bytes, and at SIGUSR1, without losing the order", async () => {
    const sink = await driver({ path: join(folder, "out.parquet"), rotate: { max_bytes: 1000 } });
    await sink.run(lines(30));
    sink.sink.rotate!();
    await sink.run([...lines(30), ...lines(1, 30)]);
    await sink.close();
    const names = visible().sort((one, other) => numberOf(one) - numberOf(other));
    expect(names.length).toBeGreaterThan(3);
    const found = await messagesByFile();
    expect(names.flatMap((name) => found[name])).toEqual(Array.from({ length: 31 }, (_, index) => `line ${index}`));
    expect(found[names.at(-1)!]).toEqual(["line 30"]);
  });

  it("finishes a file at rotate.max_age_ms, also while nothing comes", async () => {
    const sink = await driver({ path: join(folder, "out.parquet"), rotate: { max_age_ms: 200 } });
    await sink.run(lines(2));
    await until(() => visible().length === 1);
    await sink.run([...lines(2), ...lines(1, 2)]);
    await sink.close();
    expect(await messagesByFile()).toEqual({ "out.parquet": ["line 0", "line 1"], "out-1.parquet": ["line 2"] });
  });

  it("keeps as many finished files as rotate.keep says, across runs, and never touches another", async () => {
    writeFileSync(join(folder, "other.parquet"), "");
    const store = new DriverStore();
    for (let run = 0; run < 4; run += 1) {
      const sink = await driver({ path: join(folder, "out.parquet"), rotate: { keep: 2 } }, { store });
      await sink.run(lines(run + 1));
      await sink.close();
    }
    rmSync(join(folder, "other.parquet"));
    const found = await messagesByFile();
    expect(Object.values(found).flat().sort()).toEqual(["line 2", "line 3"]);
  });

  it("has a file for each value of a placeholder, and one for each hour, named by the second of its first record", async () => {
    const at = (time: string, user: string) =>
      Batch.ofMessages(
        { source: "s", key: "k", kind: "replayable", recordIdPrefix: "p", file: undefined },
        new Messages([{ number: 0, body: Buffer.alloc(0), fields: { timestamp: time, user, message: time } }], {
          readAtMs: 0,
          host: "h",
        }),
        { start: 0, end: 1 },
        10,
      );
    const sink = await driver({ path: join(folder, "{user}-{time:%Y%m%dT%H%M%S}.parquet"), max_open_outputs: 2 });
    await sink.run([
      at("2026-11-21T10:00:01Z", "a"),
      at("2026-11-21T10:59:59Z", "a"),
      at("2026-11-21T11:00:00Z", "a"),
      at("2026-11-21T10:30:00Z", "b/.."),
      at("2026-11-21T10:30:00.5Z", "b/.."),
    ]);
    await sink.close();
    expect(await messagesByFile()).toEqual({
      "a-20261121T100001.parquet": ["2026-11-21T10:00:01Z", "2026-11-21T10:59:59Z"],
      "a-20261121T110000.parquet": ["2026-11-21T11:00:00Z"],
      "b_..-20261121T103000.parquet": ["2026-11-21T10:30:00Z", "2026-11-21T10:30:00.5Z"],
    });
  });

  it("finishes a file that is not written any more, where the path has placeholders", async () => {
    const path = join(folder, "{source}-{time:%H}.parquet");
    const sink = await driver({ path, close_idle_ms: 200 });
    await sink.run(lines(1));
    await until(() => visible().length === 1);
    await sink.close();
    expect(await messagesByFile()).toEqual({ "s-00.parquet": ["line 0"] });
  });

  it("writes what can be read with every codec, in every sink of a process", async () => {
    for (const [index, compression] of (["zstd", "snappy", "zstd", "none", "zstd"] as const).entries()) {
      const sink = await driver({ path: join(folder, `${index}.parquet`), compression });
      await sink.run(lines(300));
      await sink.close();
    }
    const expected = Array.from({ length: 300 }, (_, index) => `line ${index}`);
    expect(Object.values(await messagesByFile())).toEqual(Array(5).fill(expected));
  });

  it("takes no word of zstd for it", () => {
    const bytes = new Uint8Array(1000).fill(7);
    expect(() => verified(() => new Uint8Array(20))(bytes)).toThrow("something else");
    // A frame of another content.
    const other = Buffer.from("28b52ffd2003190000616263", "hex");
    expect(() => verified(() => other)(bytes)).toThrow("something else");
    expect(verified(() => other)(Buffer.from("abc"))).toBe(other);
  });

  it("holds times to the nanosecond", async () => {
    const columns = { at: "timestamp" };
    const sink = await parquetSink.open(
      parquetSink.options.parse({ path: join(folder, "out.parquet"), columns }),
      sinkContext(),
    );
    const fields = { at: "2026-11-21T10:00:00.123456789Z" };
    const messages = new Messages([{ number: 0, body: Buffer.alloc(0), fields }], { readAtMs: 0, host: "h" });
    const origin = { source: "s", key: "k", kind: "fleeting", recordIdPrefix: "p", file: undefined } as const;
    await sink.write(Batch.ofMessages(origin, messages, { start: 0, end: 1 }, 10), { signal });
    await sink.prepare!();
    await sink.committed!();
    await sink[Symbol.asyncDispose]();
    const { row_groups: groups } = await metadataOf(
      await bytesOf(nodeFileSystem, pathFromText(join(folder, "out.parquet"))),
    );
    const statistics = groups[0]!.columns[0]!.meta_data!.statistics!;
    // Decoded to milliseconds by the reader; the bytes are what counts.
    expect(statistics.min_value).toBeDefined();
    const bytes = readFileSync(join(folder, "out.parquet"));
    const expected = Buffer.alloc(8);
    expected.writeBigInt64LE(BigInt(Date.UTC(2026, 10, 21, 10)) * 1_000_000n + 123_456_789n);
    expect(bytes.includes(expected)).toBe(true);
  });

  it("goes on taking records while Parquet files cannot be written, up to a bound; then nothing is lost", async () => {
    const files = new FaultyFileSystem(nodeFileSystem);
    const sink = await driver({ path: join(folder, "out.parquet"), rotate: { max_bytes: 100 } }, { files });
    // Room for a name is what the full disk has not.
    const rename = files.renameNoReplace.bind(files);
    let isFull = true;
    files.renameNoReplace = (from, to) =>
      to.endsWith(".parquet") && isFull
        ? Promise.reject(Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" }))
        : rename(from, to);
    const running = sink.run(lines(40));
    await until(() => sink.retries.includes("Parquet files cannot be written: ENOSPC: no space left"));
    expect(visible()).toEqual([]);
    expect(readdirSync(folder).filter((name) => name.endsWith("Z") || /Z-\d$/.test(name))).toHaveLength(4);
    isFull = false;
    await running;
    await sink.close();
    expect(readdirSync(folder)).toEqual(visible());
    expect(
      Object.values(await messagesByFile())
        .flat()
        .sort(),
    ).toEqual(Array.from({ length: 40 }, (_, index) => `line ${index}`).sort());
  });

  it("leaves a journal that is damaged where it is, says so, and goes on with the others", async () => {
    const store = new DriverStore();
    const files = new FaultyFileSystem(nodeFileSystem);
    const path = join(folder, "out.parquet");
    files.fail({ call: "sync", after: 1, times: 2, fails: "EIO" });
    const first = await driver({ path }, { store, files });
    await first.run(lines(2));
    await first.close();
    expect(first.warnings.at(-1)).toBe("1 journals could not become Parquet files; the next start does it");
    const journal = readdirSync(folder).find((name) => !name.endsWith(".tmp"))!;
    const whole = readFileSync(join(folder, journal));
    writeFileSync(join(folder, journal), Buffer.alloc(whole.length, 1));
    const second = await driver({ path }, { store });
    await second.run([...lines(2), ...lines(1, 2)]);
    await second.close();
    expect(await messagesByFile()).toEqual({ "out.parquet": ["line 2"] });
    // Mended by hand, it becomes what it was to be.
    writeFileSync(join(folder, journal), whole);
    await (await driver({ path }, { store })).close();
    expect(await messagesByFile()).toEqual({ "out.parquet": ["line 2"], "out-1.parquet": ["line 0", "line 1"] });
    expect(readdirSync(folder)).toEqual(visible());
  });

  it("finishes what a killed run left open, however long ago, and whatever the path is by now", async () => {
    const store = new DriverStore();
    // Killed: it is neither closed, nor does its store say so.
    await (await driver({ path: join(folder, "{source}-{time:%H}.parquet") }, { store })).run(lines(2));
    const clock = Object.assign(Object.create(systemClock) as typeof systemClock, {
      now: () => Date.now() + 30 * 86_400_000,
    });
    mkdirSync(join(folder, "new"));
    const later = await driver({ path: join(folder, "new/out.parquet") }, { store, clock });
    await later.close();
    expect(Object.values(await messagesByFile())).toEqual([["line 0", "line 1"]]);
    expect(readdirSync(join(folder, "new"))).toEqual([]);
  });

  it("makes its folders, and says what a path must end in", async () => {
    mkdirSync(join(folder, "deep"));
    const sink = await driver({ path: join(folder, "deep/er/{source}/out.parquet") });
    await sink.run(lines(1));
    await sink.close();
    expect(readdirSync(join(folder, "deep/er/s"))).toEqual(["out.parquet"]);
    expect(() => parquetSink.options.parse({ path: join(folder, "out.pq") })).toThrow(".parquet");
    expect(() => parquetSink.options.parse({ path: "x.parquet", columns: { event: "json" } })).toThrow("event");
  });
});

const numberOf = (name: string) => Number(/-(\d+)\.parquet$/.exec(name)?.[1] ?? 0);
