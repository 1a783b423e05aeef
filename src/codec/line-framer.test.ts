import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Lines } from "../record/index.ts";
import { type FramerOptions, LineFramer } from "./line-framer.ts";

interface Piece {
  kind: string;
  start: number;
  end: number;
}

function options(overrides: Partial<FramerOptions> = {}): FramerOptions {
  return {
    delimiter: Buffer.from("\n"),
    maxLineBytes: 1000,
    encoding: "utf-8",
    host: "here",
    boundaries: [],
    start: 0,
    ...overrides,
  };
}

function piecesOf(lines: Lines): Piece[] {
  const pieces: Piece[] = [];
  for (let index = 0; index < lines.count; index += 1)
    pieces.push({ kind: lines.kind, start: lines.startOf(index), end: lines.endOf(index) });
  return pieces;
}

/** Presents `bytes` as a reader does, in reads of the given sizes, and checks that the pieces hold the source bytes. */
function frameInReads(bytes: Buffer, framer: LineFramer, readSizes: readonly number[]): Piece[] {
  const pieces: Piece[] = [];
  let readTo = framer.offset;
  for (let turn = 0; readTo < bytes.length; turn += 1) {
    readTo = Math.min(bytes.length, readTo + (readSizes[turn % readSizes.length] ?? 1));
    // A fresh buffer with rubbish around the bytes, as a pooled chunk would be.
    const padding = turn % 3;
    const chunk = Buffer.concat([
      Buffer.alloc(padding, "\n"),
      bytes.subarray(framer.offset, readTo),
      Buffer.alloc(padding, "\n"),
    ]);
    for (const lines of framer.frame(chunk, padding, chunk.length - padding, 7)) {
      const isSource = lines.bytes.equals(bytes.subarray(lines.offset, lines.offset + lines.bytes.length));
      if (!isSource || lines.ends[lines.count - 1] !== lines.bytes.length) throw new Error("a piece is not the source");
      pieces.push(...piecesOf(lines));
    }
  }
  return pieces;
}

function texts(bytes: Buffer, pieces: readonly Piece[]): string[] {
  return pieces.map((piece) => `${piece.kind}:${bytes.toString("utf8", piece.start, piece.end)}`);
}

function frameAll(text: string | Buffer, overrides: Partial<FramerOptions> = {}): string[] {
  const bytes = Buffer.from(text as string);
  const framer = new LineFramer(options(overrides));
  return texts(bytes, frameInReads(bytes, framer, [bytes.length]));
}

/**
 * The rules once more, slowly and with the whole source in hand: no state but where the record starts. `undefined`
 * where the source ends before the record does.
 */
function nextRecord(
  bytes: Buffer,
  start: number,
  delimiter: Buffer,
  max: number,
  boundaries: readonly number[],
): { kind: string; end: number } | undefined {
  const boundary = boundaries.find((at) => at > start) ?? Number.POSITIVE_INFINITY;
  let lineEnd: number | undefined;
  for (let at = start; at - start <= max && at + delimiter.length <= bytes.length; at += 1) {
    if (bytes.subarray(at, at + delimiter.length).equals(delimiter)) {
      lineEnd = at + delimiter.length;
      break;
    }
  }
  if (lineEnd !== undefined && lineEnd <= boundary) return { kind: "whole", end: lineEnd };
  let border = start + max;
  for (let back = 1; back <= 3 && start + max - back > start; back += 1) {
    const candidate = start + max - back;
    const tail = bytes.subarray(candidate + 1, start + max + 1);
    const lead = bytes[candidate] ?? 0;
    const length =
      lead >= 0xf0 && lead <= 0xf4 ? 4 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xc2 && lead < 0xe0 ? 2 : 1;
    if (length > back && tail.length === back && tail.every((byte) => byte >= 0x80 && byte < 0xc0)) border = candidate;
  }
  if (lineEnd !== undefined) return { kind: "partial", end: boundary <= start + max ? boundary : border };
  if (bytes.length - start >= max + delimiter.length) {
    if (boundary <= start + max && boundary !== border) return { kind: "partial", end: boundary };
    return { kind: "cut", end: border };
  }
  if (boundary <= bytes.length && boundary < start + max - 3) return { kind: "partial", end: boundary };
  return undefined;
}

function naiveFrame(bytes: Buffer, from: FramerOptions): Piece[] {
  const pieces: Piece[] = [];
  let start = from.start;
  let isInCutLine = from.resumesAfter === "cut";
  for (;;) {
    const next = nextRecord(bytes, start, from.delimiter, from.maxLineBytes, from.boundaries);
    if (next === undefined) return pieces;
    pieces.push({ kind: isInCutLine && next.kind === "whole" ? "cut_end" : next.kind, start, end: next.end });
    isInCutLine = next.kind === "cut";
    start = next.end;
  }
}

/** Bytes in which everything awkward is common: delimiters and halves of them, characters of 1 to 4 bytes, rubbish. */
const sourceBytes = fc
  .array(
    fc
      .oneof(
        { weight: 3, arbitrary: fc.constantFrom("\n", "\r\n", "\r", "a", "bb", "b", "") },
        { weight: 3, arbitrary: fc.constantFrom("é", "€", "😀", "x") },
        { weight: 2, arbitrary: fc.constantFrom("abcdefgh", "0123456789", "€€€€", "😀😀😀", "ééé") },
      )
      .map((text) => Buffer.from(text)),
    { maxLength: 25 },
  )
  .chain((parts) =>
    fc
      .array(fc.tuple(fc.nat(), fc.constantFrom(0, 0x80, 0xbf, 0xc3, 0xe2, 0xf0, 0xff)), { maxLength: 3 })
      .map((rubbish) => {
        const bytes = Buffer.concat(parts);
        for (const [at, value] of rubbish) if (bytes.length > 0) bytes[at % bytes.length] = value;
        return bytes;
      }),
  );

const delimiters = fc
  .constantFrom("\n", "\r\n", "bb", "\n\n", "bbx", "\0", "b\0", "\0\0")
  .map((text) => Buffer.from(text));
const readSizes = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 });
const maxLineBytes = fc.integer({ min: 1, max: 20 });

describe("LineFramer", () => {
  it("keeps empty lines, carriage returns, byte-order marks and NUL bytes as content", () => {
    expect(frameAll("\ufeffa\r\n\n\0\n")).toEqual(["whole:\ufeffa\r\n", "whole:\n", "whole:\0\n"]);
  });

  it("gives whole lines of one read as one piece with an index of its own", () => {
    const framer = new LineFramer(options({ start: 100 }));
    const first = framer.frame(Buffer.from("one\ntwo\nthr"), 0, 11, 5);
    expect(first).toHaveLength(1);
    expect(first[0]!.offset).toBe(100);
    expect(first[0]!.delimiterBytes).toBe(1);
    expect(first[0]!.readAtMs).toBe(5);
    expect(framer.offset).toBe(108);
    framer.frame(Buffer.from("three\nfour\n"), 0, 11, 6);
    expect(first[0]!.textOf(0)).toBe("one");
    expect(first[0]!.textOf(1)).toBe("two");
    expect([...first[0]!.ends]).toEqual([4, 8]);
  });

  it("grows its index with the number of lines in a read", () => {
    const bytes = Buffer.from("\n".repeat(20_000));
    const [lines] = new LineFramer(options()).frame(bytes, 0, bytes.length, 0);
    expect(lines!.count).toBe(20_000);
    expect(lines!.endOf(19_999)).toBe(20_000);
    expect(lines!.startOf(9_999)).toBe(9_999);
  });

  it("does not cut a line of exactly the longest length", () => {
    expect(frameAll("abcde\nabcdef\n", { maxLineBytes: 5 })).toEqual(["whole:abcde\n", "cut:abcde", "cut_end:f\n"]);
  });

  it("does not cut before the delimiter can be ruled out", () => {
    const framer = new LineFramer(options({ maxLineBytes: 3, delimiter: Buffer.from("\r\n") }));
    expect(framer.frame(Buffer.from("abc\r"), 0, 4, 0)).toEqual([]);
    expect(framer.frame(Buffer.from("abc\r\n"), 0, 5, 0).map((lines) => lines.kind)).toEqual(["whole"]);
    expect(framer.cutLines).toBe(0);
  });

  it("cuts a long line between characters and counts it once", () => {
    const bytes = Buffer.from("€€€€€\n😀😀\n");
    const framer = new LineFramer(options({ maxLineBytes: 7 }));
    expect(texts(bytes, frameInReads(bytes, framer, [1]))).toEqual([
      "cut:€€",
      "cut:€€",
      "cut_end:€\n",
      "cut:😀",
      "cut_end:😀\n",
    ]);
    expect(framer.cutLines).toBe(2);
  });

  it("cuts hard where the bytes are no UTF-8 and where a character is longer than a line may be", () => {
    const rubbish = Buffer.from([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x0a]);
    const framer = new LineFramer(options({ maxLineBytes: 4 }));
    expect(frameInReads(rubbish, framer, [7]).map((piece) => piece.end)).toEqual([4, 7]);
    const wide = Buffer.from("😀\n");
    const narrow = new LineFramer(options({ maxLineBytes: 2 }));
    expect(frameInReads(wide, narrow, [1]).map((piece) => piece.end)).toEqual([2, 5]);
  });

  it("ends a record at a boundary, and takes what follows as an ordinary record", () => {
    expect(frameAll("abcdef\nx\n", { boundaries: [3, 7] })).toEqual(["partial:abc", "whole:def\n", "whole:x\n"]);
  });

  it("delivers up to a boundary where the source ends", () => {
    expect(frameAll("abc", { boundaries: [3] })).toEqual(["partial:abc"]);
  });

  it("takes a boundary that is added later", () => {
    const bytes = Buffer.from("abcdef\n");
    const framer = new LineFramer(options());
    framer.addBoundary(5);
    framer.addBoundary(2);
    framer.addBoundary(5);
    expect(texts(bytes, frameInReads(bytes, framer, [7]))).toEqual(["partial:ab", "partial:cde", "whole:f\n"]);
    framer.addBoundary(3);
    expect(framer.offset).toBe(7);
  });

  it("marks the rest of a cut line after a restart in its middle", () => {
    expect(frameAll("fgh\nx\n", { maxLineBytes: 5, resumesAfter: "cut" })).toEqual(["cut_end:fgh\n", "whole:x\n"]);
  });

  it("cuts what is unfinished as partial, its rest as an ordinary record", () => {
    const framer = new LineFramer(options());
    const cut = framer.cutPartial(Buffer.from("abc"), 0, 3, 9, "partial");
    expect(cut!.kind).toBe("partial");
    expect(cut!.delimiterBytes).toBe(0);
    expect(cut!.textOf(0)).toBe("abc");
    expect(framer.offset).toBe(3);
    expect(framer.cutPartial(Buffer.alloc(0), 0, 0, 9, "partial")).toBeUndefined();
    const [rest] = framer.frame(Buffer.from("def\n"), 0, 4, 10);
    expect(rest!.kind).toBe("whole");
    expect(rest!.offset).toBe(3);
  });

  it("ends a delivered partial line with a record of no bytes, once", () => {
    const framer = new LineFramer(options());
    expect(framer.cutPartial(Buffer.alloc(0), 0, 0, 9, "partial_end")).toBeUndefined();
    framer.cutPartial(Buffer.from("abc"), 0, 3, 9, "partial");
    const end = framer.cutPartial(Buffer.alloc(0), 0, 0, 9, "partial_end");
    expect(end!.kind).toBe("partial_end");
    expect(end!.count).toBe(1);
    expect(end!.bytes).toHaveLength(0);
    expect(end!.offset).toBe(3);
    expect(framer.cutPartial(Buffer.alloc(0), 0, 0, 9, "partial_end")).toBeUndefined();
  });

  it("owes no ending after a partial line whose rest came", () => {
    const framer = new LineFramer(options());
    framer.cutPartial(Buffer.from("abc"), 0, 3, 9, "partial");
    framer.frame(Buffer.from("\n"), 0, 1, 9);
    expect(framer.cutPartial(Buffer.alloc(0), 0, 0, 9, "partial_end")).toBeUndefined();
  });

  it("owes an ending where it resumed after a partial line", () => {
    const framer = new LineFramer(options({ start: 3, boundaries: [3], resumesAfter: "partial" }));
    expect(framer.cutPartial(Buffer.alloc(0), 0, 0, 9, "partial_end")!.count).toBe(1);
  });

  it("takes all that is unfinished, also a begun delimiter behind a line of full length", () => {
    const framer = new LineFramer(options({ maxLineBytes: 3, delimiter: Buffer.from("\r\n") }));
    const lines = framer.cutPartial(Buffer.from("abc\r"), 0, 4, 9, "partial_end");
    expect(piecesOf(lines!)).toEqual([
      { kind: "partial_end", start: 0, end: 3 },
      { kind: "partial_end", start: 3, end: 4 },
    ]);
    expect(framer.offset).toBe(4);
  });

  it("finds UTF-16 line ends on whole characters only, and keeps surrogate pairs together", () => {
    const delimiter = Buffer.from("\n", "utf16le");
    // U+0A41 U+4100: the bytes 41 0A 00 41 hold a line feed across two characters.
    const bytes = Buffer.from("\u0a41\u4100\nab😀\n", "utf16le");
    const framer = new LineFramer(options({ delimiter, encoding: "utf-16le", maxLineBytes: 7 }));
    expect(frameInReads(bytes, framer, [3]).map((piece) => `${piece.kind}:${piece.end}`)).toEqual([
      "whole:6",
      "cut:10",
      "cut_end:16",
    ]);
  });

  it("frames the same records however the reads were split", () => {
    fc.assert(
      fc.property(
        sourceBytes,
        delimiters,
        maxLineBytes,
        readSizes,
        fc.array(fc.nat(60)),
        (bytes, delimiter, max, sizes, at) => {
          const boundaries = [...new Set(at)].sort((a, b) => a - b);
          const given = options({ delimiter, maxLineBytes: max, boundaries });
          const expected = naiveFrame(bytes, given);
          expect(frameInReads(bytes, new LineFramer(given), sizes)).toEqual(expected);
        },
      ),
      { numRuns: 3000 },
    );
  });

  it("holds every record to the longest length and leaves no byte out", () => {
    fc.assert(
      fc.property(
        sourceBytes,
        delimiters,
        maxLineBytes,
        readSizes,
        fc.array(fc.nat(60)),
        (bytes, delimiter, max, sizes, at) => {
          const framer = new LineFramer(
            options({ delimiter, maxLineBytes: max, boundaries: at.sort((a, b) => a - b) }),
          );
          const pieces = frameInReads(bytes, framer, sizes);
          const rest = framer.cutPartial(bytes, framer.offset, bytes.length, 0, "partial_end");
          if (rest !== undefined) pieces.push(...piecesOf(rest));
          let offset = 0;
          for (const { kind, start, end } of pieces) {
            expect(start).toBe(offset);
            const delimiterBytes = kind === "whole" || kind === "cut_end" ? delimiter.length : 0;
            expect(end - start - delimiterBytes).toBeLessThanOrEqual(max);
            expect(bytes.subarray(end - delimiterBytes, end).equals(delimiter) || delimiterBytes === 0).toBe(true);
            offset = end;
          }
          expect(offset).toBe(bytes.length);
          for (const boundary of at)
            if (boundary <= bytes.length && boundary > 0) expect(pieces.map((p) => p.end)).toContain(boundary);
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("frames the same records again with any of their ends stored as boundaries, from any of them on", () => {
    fc.assert(
      fc.property(
        sourceBytes,
        delimiters,
        maxLineBytes,
        readSizes,
        fc.array(fc.nat()),
        fc.nat(),
        (bytes, delimiter, max, sizes, chosen, from) => {
          const given = options({ delimiter, maxLineBytes: max });
          const first = frameInReads(bytes, new LineFramer(given), [bytes.length]);
          fc.pre(first.length > 0);
          const boundaries = [...new Set(chosen.map((n) => first[n % first.length]!.end))].sort((a, b) => a - b);
          expect(frameInReads(bytes, new LineFramer({ ...given, boundaries }), sizes)).toEqual(first);
          const before = first[from % first.length]!;
          const resumed = new LineFramer({
            ...given,
            boundaries,
            start: before.end,
            resumesAfter: before.kind === "cut" ? "cut" : "line",
          });
          expect(frameInReads(bytes, resumed, sizes)).toEqual(first.filter((piece) => piece.start >= before.end));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("frames the same stretches again after time-outs that were stored as boundaries", () => {
    fc.assert(
      fc.property(
        sourceBytes,
        delimiters,
        maxLineBytes,
        readSizes,
        fc.array(fc.boolean(), { minLength: 1 }),
        (bytes, delimiter, max, sizes, timesOut) => {
          const given = options({ delimiter, maxLineBytes: max });
          const live = new LineFramer(given);
          const stretches: string[] = [];
          const boundaries: number[] = [];
          let readTo = 0;
          for (let turn = 0; readTo < bytes.length; turn += 1) {
            readTo = Math.min(bytes.length, readTo + sizes[turn % sizes.length]!);
            const pieces = live.frame(bytes, live.offset, readTo, 0).flatMap(piecesOf);
            if (timesOut[turn % timesOut.length]) {
              const partial = live.cutPartial(bytes, live.offset, readTo, 0, "partial");
              if (partial !== undefined) {
                boundaries.push(readTo);
                pieces.push(...piecesOf(partial));
              }
            }
            stretches.push(...pieces.map((piece) => `${piece.start}-${piece.end}`));
          }
          const replay = new LineFramer({ ...given, boundaries });
          const replayed = frameInReads(bytes, replay, [bytes.length]);
          const rest = replay.cutPartial(bytes, replay.offset, bytes.length, 0, "partial");
          const again = replayed.map((piece) => `${piece.start}-${piece.end}`);
          // What hangs on the last boundary may wait for the bytes behind it, as it did not when the time-out cut it.
          expect(again).toEqual(stretches.slice(0, again.length));
          const left = (rest === undefined ? [] : piecesOf(rest)).map((piece) => `${piece.start}-${piece.end}`);
          expect([...again, ...left].slice(0, stretches.length)).toEqual(stretches);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
