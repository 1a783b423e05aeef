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
});
