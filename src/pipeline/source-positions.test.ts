import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { Checkpoint, GroupCommit, MemoryCheckpointStore } from "../checkpoint/index.ts";
import { fileOrigin } from "../record/origin.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { Lane } from "./lane.ts";
import { PipelineSourcePositions } from "./source-positions.ts";

async function bench() {
  const store = new MemoryCheckpointStore();
  const checkpoint = await Checkpoint.load(store);
  const positions = new PipelineSourcePositions("in", checkpoint, new GroupCommit(store, { clock: new ManualClock() }));
  const lane = new Lane({
    source: "in",
    sink: "out",
    way: "",
    id: "out",
    checkpoint,
    keepsRecent: false,
    onDirty: positions.onSettled,
  });
  positions.feeds([lane]);
  return { positions, lane };
}

const origin = fileOrigin("in", "file", 0, "/file");

describe("PipelineSourcePositions", () => {
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
