import { describe, expect, it } from "vitest";
import { linesBatch } from "../../testing/memory-stages.ts";
import { HeldRecords } from "./held-records.ts";

const lane = { source: "app", file: "a", way: "" };
const [first, second, third] = linesBatch("app", "a", 0, ["one", "two", "three"]).records;

describe("HeldRecords", () => {
  it("has what the stream holds, also behind a hole, and nothing of the hole", () => {
    const held = new HeldRecords();
    held.lane(lane).add({ range: first!.range, split: 0, isLast: true });
    held.lane(lane).add({ range: third!.range, split: 0, isLast: true });
    expect([first, second, third].map((record) => held.lane(lane).has(record!))).toEqual([true, false, true]);
    expect(held.positions()).toEqual([
      { ...lane, value: { prefix: first!.range.end, ranges: [{ start: third!.range.start, end: third!.range.end }] } },
    ]);
  });

  it("has the parts of a split record that are there, and no position of it before the last", () => {
    const held = new HeldRecords();
    held.lane(lane).add({ range: first!.range, split: 0, isLast: false });
    held.lane(lane).add({ range: first!.range, split: 1, isLast: false });
    const parts = [0, 1, 2].map((split) => first!.with({}, split));
    expect(parts.map((part) => held.lane(lane).has(part))).toEqual([true, true, false]);
    expect(held.positions()[0]!.value).toEqual({ prefix: 0, ranges: [] });
    held.lane(lane).add({ range: first!.range, split: 2, isLast: true });
    expect(parts.map((part) => held.lane(lane).has(part))).toEqual([true, true, true]);
  });

  it("forgets a lane once the pipeline is behind all that it held, and not before", () => {
    const held = new HeldRecords();
    held.lane(lane).add({ range: second!.range, split: 0, isLast: true });
    held.forgetBelow(lane, first!.range.end);
    expect(held.lane(lane).has(second!)).toBe(true);
    held.forgetBelow(lane, second!.range.end);
    expect(held.positions()).toEqual([]);
  });
});
