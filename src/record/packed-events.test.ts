import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeBatch } from "../codec/encode.ts";
import { MadeEvents } from "../pipeline/made-events.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import type { Batch, EventFields } from "./index.ts";

const json = (batch: Batch) => Buffer.concat(encodeBatch(batch, "json")).toString();

/** Events of the same number of lines, some records split in two. */
const batchOf = (events: readonly EventFields[]): Batch => {
  const whole = linesBatch(
    "in",
    "a",
    100,
    events.map((_, index) => `line ${index}`),
  );
  return whole
    .withMemory(new MadeEvents().charge(whole, events.length))
    .withRecords(
      whole.records.flatMap((record, index) =>
        index % 3 === 0
          ? [record.with(events[index]!, 0), record.with(events[index]!, 1)]
          : [record.with(events[index]!)],
      ),
    );
};

describe("a packed batch", () => {
  it("says the same as the one it was made of, however often it is packed", () => {
    const event = fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue());
    fc.assert(
      fc.property(fc.array(event, { minLength: 1, maxLength: 8 }), (events) => {
        const batch = batchOf(events);
        const written = json(batch);
        const packed = batch.packed()!;
        expect(packed.count).toBe(batch.count);
        expect(packed.ranges).toEqual(batch.ranges);
        const again = packed.packed()!;
        for (const one of [packed, again]) {
          expect(one.records.map(({ id, range }) => [id, range])).toEqual(
            batch.records.map(({ id, range }) => [id, range]),
          );
          expect(one.records.map((record) => record.bytes.toString())).toEqual(
            batch.records.map((record) => record.bytes.toString()),
          );
          // Encoded anew, and not what the encoder left behind.
          expect(json(one.withRecords(one.records))).toBe(written);
          expect(json(one)).toBe(written);
        }
      }),
    );
  });

  it("is not made of untouched lines, nor before anything was encoded", () => {
    const lines = linesBatch("in", "a", 0, ["x"]);
    json(lines);
    expect(lines.packed()).toBeUndefined();
    expect(batchOf([{ a: 1 }]).packed()).toBeUndefined();
    const mixed = batchOf([{ a: 1 }]);
    json(mixed.withRecords([...mixed.records, ...lines.records]));
    expect(mixed.packed()).toBeUndefined();
  });
});

describe("parts", () => {
  it("bring the records of the whole, in order, and settle what the whole would", () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ maxLength: 9 }), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 40 }),
        (texts, maxRecords, maxBytes) => {
          const whole = linesBatch(
            "in",
            "a",
            1000,
            texts.map((text) => text.replaceAll("\n", "")),
          );
          const parts = whole.parts(maxRecords, maxBytes);
          const of = (batch: Batch) =>
            batch.records.map((record) => [record.id, record.bytes.toString(), record.range, record.event]);
          expect(parts.flatMap(of)).toEqual(of(whole));
          expect(parts.every((part) => part.count <= maxRecords && part.count > 0)).toBe(true);
          expect(parts.every((part) => part.count === 1 || part.byteLength <= maxBytes)).toBe(true);
          let at = whole.ranges[0]!.start;
          for (const { ranges } of parts) {
            expect(ranges).toHaveLength(1);
            expect(ranges[0]!.start).toBe(at);
            at = ranges[0]!.end;
          }
          expect(at).toBe(whole.ranges[0]!.end);
          expect(Buffer.concat(parts.flatMap((part) => encodeBatch(part, "json"))).toString()).toBe(json(whole));
        },
      ),
    );
  });
});
