import { describe, expect, it } from "vitest";
import { Checkpoint, MemoryCheckpointStore } from "../checkpoint/index.ts";
import { Batch, Messages } from "../record/index.ts";
import type { Origin } from "../record/origin.ts";
import { Lane } from "./lane.ts";
import { Hold, WrittenBatches } from "./written-batches.ts";

const origin = (kind: Origin["kind"]): Origin => ({
  source: "in",
  key: "k",
  kind,
  recordIdPrefix: "p",
  file: undefined,
});

async function bench(keepsRecent: boolean) {
  let wakes = 0;
  let uncommitted = 0;
  const checkpoint = await Checkpoint.load(new MemoryCheckpointStore());
  const onDirty = () => {
    wakes += 1;
  };
  const lane = new Lane({ source: "in", sink: "out", way: "", id: "out", checkpoint, keepsRecent, onDirty });
  const written = new WrittenBatches((bytes) => {
    uncommitted += bytes;
  });
  const deliver = (kind: Origin["kind"]) => {
    const messages = new Messages([{ number: 0, body: Buffer.from("x"), fields: {} }], { readAtMs: 0, host: "h" });
    const batch = Batch.ofMessages(origin(kind), messages, { start: 0, end: 1 }, 10);
    lane.end(batch.origin, batch.ranges);
    written.add(batch, lane, keepsRecent ? new Hold(batch) : undefined);
    return { wakes, uncommitted, isDirty: lane.isDirty || written.isDirty };
  };
  return { deliver };
}

describe("what has ended", () => {
  it("wakes nobody to commit it where it cannot be read again and the sink has no marks", async () => {
    const { deliver } = await bench(false);
    expect(deliver("fleeting")).toEqual({ wakes: 0, uncommitted: 0, isDirty: false });
  });

  it("is to be committed where a position, an acknowledgement or a mark depends on it", async () => {
    const dirty = { wakes: 1, uncommitted: 10, isDirty: true };
    for (const kind of ["replayable", "acknowledged"] as const) {
      const { deliver } = await bench(false);
      expect(deliver(kind)).toEqual(dirty);
    }
    const { deliver } = await bench(true);
    expect(deliver("fleeting")).toEqual(dirty);
  });
});
