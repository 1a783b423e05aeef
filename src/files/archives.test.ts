import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFileSync, existsSync, renameSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { CompressionFormat } from "../codec/decompress.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { FaultyFileSystem } from "../testing/faulty-file-system.ts";
import { TailBench, texts, until } from "./tail-bench.test-kit.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";

let bench: TailBench;
let all: Partial<TailerManagerOptions>;
beforeEach(() => {
  bench = new TailBench();
  all = { include: [`${bench.folder}/*`] };
});
afterEach(() => bench.close());

const PROGRAM: Record<CompressionFormat, string> = { gzip: "gzip", zstd: "zstd", xz: "xz", bzip2: "bzip2" };
const ENDING: Record<CompressionFormat, string> = { gzip: "gz", zstd: "zst", xz: "xz", bzip2: "bz2" };
const formats = (Object.keys(PROGRAM) as CompressionFormat[]).filter(
  (format) => spawnSync(PROGRAM[format], ["--version"], { input: "" }).error === undefined,
);

function compress(format: CompressionFormat, content: string): Buffer {
  return spawnSync(PROGRAM[format], ["-c"], { input: content, maxBuffer: 2 ** 30 }).stdout;
}

function numbers(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, index) => String(from + index));
}

const content = (from: number, to: number) => `${numbers(from, to).join("\n")}\n`;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.each(formats)("a %s archive that was read to its end", (format) => {
  it("is read on when more is appended to it: live, after it rested, and while nothing ran", async () => {
    const path = bench.path(`app.log.${ENDING[format]}`);
    writeFileSync(path, compress(format, content(1, 1000)));
    const run = bench.start(all);
    await until(
      () => run.lines.length >= 1000,
      () => run.lines.length,
    );
    for (const from of [1001, 2001]) {
      await until(
        () => run.manager.files()[0]?.phase === "finished",
        () => run.manager.files(),
      );
      appendFileSync(path, compress(format, content(from, from + 999)));
      await until(
        () => run.lines.length >= from + 999,
        () => run.lines.length,
      );
    }
    await run.stop();
    appendFileSync(path, compress(format, content(3001, 3100)));
    const after = texts(await bench.once(all));
    expect(texts(run.lines)).toEqual(numbers(1, 3000));
    expect(after).toEqual(numbers(3001, 3100));
    expect(await bench.once(all)).toEqual([]);
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("loses nothing where the agent is killed between the members", async () => {
    const path = bench.path(`app.log.${ENDING[format]}`);
    writeFileSync(path, compress(format, content(1, 500)));
    const first = bench.start(all);
    await until(
      () => first.lines.length >= 500,
      () => first.lines.length,
    );
    await until(
      () => first.manager.files()[0]?.phase === "finished",
      () => first.manager.files(),
    );
    await first.kill();
    appendFileSync(path, compress(format, content(501, 600)));
    expect(texts(await bench.once(all))).toEqual(numbers(501, 600));
  });
});

describe.each(formats)("a %s archive that is cut", (format) => {
  it("gives all that can be decompressed, one gap that says where, and later the rest", async () => {
    const path = bench.path(`app.log.${ENDING[format]}`);
    // Two streams: of a block that is not whole some programs give nothing.
    const first = compress(format, content(1, 1000));
    const archive = Buffer.concat([first, compress(format, content(1001, 9000))]);
    const cutAt = first.length + Math.floor((archive.length - first.length) * 0.7);
    writeFileSync(path, archive.subarray(0, cutAt));
    const before = await bench.once(all);
    expect(before.length).toBeGreaterThanOrEqual(1000);
    const [gap, ...others] = bench.eventsNamed("gap");
    expect(others).toEqual([]);
    const end = before.reduce((sum, { text, kind }) => sum + text.length + (kind === "partial" ? 0 : 1), 0);
    expect(gap!.facts).toMatchObject({ file: path, offset: end, archive_byte: cutAt });
    expect(gap!.facts!["reason"]).toContain("it ends too early");

    expect(await bench.once(all)).toEqual([]);
    expect(bench.eventsNamed("gap")).toHaveLength(1);

    appendFileSync(path, archive.subarray(cutAt));
    const after = await bench.once(all);
    expect(bench.eventsNamed("gap")).toHaveLength(1);
    const whole = [...before, ...after].map(({ text, kind }) => (kind === "partial" ? text : `${text}\n`)).join("");
    expect(whole).toBe(content(1, 9000));
  });
});

describe("an archive", () => {
  it("that is written slowly is delivered whole, once, and not called damaged", async () => {
    const archive = gzipSync(content(1, 10_000));
    const path = bench.path("slow.log.gz");
    writeFileSync(path, "");
    const run = bench.start({ ...all, rotateWaitMs: 400 });
    const step = Math.ceil(archive.length / 7);
    for (let at = 0; at < archive.length; at += step) {
      appendFileSync(path, archive.subarray(at, at + step));
      await pause(80);
    }
    await until(
      () => run.lines.length >= 10_000,
      () => run.lines.length,
    );
    await pause(600);
    await run.stop();
    expect(texts(run.lines)).toEqual(numbers(1, 10_000));
    expect(bench.eventsNamed("gap")).toEqual([]);
    expect(bench.eventsNamed("file_unreadable")).toEqual([]);
  });

  it("that was read gets a member in two halves, which is not called damaged between them", async () => {
    const path = bench.path("app.log.gz");
    writeFileSync(path, gzipSync(content(1, 100)));
    const run = bench.start({ ...all, rotateWaitMs: 500 });
    await until(
      () => run.manager.files()[0]?.phase === "finished",
      () => run.manager.files(),
    );
    const member = gzipSync(content(101, 10_000));
    for (const half of [member.subarray(0, 12_000), member.subarray(12_000)]) {
      appendFileSync(path, half);
      await pause(250);
    }
    await until(
      () => run.lines.length >= 10_000,
      () => run.lines.length,
    );
    await run.stop();
    expect(texts(run.lines)).toEqual(numbers(1, 10_000));
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("that stood still half-written is delivered as far as it goes, and then the rest, live", async () => {
    const archive = gzipSync(content(1, 10_000));
    const path = bench.path("slow.log.gz");
    writeFileSync(path, archive.subarray(0, 9000));
    const run = bench.start(all);
    await until(
      () => bench.eventsNamed("gap").length > 0,
      () => bench.events,
    );
    const early = run.lines.length;
    expect(early).toBeGreaterThan(1000);
    expect(run.manager.status().unreadable).toEqual([
      { path, reason: "it ends too early, in the middle of a member (byte 9000 of the archive)" },
    ]);
    appendFileSync(path, archive.subarray(9000));
    await until(
      () => run.lines.at(-1)?.text === "10000",
      () => run.lines.length,
    );
    await until(
      () => run.manager.files()[0]?.phase === "finished",
      () => run.manager.files(),
    );
    expect(run.manager.status().unreadable).toEqual([]);
    await run.stop();
    const whole = run.lines.map(({ text, kind }) => (kind === "partial" ? text : `${text}\n`)).join("");
    expect(whole).toBe(content(1, 10_000));
    expect(bench.eventsNamed("gap")).toHaveLength(1);
  });

  it("that is damaged gives what is before the damage, ends a run with `once`, and is told of by `why`", async () => {
    const archive = gzipSync(content(1, 100_000));
    const damaged = Buffer.from(archive);
    damaged.fill(0xff, 120_000, 124_000);
    const path = bench.path("app.log.gz");
    writeFileSync(path, damaged);
    writeFileSync(bench.path("good.log"), "good\n");
    const run = bench.start(all, { once: true });
    await run.ended;
    bench.positions.commit();
    const got = texts(run.lines.filter(({ text }) => text !== "good"));
    const sound = got.findIndex((text, index) => text !== String(index + 1));
    // What stands before the damage, and beyond: data that is not all wrong decodes to something.
    expect(sound < 0 ? got.length : sound).toBeGreaterThan(50_000);
    expect(texts(run.lines)).toContain("good");
    const [gap, ...others] = bench.eventsNamed("gap");
    expect(others).toEqual([]);
    expect(gap!.facts!["archive_byte"]).toBeGreaterThanOrEqual(119_999);
    expect(run.manager.status().unreadable).toHaveLength(1);
    const { answer, phase } = await run.manager.why(path);
    expect(phase).toBe("finished");
    expect(answer).toContain(`read as far as it can be decompressed, to byte ${gap!.facts!["offset"]} of its content`);
    expect(answer).not.toContain("nothing more is expected");
    // Not touched: it is not read again, nor told again.
    expect(await bench.once(all)).toEqual([]);
    expect(bench.eventsNamed("gap")).toHaveLength(1);
  });

  it("that is none, but text, is called so, and ends a run with `once`", async () => {
    writeFileSync(bench.path("text.gz"), "21\n22\n");
    const run = bench.start(all, { once: true });
    await run.ended;
    expect(run.lines).toEqual([]);
    expect(bench.eventsNamed("gap")[0]!.message).toContain(
      "it is no gzip archive: it does not begin as one, but with text (byte 0 of the archive); nothing of it is read",
    );
    expect(run.manager.status().unreadable).toHaveLength(1);
    // Told once, not at each start.
    expect(await bench.once(all)).toEqual([]);
    expect(bench.eventsNamed("gap")).toHaveLength(1);
    writeFileSync(bench.path("text.gz"), gzipSync("mended\n"));
    expect(texts(await bench.once(all))).toEqual(["mended"]);
    expect(bench.positions.stored.size).toBe(1);
  });

  it("that is none, and grows, is told of once and remembered once; mended, it is read", async () => {
    const path = bench.path("text.gz");
    writeFileSync(path, "1\n");
    const run = bench.start(all);
    for (let count = 0; count < 4; count += 1) {
      await until(
        () => bench.eventsNamed("gap").length > 0 && run.manager.files().every(({ phase }) => phase === "finished"),
        () => run.manager.files(),
      );
      appendFileSync(path, "2\n");
      await pause(200);
    }
    expect(bench.eventsNamed("gap")).toHaveLength(1);
    expect(run.manager.files()).toHaveLength(1);
    writeFileSync(path, gzipSync("mended\n"));
    await until(
      () => run.lines.length > 0,
      () => run.manager.files(),
    );
    await run.stop();
    expect(texts(run.lines)).toEqual(["mended"]);
    expect(run.manager.status().unreadable).toEqual([]);
  });

  it("of no bytes is empty until it grows", async () => {
    const path = bench.path("empty.gz");
    writeFileSync(path, "");
    expect(await bench.once(all)).toEqual([]);
    const run = bench.start(all);
    await pause(300);
    expect((await run.manager.why(path)).answer).toBe("not read yet: it is empty");
    appendFileSync(path, gzipSync("1\n"));
    await until(
      () => run.lines.length > 0,
      () => run.lines,
    );
    await run.stop();
    expect(texts(run.lines)).toEqual(["1"]);
    expect(bench.events.filter(({ name }) => name === "gap" || name === "file_unreadable")).toEqual([]);
  });

  it("is read to its last member, whatever stands behind that, and under an ending in capitals", async () => {
    writeFileSync(bench.path("padded.gz"), Buffer.concat([gzipSync("padded\n"), Buffer.alloc(100_000)]));
    writeFileSync(bench.path("soiled.gz"), Buffer.concat([gzipSync("soiled\n"), Buffer.from("rubbish")]));
    writeFileSync(bench.path("CAPITALS.GZ"), gzipSync("capitals\n"));
    const run = bench.start(all, { once: true });
    await run.ended;
    expect(texts(run.lines).sort()).toEqual(["capitals", "padded", "soiled"]);
    expect(bench.eventsNamed("gap")).toEqual([]);
    expect(run.manager.status().unreadable).toEqual([]);
  });

  it("that is cut beside the file that it is made of does not hold up a run with `once`", async () => {
    writeFileSync(bench.path("app.log.1"), content(1, 5000));
    writeFileSync(bench.path("app.log.1.gz"), gzipSync(content(1, 5000)).subarray(0, 3000));
    writeFileSync(bench.path("app.log"), "new\n");
    expect(texts(await bench.once(all)).sort()).toEqual([...numbers(1, 5000), "new"].sort());
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("holds the unread rest of a rotated file, and is damaged behind some of it: that comes, and then a gap", async () => {
    const log = bench.path("app.log");
    const only = { include: [log] };
    writeFileSync(log, content(1, 100));
    expect(texts(await bench.once(only))).toEqual(numbers(1, 100));
    appendFileSync(log, content(101, 50_000));
    renameSync(log, bench.path("app.log.1"));
    spawnSync("gzip", [bench.path("app.log.1")]);
    const packed = bench.path("app.log.1.gz");
    truncateSync(packed, Math.floor(statSync(packed).size / 2));
    writeFileSync(log, "new\n");
    const lines = await bench.once(only);
    const rest = lines.filter(({ text }) => text !== "new");
    expect(rest.length).toBeGreaterThan(15_000);
    expect(texts(rest.slice(0, -1))).toEqual(numbers(101, 99 + rest.length));
    expect(lines.at(-1)!.text).toBe("new");
    expect(bench.eventsNamed("gap")).toHaveLength(1);
    expect(existsSync(bench.path("app.log.1"))).toBe(false);
  });

  it("that waits for more to be written leaves its place to others meanwhile", async () => {
    const names = ["a", "b", "c", "d", "e"].map((name) => bench.path(`${name}.gz`));
    for (const path of names) writeFileSync(path, gzipSync("1\n"));
    const run = bench.start({ ...all, rotateWaitMs: 1500 });
    await until(
      () => run.manager.files().filter(({ phase }) => phase === "finished").length === names.length,
      () => run.manager.files(),
    );
    const member = gzipSync(content(1, 9000));
    for (const path of names) appendFileSync(path, member.subarray(0, 9000));
    await until(
      () => run.manager.files().every(({ position }) => position > 2),
      () => run.manager.files(),
      1400,
    );
    for (const path of names) appendFileSync(path, member.subarray(9000));
    await until(
      () => run.lines.length >= 9001 * names.length,
      () => run.lines.length,
    );
    await run.stop();
    expect(run.lines).toHaveLength(9001 * names.length);
    expect(bench.eventsNamed("gap")).toEqual([]);
  });

  it("is not deleted by remove_after_ms while some of it cannot be read", async () => {
    const [good, cut] = [bench.path("good.gz"), bench.path("cut.gz")];
    writeFileSync(good, gzipSync(content(1, 9000)));
    writeFileSync(cut, gzipSync(content(1, 9000)).subarray(0, 5000));
    const run = bench.start({ ...all, removeAfterMs: 50 });
    await until(
      () => !existsSync(good) && bench.eventsNamed("gap").length > 0,
      () => bench.events,
    );
    await pause(200);
    expect(existsSync(cut)).toBe(true);
    await run.stop();
  });

  it("that nobody has written for a while is decompressed once, not first to see whether it is whole", async () => {
    const readsOf = async (name: string, ageMs: number) => {
      const path = bench.path(name);
      writeFileSync(path, gzipSync(randomBytes(3_000_000).toString("hex")));
      const written = new Date(Date.now() - ageMs);
      utimesSync(path, written, written);
      const files = new FaultyFileSystem(nodeFileSystem);
      const run = bench.start({ include: [path] }, { fileSystem: files });
      await until(
        () => run.manager.files()[0]?.phase === "finished",
        () => run.manager.files(),
      );
      await run.stop();
      return files.calls("read");
    };
    // Read to the end twice: to see whether it is whole, and then for its content.
    const fresh = await readsOf("fresh.gz", -3_600_000);
    const old = await readsOf("old.gz", 3_600_000);
    expect(old).toBeLessThan(fresh * 0.6);
  });

  it("that was only touched gives nothing again, and is not looked into at each start", async () => {
    const path = bench.path("app.log.gz");
    writeFileSync(path, gzipSync(content(1, 100)));
    expect(await bench.once(all)).toHaveLength(100);
    utimesSync(path, new Date(), new Date());
    expect(await bench.once(all)).toEqual([]);
    const entry = [...bench.positions.stored.values()][0]!;
    expect(entry.archive).toMatchObject({ bytes: statSync(path).size, modifiedMs: statSync(path).mtimeMs });
  });
});
