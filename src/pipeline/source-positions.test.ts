import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { type Change, Checkpoint, GroupCommit, MemoryCheckpointStore } from "../checkpoint/index.ts";
import { fileOrigin } from "../record/origin.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { Lane } from "./lane.ts";
import { PipelineSourcePositions } from "./source-positions.ts";

async function bench(sinks = ["out"], store = new MemoryCheckpointStore()) {
  const checkpoint = await Checkpoint.load(store);
  const positions = new PipelineSourcePositions("in", checkpoint, new GroupCommit(store, { clock: new ManualClock() }));
  const lanes = sinks.map(
    (sink) =>
      new Lane({ source: "in", sink, way: "", id: sink, checkpoint, keepsRecent: false, onDirty: positions.onSettled }),
  );
  positions.feeds(lanes);
  return { positions, lane: lanes[0]! };
}

const origin = fileOrigin("in", "file", 0, "/file");

describe("PipelineSourcePositions", () => {
  it.each([
    [["ahead", "behind"], 10],
    [["behind", "ahead"], 10],
    [["ahead", "new"], 0],
    [["ahead"], 30],
  ])("starts where the last of its sinks is: %j", async (sinks, start) => {
    const store = new MemoryCheckpointStore();
    const position = (sink: string, prefix: number): Change => ({
      table: "position",
      sink,
      source: "in",
      file: "file",
      value: { prefix, ranges: [] },
    });
    await store.commit([position("ahead", 30), position("behind", 10)]);
    const { positions } = await bench(sinks, store);
    expect(positions.startOf("file")).toBe(start);
    expect(positions.isCommitted("file", { start: 5, end: 8 })).toBe(start >= 8);
    expect(positions.isCommitted("file", { start: 10, end: 20 })).toBe(start >= 20);
  });

  it("pauses a file whose set is full of ranges, until its first gap closes", async () => {
    const { positions, lane } = await bench();
    for (let range = 1; range <= 256; range += 1) {
      expect(positions.hasRoom("file")).toBe(true);
      lane.end(origin, [{ start: range * 10, end: range * 10 + 5 }]);
    }
    expect(positions.hasRoom("file")).toBe(false);
    expect(positions.hasRoom("another")).toBe(true);
    const { signal } = new AbortController();
    let isOpen = false;
    const room = positions.roomFor("file", { signal }).then(() => {
      isOpen = true;
    });
    for (let other = 0; other < 20; other += 1) {
      lane.end(fileOrigin("in", "another", 0, "/another"), [{ start: other, end: other + 1 }]);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(isOpen).toBe(false);
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    lane.end(origin, [{ start: 0, end: 10 }]);
    await room;
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });

  describe("describes the files of a commit", () => {
    const mark = (end: number) => ({ length: Math.min(256, end), hash: `of ${end}` });
    const entryTo = (guardEnd: number) => ({
      generation: 0,
      fileSystem: "fs",
      inode: "1",
      birthNs: "0",
      fingerprint: mark(100),
      guard: mark(guardEnd),
      guardEnd,
      names: ["/file"],
      lastSize: 100,
      lastSeenMs: 0,
      boundaries: [],
    });
    const position = (sink: string, prefix: number, end = prefix): Change => ({
      table: "position",
      sink,
      source: "in",
      file: "file",
      value: { prefix, ranges: end > prefix ? [{ start: end - 1, end }] : [] },
    });

    async function committing(...changes: readonly Change[]) {
      const store = new MemoryCheckpointStore();
      await store.commit([position("ahead", 40)]);
      const checkpoint = await Checkpoint.load(store);
      const groupCommit = new GroupCommit(store, { clock: new ManualClock() });
      const positions = new PipelineSourcePositions("in", checkpoint, groupCommit);
      const asked: number[] = [];
      const commits: (readonly Change[])[] = [];
      const commit = store.commit.bind(store);
      store.commit = async (all) => {
        commits.push(all);
        await commit(all);
      };
      const describeTo = (guardEnd: (furthest: number) => number, readEnd = 1000) =>
        positions.describeBy((_, furthest) => {
          asked.push(furthest);
          return { entry: entryTo(guardEnd(furthest)), readEnd };
        });
      return { asked, commits, describeTo, submit: () => groupCommit.submit(changes) };
    }

    it("in the same transaction, with a guard for the furthest end that any sink has in it", async () => {
      const bench = await committing(position("slow", 10), position("ranges", 20, 70), position("middle", 30));
      bench.describeTo((furthest) => furthest);
      await bench.submit();
      expect(bench.asked).toEqual([70]);
      expect(bench.commits).toHaveLength(1);
      const files = bench.commits[0]!.filter((change) => change.table === "file");
      expect(files.map(({ value }) => value!.guardEnd)).toEqual([70]);
    });

    it("for the furthest that is stored already where this commit moves a slower sink", async () => {
      const bench = await committing(position("slow", 10));
      bench.describeTo((furthest) => furthest);
      await bench.submit();
      expect(bench.asked).toEqual([40]);
    });

    it("and refuses one whose guard ends before what was read and is committed", async () => {
      const bench = await committing(position("slow", 50));
      bench.describeTo((furthest) => furthest - 1);
      await expect(bench.submit()).rejects.toThrow(/guard/);
      expect(bench.commits).toEqual([]);
    });

    it("but takes what a target knows of and this process has not read", async () => {
      const bench = await committing(position("target", 90));
      bench.describeTo(() => 60, 60);
      await bench.submit();
      expect(bench.commits).toHaveLength(1);
    });
  });
});
