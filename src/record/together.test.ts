import { describe, expect, it } from "vitest";
import { linesBatch } from "../testing/memory-stages.ts";
import { Batch, type Memory } from "./batch.ts";
import { PackedEvents } from "./packed-events.ts";

/** Batches "0", "1" ... of one origin, one behind the other, each in memory that counts what is done with it. */
function batches(count: number) {
  const { origin } = linesBatch("in", "a", 0, ["x"]);
  const done: string[] = [];
  const made = Array.from({ length: count }, (_, index) => {
    const memory: Memory = {
      byteLength: 2,
      retain: () => void done.push(`retain ${index}`),
      release: () => void done.push(`release ${index}`),
      keep: () => void done.push(`keep ${index}`),
    };
    return Batch.ofLines(origin, linesBatch("in", "a", index * 2, [`${index}`]).lines!, memory);
  });
  return { made: made as [Batch, ...Batch[]], done };
}

describe("batches together", () => {
  it("have the records of all, in their order, and settle what all would", () => {
    const { made } = batches(3);
    const batch = Batch.together(made);
    expect([batch.count, batch.byteLength]).toEqual([3, 6]);
    expect(batch.records.map(({ id }) => id)).toEqual(made.flatMap(({ records }) => records.map(({ id }) => id)));
    expect(batch.ranges).toEqual(made.flatMap(({ ranges }) => ranges));
    const [left, right] = batch.halves()!;
    expect([left.ranges, right.ranges]).toEqual([
      [{ start: 0, end: 2 }],
      made.slice(1).flatMap(({ ranges }) => ranges),
    ]);
  });

  it("live in the memory of all", () => {
    const { made, done } = batches(2);
    const { memory } = Batch.together(made);
    expect(memory.byteLength).toBe(4);
    memory.retain();
    memory.keep!();
    memory.release();
    expect(done).toEqual(["retain 0", "retain 1", "keep 0", "keep 1", "release 0", "release 1"]);
  });

  it("are that batch itself where there is one", () => {
    const { made } = batches(1);
    expect(Batch.together(made)).toBe(made[0]);
  });

  it("have the JSON of all where each has it, and make no event of it for that", () => {
    const { made } = batches(2);
    const packed = made.map((batch, index) => {
      const json = Buffer.from(`{"n":${index}}\n`);
      return batch.withPacked(PackedEvents.of(batch.records, json), json, batch.memory);
    }) as [Batch, ...Batch[]];
    const batch = Batch.together(packed);
    expect([batch.count, String(batch.json)]).toEqual([2, '{"n":0}\n{"n":1}\n']);
    expect(batch.records.map(({ event }) => event)).toEqual([{ n: 0 }, { n: 1 }]);
    expect(Batch.together([packed[0], made[1]!]).json).toBeUndefined();
  });
});
