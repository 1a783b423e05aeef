import { describe, expect, it } from "vitest";
import { type Change, Checkpoint, MemoryCheckpointStore } from "../checkpoint/index.ts";
import { Batch, Messages } from "../record/index.ts";
import { fileOrigin, type Origin } from "../record/origin.ts";
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

describe("what has ended of a file", () => {
  it("is kept in memory only until it is committed, and known from there on", async () => {
    const store = new MemoryCheckpointStore();
    const checkpoint = await Checkpoint.load(store);
    const lane = new Lane({
      source: "in",
      sink: "out",
      way: "",
      id: "out",
      checkpoint,
      keepsRecent: false,
      onDirty: () => {},
    });
    const end = (file: string, start: number) => lane.end(fileOrigin("in", file, 0, "/f"), [{ start, end: start + 5 }]);
    const barrier = (): Change[] =>
      [...lane.takeDirty()].map((file) => ({
        table: "position",
        sink: "out",
        source: "in",
        file,
        value: lane.set(file).snapshot(),
      }));
    const commit = async (changes: readonly Change[]) => {
      await store.commit(changes);
      checkpoint.applied(changes);
      lane.committed();
    };
    for (const file of ["a", "b", "c"]) end(file, 0);
    const sets = new Map(["a", "b", "c"].map((file) => [file, lane.set(file)]));
    const changes = barrier();
    // What ends meanwhile is not in it; nor is what turns out to hold no record.
    end("b", 5);
    lane.skip("c", { start: 10, end: 20 });
    await commit(changes);
    expect(lane.set("a")).not.toBe(sets.get("a"));
    expect(lane.set("a").snapshot()).toEqual({ prefix: 5, ranges: [] });
    expect(lane.set("b")).toBe(sets.get("b"));
    expect(lane.set("b").snapshot()).toEqual({ prefix: 10, ranges: [] });
    expect(lane.set("c").snapshot()).toEqual({ prefix: 5, ranges: [{ start: 10, end: 20 }] });
    await commit(barrier());
    expect(lane.isDirty).toBe(false);
    // Nor does a look keep it.
    expect(lane.hasRoom("b")).toBe(true);
    expect(lane.look("b")).not.toBe(lane.look("b"));
    for (const file of ["b", "c"]) expect(lane.set(file)).not.toBe(sets.get(file));
    expect(lane.set("c").snapshot()).toEqual({ prefix: 5, ranges: [{ start: 10, end: 20 }] });
  });
});
