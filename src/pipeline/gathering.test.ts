import { describe, expect, it } from "vitest";
import { channel } from "../channel/index.ts";
import { Checkpoint, MemoryCheckpointStore } from "../checkpoint/index.ts";
import { Batch, fileOrigin, type Origin } from "../record/index.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { Gathering } from "./gathering.ts";
import { Lane } from "./lane.ts";
import type { Route, Routed } from "./route.ts";

const { signal } = new AbortController();

/** Batches of two bytes ("x" and its newline) in an input, in memory that says who has it. */
async function bench(maxBytes: number) {
  const { sender, receiver } = channel<Routed>({ capacity: 20 });
  const checkpoint = await Checkpoint.load(new MemoryCheckpointStore());
  const routeBy = (way: string): Route => {
    const lane = new Lane({
      source: "in",
      sink: "out",
      way,
      id: `out ${way}`,
      checkpoint,
      keepsRecent: false,
      onDirty: () => {},
    });
    return { component: "out", input: sender, overflow: "block", sendTimeoutMs: 0, lanes: [lane], next: [] };
  };
  const held = new Set<number>();
  const put = (origin: Origin, route: Route, index: number) => {
    const { lines } = linesBatch("in", "any", index * 2, ["x"]);
    held.add(index);
    const release = () => {
      if (!held.delete(index)) throw new Error(`${index} was given back twice`);
    };
    sender.trySend({ batch: Batch.ofLines(origin, lines!, { byteLength: 2, retain() {}, release }), route });
  };
  const gathering = new Gathering(receiver, maxBytes);
  /** Offsets, by twos, of the next batch for the sink. */
  const next = async () => {
    const first = await gathering.first(signal);
    if (first === undefined) return undefined;
    const batch = gathering.withWaiting(first);
    batch.memory.release();
    return batch.records.map(({ offset }) => offset / 2);
  };
  return { gathering, held, put, next, sender, one: routeBy("one"), other: routeBy("other") };
}

const a = fileOrigin("in", "a", 0, "/a");
const b = fileOrigin("in", "b", 0, "/b");

describe("what waits for a sink", () => {
  it("goes together as long as it is of one origin and came by one way, and in its order", async () => {
    const { put, next, sender, one, other, held, gathering } = await bench(1000);
    for (const index of [0, 1, 2]) put(a, one, index);
    put(a, other, 3);
    for (const index of [4, 5]) put(b, other, index);
    put(a, one, 6);
    expect(await next()).toEqual([0, 1, 2]);
    // Out of the input already, and still waiting.
    expect([gathering.isEmpty, [...held]]).toEqual([false, [3, 4, 5, 6]]);
    expect(await next()).toEqual([3]);
    expect(await next()).toEqual([4, 5]);
    expect(await next()).toEqual([6]);
    sender.close();
    expect(await next()).toBeUndefined();
    expect([gathering.isEmpty, held.size]).toEqual([true, 0]);
  });

  it.each([
    [0, [[0], [1], [2]]],
    [2, [[0], [1], [2]]],
    [5, [[0, 1], [2]]],
  ])("is of %d bytes together at most, but for a single batch", async (maxBytes, expected) => {
    const { put, next, one } = await bench(maxBytes);
    for (const index of [0, 1, 2]) put(a, one, index);
    for (const batch of expected) expect(await next()).toEqual(batch);
  });

  it("leaves out what has ended before, and gives its memory back", async () => {
    const { put, next, one, held } = await bench(1000);
    const [lane] = one.lanes;
    for (const index of [0, 2]) lane!.end(a, [{ start: index * 2, end: index * 2 + 2 }]);
    for (const index of [0, 1, 2, 3]) put(a, one, index);
    expect(await next()).toEqual([1, 3]);
    expect(held.size).toBe(0);
  });

  it("is given back when the sink is abandoned", async () => {
    const { put, next, one, held, gathering } = await bench(1000);
    put(a, one, 0);
    put(b, one, 1);
    expect(await next()).toEqual([0]);
    expect([...held]).toEqual([1]);
    expect(await gathering.first(AbortSignal.abort())).toBeUndefined();
    gathering.abandon();
    expect([held.size, gathering.isEmpty]).toEqual([0, true]);
  });
});
