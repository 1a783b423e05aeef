import { randomBytes } from "node:crypto";
import { appendFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { ArchiveContent } from "./archive.ts";
import { FileRegistry } from "./file-registry.ts";
import { FileState } from "./file-state.ts";
import { PathPatterns } from "./glob.ts";
import { MemoryPositions, TailBench } from "./tail-bench.test-kit.ts";
import { Tombstones } from "./tombstones.ts";
import { Watcher } from "./watcher.ts";

let bench: TailBench;
beforeEach(() => {
  bench = new TailBench();
});
afterEach(() => bench.close());

const entry = (over: Partial<FileEntry> = {}): FileEntry => ({
  generation: 0,
  fileSystem: "fs",
  inode: "1",
  birthNs: "0",
  fingerprint: { length: 0, hash: "" },
  guard: { length: 0, hash: "" },
  guardEnd: 0,
  names: ["/log/app.log"],
  lastSize: 0,
  lastSeenMs: 0,
  boundaries: [],
  ...over,
});

describe("TailerManager › bounds", () => {
  it("has at most four archives open, each in turn, and reads all of them", async () => {
    const names = Array.from({ length: 12 }, (_, index) => `archive-${String.fromCharCode(97 + index)}.log.gz`);
    for (const name of names) writeFileSync(bench.path(name), gzipSync(`${name}\n`.repeat(5000)));
    let open = 0;
    let most = 0;
    const fileSystem: FileSystem = {
      ...nodeFileSystem,
      async open(path, mode, permissions) {
        const handle = await nodeFileSystem.open(path, mode, permissions);
        if (!path.endsWith(".gz")) return handle;
        open += 1;
        most = Math.max(most, open);
        const close = handle.close.bind(handle);
        handle.close = async () => {
          open -= 1;
          await close();
        };
        return handle;
      },
    };
    const run = bench.start(
      { include: [`${bench.folder}/*.gz`], maxBatchBytes: 4096 },
      { once: true, fileSystem, capacity: 1, budgetBytes: 64 * 1024 },
    );
    await run.ended;
    expect(run.lines).toHaveLength(12 * 5000);
    // One more is open while discovery looks whether it is whole.
    expect(most).toBeGreaterThan(2);
    expect(most).toBeLessThanOrEqual(5);
  });
});

describe("FileState", () => {
  it("remembers the first name and the newest eleven of a file that is renamed for ever", () => {
    const state = new FileState("in", "key", entry(), { offset: 0, furthest: 0 });
    for (let day = 0; day < 100; day += 1) state.addName(`/log/app.log.${day}` as BytePath);
    expect(state.names).toHaveLength(12);
    expect([state.names[0], state.names.at(-1)]).toEqual(["/log/app.log", "/log/app.log.99"]);
  });

  it("keeps at most 128 guards of what no commit covers", () => {
    const { guards } = new FileState("in", "key", entry(), { offset: 0, furthest: 0 });
    for (let end = 1; end <= 10_000; end += 1) guards.note({ end, mark: { length: 1, hash: String(end) } });
    const kept = new Set<number>();
    for (let size = 1; size <= 10_000; size += 1) kept.add(guards.within(size)?.end ?? 0);
    kept.delete(0);
    expect(kept.size).toBeLessThanOrEqual(128);
    expect(kept.size).toBeGreaterThanOrEqual(64);
    expect(kept).toContain(10_000);
  });
});

describe("Tombstones", () => {
  it("are removed, with their positions, when they are older than tombstone_days and have no name any more", async () => {
    const fileRegistry = new FileRegistry();
    const clock = new ManualClock();
    const positions = new MemoryPositions();
    const saved: string[][] = [];
    positions.save = async (entries) => void saved.push([...entries.keys()]);
    const tombstones = new Tombstones({ fileRegistry, positions, clock, keepMs: 14 * 86_400_000, seenAtMs: () => 0 });
    for (let day = 0; day < 30; day += 1) {
      for (let file = 0; file < 5; file += 1) {
        const key = `${day}/${file}`;
        fileRegistry.add(
          new FileState("in", key, entry({ tombstoneSinceMs: clock.now(), names: [`/log/${key}`] }), {
            offset: 0,
            furthest: 0,
          }),
        );
      }
      await clock.advance(86_400_000);
      await tombstones.prune(() => false);
      expect(fileRegistry.size).toBeLessThanOrEqual(14 * 5);
    }
    expect(saved.flat()).toHaveLength(30 * 5 - fileRegistry.size);
  });
});

describe("Watcher", () => {
  it("takes a folder as a whole where more than a thousand names are notified between two looks", async () => {
    const names = Array.from({ length: 1500 }, (_, index) => `${index}.log` as BytePath);
    for (const name of names) writeFileSync(bench.path(name), "");
    let notify = (_name: BytePath) => {};
    let looks = 0;
    const fileSystem: FileSystem = {
      ...nodeFileSystem,
      statSync(path) {
        looks += 1;
        return nodeFileSystem.statSync(path);
      },
      watchFolder(_path, onChange) {
        notify = (name) => onChange(name, "content");
        return { close() {} };
      },
    };
    const clock = new ManualClock();
    const watcher = new Watcher({
      source: "app",
      patterns: new PathPatterns([`${bench.folder}/*.log`], []),
      fileSystem,
      clock,
      random: new SeededRandom(1),
      events: { emit() {} },
      log: silentLogger,
      scanIntervalMs: 1000,
      idleScanIntervalMs: 10_000,
      maxFiles: 100_000,
      isKnown: () => false,
      onHint: () => {},
    });
    expect(await watcher.look()).toHaveLength(1500);
    looks = 0;
    for (const name of names.slice(0, 900)) notify(name);
    await watcher.look();
    expect(looks).toBeGreaterThanOrEqual(900);
    looks = 0;
    for (const name of names) notify(name);
    await watcher.look();
    expect(looks).toBeLessThan(100);
    // What changed meanwhile is found by the next scan.
    appendFileSync(bench.path("7.log"), "x\n");
    await clock.advance(1000);
    expect((await watcher.look()).map(({ path }) => path)).toEqual([bench.path("7.log")]);
    watcher.close();
  });
});

describe("ArchiveContent", () => {
  it("reads no further ahead than the decompressor's pipes, and forgets what was read", async () => {
    // Not compressible, so that the archive is as long.
    const content = randomBytes(24 * 1024 * 1024);
    writeFileSync(bench.path("a.gz"), gzipSync(content, { level: 1 }));
    const handle = await nodeFileSystem.open(bench.path("a.gz") as BytePath, "read");
    let read = 0;
    const counted = Object.assign(Object.create(handle) as typeof handle, {
      read: async (...given: Parameters<typeof handle.read>) => {
        const count = await handle.read(...given);
        read += count;
        return count;
      },
      close: () => handle.close(),
      stat: () => handle.stat(),
    });
    const archive = new ArchiveContent(counted, "gzip");
    const into = Buffer.alloc(1024 * 1024);
    for (let at = 0; at < 8 * into.length; at += into.length) {
      expect(await archive.read(into, 0, into.length, at)).toBe(into.length);
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      expect(read).toBeLessThan(at + into.length + 1024 * 1024);
      expect(archive.keptBytes).toBeLessThanOrEqual(into.length + 128 * 1024);
    }
    await archive.close();
  });
});
