import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Column, declaredSchema, SchemaGuess, valueFor } from "./columns.ts";
import type { JournalEvent } from "./journal.ts";
import { RowGroup, SchemaMisfit } from "./row-group.ts";
import { TextSlab } from "./text-slab.ts";
import { parseTimestamp } from "./timestamp.ts";

function guessed(...events: JournalEvent[]) {
  const guess = new SchemaGuess();
  guess.observe(events);
  return guess.schema();
}

describe("parseTimestamp", () => {
  it.each([
    ["1970-01-01T00:00:00Z", 0n],
    ["1970-01-01T00:00:00.000000001Z", 1n],
    ["1970-01-01t01:30:00.5+01:30", 500_000_000n],
    ["1969-12-31T23:59:59.999999999Z", -1n],
    ["1969-12-31 22:59:59-01:00", -1_000_000_000n],
    ["2026-02-29T00:00:00Z", undefined],
    ["2026-06-31T00:00:00Z", undefined],
    ["2026-06-30T24:00:00Z", undefined],
    ["2026-06-30T23:59:60Z", undefined],
    ["2026-06-30T23:59:59.1234567890Z", undefined],
    ["2026-06-30T23:59:59", undefined],
    ["1600-01-01T00:00:00Z", undefined],
    ["9999-01-01T00:00:00Z", undefined],
    ["", undefined],
  ])("takes %s for %s", (text, ns) => {
    expect(parseTimestamp(text)).toBe(ns);
  });

  it("gives back every time that it was made of", () => {
    const times = fc.bigInt({ min: -9_214_560_000_000_000_000n, max: 9_214_560_000_000_000_000n });
    fc.assert(
      fc.property(times, (ns) => {
        const seconds = (ns - (((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n)) / 1_000_000_000n;
        const text = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
        const fraction = String(ns - seconds * 1_000_000_000n).padStart(9, "0");
        expect(parseTimestamp(`${text}.${fraction}Z`)).toBe(ns);
      }),
    );
  });
});

describe("SchemaGuess", () => {
  it("finds a schema that every event fits, whatever it was shown", () => {
    const event = fc.dictionary(
      fc.constantFrom("a", "b", "timestamp", "slot_start", "event", "__proto__"),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 8 }), (events) => {
        const group = new RowGroup(guessed(...(events as JournalEvent[])));
        for (const each of events) group.add(each as JournalEvent);
        expect(group.rows).toBe(events.length);
      }),
    );
  });

  it("knows the columns of time slots, also those that are null, and puts others behind them", () => {
    const slot = {
      timestamp: "2026-01-01T00:00:00Z",
      slot_start: "2026-01-01T00:00:00Z",
      slot_ns: 1,
      cpu_ns: 1,
      lost_events: 0,
      cycles: null,
    };
    const { columns } = guessed(slot);
    expect(columns).toHaveLength(20);
    expect(columns.find(({ name }) => name === "cycles")?.type).toBe("int64");
    expect(columns.at(-1)).toMatchObject({ name: "timestamp", type: "timestamp" });
    expect(guessed(slot, { a: 1 }).columns.map(({ name }) => name)).toEqual([...Object.keys(slot), "a"]);
    expect(guessed({ ...slot, cpu_ns: "none" }).columns.find(({ name }) => name === "cpu_ns")?.type).toBe("string");
  });
});

describe("RowGroup", () => {
  it("refuses what a guessed schema has no place for, and keeps it in event where one was written down", () => {
    const group = new RowGroup(guessed({ a: 1 }));
    expect(() => group.add({ a: "text" })).toThrow(SchemaMisfit);
    expect(() => group.add({ b: 1 })).toThrow(SchemaMisfit);
    const declared = new RowGroup(declaredSchema({ a: "int64" }));
    declared.add({ a: "text", b: 1 });
    declared.add({ a: 1 });
    declared.level();
    expect(declared.columns.map((column) => column.values())).toEqual([
      [null, 1],
      ['{"a":"text","b":1}', null],
    ]);
  });

  it("gives back every text, whether texts repeat or not", () => {
    const texts = fc.array(fc.oneof(fc.constantFrom("x", "y"), fc.string({ unit: "grapheme" }), fc.constant(null)), {
      maxLength: 300,
      minLength: 100,
    });
    fc.assert(
      fc.property(texts, (values) => {
        const group = new RowGroup(declaredSchema({ t: "string" }));
        for (const t of values) group.add({ t });
        group.level();
        const found = group.columns[0]!.values().map((value) =>
          value instanceof Uint8Array ? Buffer.from(value).toString() : value,
        );
        expect(found).toEqual(values);
      }),
      { numRuns: 20 },
    );
  });

  it("gives back what it held when it went over to bytes", () => {
    const group = new RowGroup(declaredSchema({ t: "string" }));
    const texts = Array.from({ length: 17_000 }, (_, row) => (row % 100 === 0 ? null : `text ${row} ü`));
    for (const t of texts) group.add({ t });
    group.level();
    expect(group.columns[0]!.isPlain).toBe(true);
    expect(group.columns[0]!.values().map((value) => value && Buffer.from(value as Uint8Array).toString())).toEqual(
      texts,
    );
  });

  it("goes over to bytes where hardly a text repeats, and not before", () => {
    const unique = new RowGroup(declaredSchema({ t: "string" }));
    const repeated = new RowGroup(declaredSchema({ t: "string" }));
    for (let row = 0; row < 20_000; row += 1) {
      unique.add({ t: `text ${row}` });
      repeated.add({ t: `text ${row % 5000}` });
    }
    expect([unique.columns[0]!.isPlain, repeated.columns[0]!.isPlain]).toEqual([true, false]);
  });
});

describe("valueFor", () => {
  const column = (type: Column["type"], isDeclared = true): Column => ({ name: "c", type, isDeclared });

  it.each([
    ["int64", "200", 200],
    ["int64", "0200", undefined],
    ["int64", "1e3", undefined],
    ["int64", "9007199254740993", undefined],
    ["int64", 0.5, undefined],
    ["double", "0.1", 0.1],
    ["double", "NaN", undefined],
    ["string", true, "true"],
    ["string", [1], undefined],
    ["boolean", "true", undefined],
    ["timestamp", 0, undefined],
    ["json", { a: undefined, b: 1 }, '{"b":1}'],
  ] as const)("takes for a column of %s the value %j as %j", (type, value, expected) => {
    expect(valueFor(column(type), value)).toEqual(expected);
  });

  it("converts nothing that nobody asked for", () => {
    expect(valueFor(column("int64", false), "200")).toBeUndefined();
    expect(valueFor(column("timestamp", false), "2026-01-01T00:00:00+02:00")).toBeUndefined();
  });
});

describe("TextSlab", () => {
  it("holds texts of any length, the empty one too", () => {
    const slab = new TextSlab();
    const texts = ["", "ü".repeat(40_000), "\u{1f600}", "x".repeat(200_000)];
    const indexes = texts.map((text) => slab.add(text));
    expect(indexes.map((index) => Buffer.from(slab.at(index)).toString())).toEqual(texts);
    expect(slab.byteLength).toBe(80_000 + 4 + 200_000);
  });
});
