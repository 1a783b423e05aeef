import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Batch, type DataRecord, fileOrigin, type LineKind, Lines } from "../record/index.ts";
import { type Encoding, encodeBatch, encodeRecord } from "./encode.ts";

const origin = fileOrigin("app", "key", 0, '/var/log/ä "quoted".log');

function linesOf(
  messages: readonly Buffer[],
  options: { kind?: LineKind; delimiter?: string; offset?: number } = {},
): Lines {
  const kind = options.kind ?? "whole";
  const delimiter = Buffer.from(options.delimiter ?? "\n");
  const hasDelimiter = kind === "whole" || kind === "cut_end";
  const ends = new Uint32Array(messages.length);
  const parts: Buffer[] = [];
  let end = 0;
  messages.forEach((message, index) => {
    parts.push(message);
    end += message.length;
    if (hasDelimiter) {
      parts.push(delimiter);
      end += delimiter.length;
    }
    ends[index] = end;
  });
  return new Lines({
    bytes: Buffer.concat(parts),
    offset: options.offset ?? 1000,
    ends,
    count: messages.length,
    kind,
    delimiterBytes: hasDelimiter ? delimiter.length : 0,
    delimiter,
    readAtMs: 1_795_256_100_123,
    host: "höst",
  });
}

const batchOf = (messages: readonly (string | Buffer)[], options?: Parameters<typeof linesOf>[1]) =>
  Batch.ofLines(
    origin,
    linesOf(
      messages.map((message) => Buffer.from(message)),
      options,
    ),
  );

const bytesOf = (batch: Batch, encoding: Encoding) => Buffer.concat(encodeBatch(batch, encoding)).toString();

describe("encodeBatch", () => {
  it("passes the bytes of an untouched batch on in raw, without a copy", () => {
    const batch = batchOf(["one", Buffer.from([0xff, 0x00, 0x0d])]);
    expect(encodeBatch(batch, "raw")).toHaveLength(1);
    expect(encodeBatch(batch, "raw")[0]).toBe(batch.lines!.bytes);
  });

  it("passes valid UTF-8 lines on in text, without a copy", () => {
    const batch = batchOf(["one", "zwölf"]);
    expect(encodeBatch(batch, "text")[0]).toBe(batch.lines!.bytes);
  });

  it("ends each text record with a newline, whatever the delimiter of the source", () => {
    expect(bytesOf(batchOf(["one", "two"], { delimiter: "\r\n" }), "text")).toBe("one\ntwo\n");
    expect(bytesOf(batchOf(["one", "two"], { delimiter: ";" }), "text")).toBe("one\ntwo\n");
    expect(bytesOf(batchOf(["half"], { kind: "partial" }), "text")).toBe("half\n");
  });

  it.each([
    ["whole", "x", "x;"],
    ["cut", "x", "x;"],
    ["cut_end", "x", "x;"],
    ["partial", "x", "x"],
    ["partial_end", "x", "x;"],
    ["partial_end", "", ";"],
  ] as const)("gives a %s piece (%j) its delimiter in raw where one belongs", (kind, message, expected) => {
    const batch = batchOf([message], { kind, delimiter: ";" });
    expect(bytesOf(batch, "raw")).toBe(expected);
    expect(bytesOf(batch.withRecords(batch.records), "raw")).toBe(expected);
  });

  it("makes nothing of an unfinished line without bytes, in json and text", () => {
    const batch = batchOf([""], { kind: "partial_end" });
    for (const encoding of ["json", "text"] as const) {
      expect(encodeBatch(batch, encoding)).toEqual([]);
      expect(encodeBatch(batch.withRecords(batch.records), encoding)).toEqual([]);
    }
  });

  it("marks cut and partial events in json", () => {
    expect(JSON.parse(bytesOf(batchOf(["x"], { kind: "cut" }), "json"))).toMatchObject({ message: "x", cut: true });
    expect(JSON.parse(bytesOf(batchOf(["x"], { kind: "partial" }), "json"))).toMatchObject({ partial: true });
  });

  it("writes untouched lines in json exactly as JSON.stringify writes their events", () => {
    const message = fc.oneof(
      fc.string({ unit: "binary" }).map((text) => Buffer.from(text.replaceAll("\n", "\u0001"))),
      fc
        .string({
          unit: fc.constantFrom(
            '"',
            "\\",
            "\t",
            "\r",
            "\b",
            "\f",
            "\u0000",
            "\u001f",
            "\u007f",
            "\u2028",
            "é",
            "😀",
            "a",
          ),
        })
        .map((text) => Buffer.from(text)),
      // Runs without escapes are copied four bytes at a time.
      fc
        .tuple(fc.nat(9), fc.constantFrom('"', "\\", "\u001f", " ", "\u0080", "\u00ff"), fc.nat(9))
        .map(([before, odd, after]) => Buffer.from(`${"x".repeat(before)}${odd}${"!".repeat(after)}`)),
      fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes.filter((byte) => byte !== 10))),
    );
    const kinds = fc.constantFrom<LineKind>("whole", "cut", "cut_end", "partial", "partial_end");
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 5 }),
        kinds,
        fc.maxSafeNat(),
        (messages, kind, offset) => {
          const lines = linesOf(messages, { kind, offset: Math.min(offset, 2 ** 53 - 10_000) });
          const batch = Batch.ofLines(origin, lines);
          const isNothing = kind === "partial_end" && lines.bytes.length === 0;
          // The expectation reads the events of another batch of the same bytes, so that this one's stay untouched.
          const events = Batch.ofLines(origin, lines).records.map((record) => `${JSON.stringify(record.event)}\n`);
          const expected = isNothing ? "" : events.join("");
          expect(bytesOf(batch, "json")).toBe(expected);
          expect(bytesOf(batch.withRecords(Batch.ofLines(origin, lines).records), "json")).toBe(expected);
          const texts = Batch.ofLines(origin, lines).records.map((_, index) => `${lines.textOf(index)}\n`);
          expect(bytesOf(batch, "text")).toBe(isNothing ? "" : texts.join(""));
        },
      ),
    );
  });

  it("writes what a transform made of an event, in json and text", () => {
    const batch = batchOf(["one", "two"]);
    const changed = batch.withRecords([
      batch.records[0]!.with({ message: "ONE", level: "error" }),
      batch.records[1]!.with({ level: 3 }),
    ]);
    expect(bytesOf(changed, "json")).toBe('{"message":"ONE","level":"error"}\n{"level":3}\n');
    expect(bytesOf(changed, "text")).toBe("ONE\n\n");
  });

  it("writes the source bytes of changed records in raw, those of a split record once", () => {
    const batch = batchOf(["one", "two", "three", "four"]);
    const [one, two, , four] = batch.records as [DataRecord, DataRecord, DataRecord, DataRecord];
    const changed = batch.withRecords([one.with({ message: "1" }), two.with({}, 0), two.with({}, 1), four]);
    const parts = encodeBatch(changed, "raw");
    expect(Buffer.concat(parts).toString()).toBe("one\ntwo\nfour\n");
    expect(parts).toHaveLength(2);
  });

  it("replaces bytes that are no UTF-8 and counts their records, except in raw", () => {
    const messages = ["good", Buffer.from([0x61, 0xff, 0x62]), Buffer.from([0xc3])];
    for (const encoding of ["json", "text"] as const) {
      const tally = { replacedRecords: 0 };
      const text = Buffer.concat(encodeBatch(batchOf(messages), encoding, tally)).toString();
      expect(tally.replacedRecords).toBe(2);
      expect(text).toContain("a\ufffdb");
    }
    const tally = { replacedRecords: 0 };
    encodeBatch(batchOf(messages), "raw", tally);
    expect(tally.replacedRecords).toBe(0);
  });
});

describe("encodeRecord", () => {
  it("gives what the record is within its batch", () => {
    const messages = ["one", 'two "2"', Buffer.from([0xff])];
    for (const encoding of ["json", "text", "raw"] as const) {
      const alone = batchOf(messages).records.map((record) => encodeRecord(record, encoding));
      expect(Buffer.concat(alone)).toEqual(Buffer.concat(encodeBatch(batchOf(messages), encoding)));
    }
  });
});
