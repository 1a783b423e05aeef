import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Batch, DataRecord, Range } from "../record/index.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { BatchEnds } from "./batch-ends.ts";

/** A batch of `texts`, of which transforms have left out those at `filtered` and split those at `split` in two. */
function batchOf(texts: readonly string[], filtered: readonly boolean[], split: readonly boolean[]): Batch {
  const batch = linesBatch("in", "a", 100, texts);
  const records = batch.records.flatMap((record, at) => {
    if (filtered[at]) return [];
    return split[at] ? [record.with({ n: 0 }), record.with({ n: 1 }, 1)] : [record];
  });
  return batch.withRecords(records);
}

const bytesOf = (ranges: readonly Range[]) => ranges.flatMap(({ start, end }) => span(start, end));
const span = (start: number, end: number) => Array.from({ length: end - start }, (_, index) => start + index);

const someBatch = fc
  .array(fc.record({ bytes: fc.nat(3), isFiltered: fc.boolean(), isSplit: fc.boolean() }), {
    minLength: 1,
    maxLength: 8,
  })
  .filter((lines) => lines.some(({ isFiltered }) => !isFiltered))
  .map((lines) =>
    batchOf(
      lines.map(({ bytes }) => "x".repeat(bytes)),
      lines.map(({ isFiltered }) => isFiltered),
      lines.map(({ isSplit }) => isSplit),
    ),
  );

describe("BatchEnds", () => {
  it("ends every byte of the batch's ranges once, in whatever order its records end, and none before its records have", () => {
    const property = fc.property(someBatch, fc.infiniteStream(fc.nat()), (batch, dice) => {
      const ends = new BatchEnds(batch);
      const open = [...batch.records];
      const ended: number[] = [];
      while (open.length > 0) {
        const rest = ends.rest()!;
        expect(rest.records).toEqual(batch.records.filter((record) => open.includes(record)));
        expect([...ended, ...bytesOf(rest.ranges)].sort((a, b) => a - b)).toEqual(bytesOf(batch.ranges));
        const [record] = open.splice(dice.next().value % open.length, 1) as [DataRecord];
        const part = ends.end(record);
        expect(part.records).toEqual([record]);
        const bytes = bytesOf(part.ranges);
        for (const other of open) {
          const overlap = bytes.filter((byte) => byte >= other.range.start && byte < other.range.end);
          expect(overlap).toEqual([]);
        }
        ended.push(...bytes);
      }
      expect(ends.rest()).toBeUndefined();
      expect(ended.sort((a, b) => a - b)).toEqual(bytesOf(batch.ranges));
    });
    fc.assert(property, { numRuns: 300 });
  });

  it("is the batch itself while nothing has ended", () => {
    const batch = batchOf(["a", "b"], [], []);
    expect(new BatchEnds(batch).rest()).toBe(batch);
  });

  it("refuses to end a record twice, or one of another batch", () => {
    const batch = batchOf(["a", "b"], [], []);
    const ends = new BatchEnds(batch);
    ends.end(batch.records[0]!);
    expect(() => ends.end(batch.records[0]!)).toThrow("has ended before");
    expect(() => ends.end(batchOf(["a"], [], []).records[0]!)).toThrow("of another batch");
  });

  it("keeps gaps between several ranges as they are", () => {
    const batch = linesBatch("in", "a", 0, ["a", "b", "c"]);
    const gappy = batch.part(batch.records, [
      { start: 0, end: 1 },
      { start: 3, end: 6 },
    ]);
    const ends = new BatchEnds(gappy);
    expect(ends.end(gappy.records[1]!).ranges).toEqual([{ start: 3, end: 4 }]);
    expect(ends.rest()!.ranges).toEqual([
      { start: 0, end: 1 },
      { start: 4, end: 6 },
    ]);
  });
});
