import { type LineKind, Lines } from "../record/index.ts";

/*
 * Where the record that starts at `s` ends. D is the delimiter, `max` the longest line without it, `b` the next forced
 * boundary behind `s`. Every answer follows from the bytes and these options, never from how reads were split: where
 * it would, the bytes are left for the next read.
 *
 *   s .......... D                        the line is at most `max` long        whole | cut_end
 *   s ........................            `max` + |D| bytes and no D at <= max   cut at c, the character border at or
 *               c  max                    (longer for certain)                   at most 3 bytes before s + max
 *   s ....... b ....                      a boundary before either of these      partial
 *   s ..................                  anything less                          left unframed
 *
 * A boundary wins over c where both lie in s + max and they differ: a piece that follows a cut at c never ends before
 * s + max, so only a time-out can have cut there, and it saw no more than what is before b. Where b = c the record is
 * the same either way, and what follows tells whether it is `cut` or `partial`.
 */

/** A UTF-8 character has at most three bytes behind its first. */
const MAX_BACK_BYTES = 3;

export interface FramerOptions {
  /** What ends a line, as bytes of the source (a UTF-16 file's line feed is two bytes). Not empty. */
  readonly delimiter: Buffer;
  /** Longest line in bytes, delimiter not counted; a longer one is cut into pieces of at most that many. At least 1. */
  readonly maxLineBytes: number;
  /** WHATWG label. */
  readonly encoding: string;
  /** The `host` field of every record. */
  readonly host: string;
  /** Source offsets at which a record ends, whatever is there; ascending. */
  readonly boundaries: readonly number[];
  /** Source offset of the first byte to be framed. */
  readonly start: number;
  /**
   * What stands right before `start`: a `line` (its delimiter, or nothing at all), a piece of a line `cut` for its
   * length, or a `partial` one cut by a time-out. It decides only how the first record is marked. Default: `line`.
   */
  readonly resumesAfter?: "line" | "cut" | "partial";
}

/**
 * Cuts source bytes into records: lines, and pieces of lines that are too long, unfinished, or forced apart at a stored
 * boundary. Nothing is left out and nothing is changed: carriage returns, byte-order marks, NUL bytes and empty lines
 * are content, and all records back to back are the source.
 *
 * It keeps no bytes: what `frame` leaves unframed is handed in again, with more behind it.
 */
export class LineFramer {
  readonly #options: FramerOptions;
  readonly #delimiterBytes: number;
  /** Index of the byte of the delimiter that is searched for: the last that is not 0 (every other byte of UTF-16 is). */
  readonly #keyIndex: number;
  readonly #keyByte: number;
  readonly #maxLineBytes: number;
  /** Bytes of a code unit; a delimiter counts only at a whole number of them behind the start of its line. */
  readonly #unitBytes: 1 | 2;
  readonly #isBigEndian: boolean;
  /** Those behind `#offset`, ascending. */
  readonly #boundaries: number[];
  #offset: number;
  #isInCutLine: boolean;
  #isAfterPartial: boolean;
  #cutLines = 0;

  constructor(options: FramerOptions) {
    if (options.delimiter.length === 0) throw new Error("a line delimiter has at least one byte");
    this.#options = options;
    this.#delimiterBytes = options.delimiter.length;
    this.#keyIndex = Math.max(
      0,
      options.delimiter.findLastIndex((byte) => byte !== 0),
    );
    this.#keyByte = options.delimiter[this.#keyIndex]!;
    const isUtf16 = options.encoding === "utf-16le" || options.encoding === "utf-16be";
    this.#unitBytes = isUtf16 && options.delimiter.length % 2 === 0 ? 2 : 1;
    this.#isBigEndian = options.encoding === "utf-16be";
    const max = Math.max(1, options.maxLineBytes);
    this.#maxLineBytes = Math.max(this.#unitBytes, max - (max % this.#unitBytes));
    this.#offset = options.start;
    this.#boundaries = options.boundaries.filter((boundary) => boundary > options.start).sort((a, b) => a - b);
    this.#isInCutLine = options.resumesAfter === "cut";
    this.#isAfterPartial = options.resumesAfter === "partial";
  }

  /** Source offset behind the last record given out: everything before it is framed. */
  get offset(): number {
    return this.#offset;
  }

  /** Lines that were too long and have been cut, each counted once. */
  get cutLines(): number {
    return this.#cutLines;
  }

  /** From now on a record ends at source offset `offset`; without effect at or before what is framed already. */
  addBoundary(offset: number): void {
    if (offset <= this.#offset || this.#boundaries.includes(offset)) return;
    const behind = this.#boundaries.findIndex((boundary) => boundary > offset);
    this.#boundaries.splice(behind < 0 ? this.#boundaries.length : behind, 0, offset);
  }

  /**
   * Frames `buffer[from, to)`, the source bytes that start at `offset`, and moves `offset` behind the last record. The
   * bytes of an unfinished line stay unframed (less than `maxLineBytes` plus a delimiter); present them again.
   *
   * @param readAtMs wall clock of the reading
   * @returns pieces in order, usually one of kind `whole`: views on `buffer`, good for as long as it is
   */
  frame(buffer: Buffer, from: number, to: number, readAtMs: number): Lines[] {
    const view = buffer.subarray(from, to);
    const out = new PieceList(view, this.#offset, this.#options, readAtMs);
    const delimiterBytes = this.#delimiterBytes;
    const max = this.#maxLineBytes;
    const base = this.#offset;
    let boundary = this.#boundaryAfter(base) - base;
    let start = 0;
    let delimiterAt = this.#findDelimiter(view, start);
    for (;;) {
      const end = delimiterAt + delimiterBytes;
      if (delimiterAt >= 0 && delimiterAt - start <= max && end <= boundary) {
        out.add(this.#isInCutLine ? "cut_end" : "whole", end);
        this.#isInCutLine = false;
        start = end;
      } else {
        const forced = this.#cut(view, start, delimiterAt, boundary);
        if (forced === undefined) break;
        out.add(forced.kind, forced.end);
        if (forced.kind === "cut" && !this.#isInCutLine) this.#cutLines += 1;
        this.#isInCutLine = forced.kind === "cut";
        start = forced.end;
      }
      if (start >= boundary) boundary = this.#boundaryAfter(base + start) - base;
      // Behind a piece of a long line the same delimiter is still the next one, unless a boundary shifted the units.
      if (delimiterAt < start || (delimiterAt - start) % this.#unitBytes !== 0) {
        delimiterAt = delimiterAt < 0 && this.#unitBytes === 1 ? -1 : this.#findDelimiter(view, start);
      }
    }
    this.#offset = base + start;
    if (out.lastKind !== undefined) this.#isAfterPartial = out.lastKind === "partial";
    return out.finish();
  }

  /**
   * Cuts `buffer[from, to)`, which is what `frame` left of all that there is, as records: `partial` (the line may grow)
   * or `partial_end` (it never will). Usually that is one record; it is several where a boundary lies in between, or
   * where a begun delimiter of several bytes stands behind a line of `maxLineBytes`. All of [from, to) is taken.
   *
   * @returns undefined where there is nothing to cut. Right after a `partial`, `partial_end` gives one record of no
   *   bytes, so that raw output gets the delimiter that the partial line was delivered without.
   */
  cutPartial(
    buffer: Buffer,
    from: number,
    to: number,
    readAtMs: number,
    kind: "partial" | "partial_end",
  ): Lines | undefined {
    const view = buffer.subarray(from, to);
    const out = new PieceList(view, this.#offset, this.#options, readAtMs);
    if (view.length === 0) {
      if (kind === "partial" || !this.#isAfterPartial) return undefined;
      out.add(kind, 0);
    }
    let start = 0;
    while (start < view.length) {
      const boundary = this.#boundaryAfter(this.#offset + start) - this.#offset;
      const end = Math.min(boundary, view.length);
      start = end - start > this.#maxLineBytes ? this.#characterBorder(view, start) : end;
      out.add(kind, start);
    }
    this.#offset += start;
    this.#isInCutLine = false;
    this.#isAfterPartial = kind === "partial";
    return out.finish()[0];
  }

  /** Where the record at `start` ends that is no finished line before `boundary`; undefined: more bytes will tell. */
  #cut(
    view: Buffer,
    start: number,
    delimiterAt: number,
    boundary: number,
  ): { kind: "cut" | "partial"; end: number } | undefined {
    const max = this.#maxLineBytes;
    if (delimiterAt >= 0 && delimiterAt - start <= max) {
      // The boundary lies within this line, or within a delimiter that stands behind a line of full length.
      const end = boundary - start > max ? this.#characterBorder(view, start) : boundary;
      return { kind: "partial", end };
    }
    const isLonger = delimiterAt >= 0 || view.length - start >= max + this.#delimiterBytes;
    if (isLonger) {
      const border = this.#characterBorder(view, start);
      if (boundary - start <= max && boundary !== border) return { kind: "partial", end: boundary };
      return { kind: "cut", end: border };
    }
    // A boundary this early can be no cut for length; a later one may be either, which the next bytes tell.
    const isEarly = boundary <= view.length && boundary - start < max - MAX_BACK_BYTES;
    return isEarly ? { kind: "partial", end: boundary } : undefined;
  }

  /** Index of the first delimiter of the line at `start`, or -1. */
  #findDelimiter(view: Buffer, start: number): number {
    let at = view.indexOf(this.#keyByte, start + this.#keyIndex);
    if (this.#delimiterBytes === 1) return at;
    // Looking for one byte and comparing here takes a third of the time of looking for the whole delimiter.
    while (at >= 0 && !this.#isDelimiter(view, at - this.#keyIndex, start)) at = view.indexOf(this.#keyByte, at + 1);
    return at < 0 ? -1 : at - this.#keyIndex;
  }

  /** Whether a delimiter stands at `at`, seen from a line that starts at `start`. */
  #isDelimiter(view: Buffer, at: number, start: number): boolean {
    const { delimiter } = this.#options;
    for (let index = 0; index < delimiter.length; index += 1) {
      if (view[at + index] !== delimiter[index]) return false;
    }
    // The bytes of a UTF-16 line feed also occur across two characters, as in U+0A41 U+4100.
    return (at - start) % this.#unitBytes === 0;
  }

  /** The first boundary behind a source offset, or Infinity. Those up to it are done with. */
  #boundaryAfter(offset: number): number {
    while (this.#boundaries.length > 0 && this.#boundaries[0]! <= offset) this.#boundaries.shift();
    return this.#boundaries[0] ?? Number.POSITIVE_INFINITY;
  }

  /** Where a piece of at most `maxLineBytes` from `start` on may end without splitting a character; never `start`. */
  #characterBorder(view: Buffer, start: number): number {
    const limit = start + this.#maxLineBytes;
    const pair = limit - this.#unitBytes;
    if (this.#unitBytes === 2) return pair > start && this.#isSurrogatePair(view, pair) ? pair : limit;
    if (!isContinuation(view[limit]!)) return limit;
    for (let back = 1; back <= MAX_BACK_BYTES && limit - back > start; back += 1) {
      const byte = view[limit - back]!;
      // Not UTF-8 unless a lead byte is here that reaches over the limit: then any place is as good.
      if (!isContinuation(byte)) return characterBytes(byte) > back ? limit - back : limit;
    }
    return limit;
  }

  #isSurrogatePair(view: Buffer, at: number): boolean {
    const high = this.#isBigEndian ? 0 : 1;
    return (view[at + high]! & 0xfc) === 0xd8 && (view[at + 2 + high]! & 0xfc) === 0xdc;
  }
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

/** Length of the UTF-8 character that `lead` begins (RFC 3629, section 3); 1 for a byte that begins none. */
function characterBytes(lead: number): number {
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  return lead >= 0xf0 && lead < 0xf5 ? 4 : 1;
}

/** Record ends of one `frame` call; reused, since nothing outside holds on to it. Grows to the longest seen. */
let scratch = new Uint32Array(4096);

/** Collects records back to back and gives them out as one `Lines` for each run of one kind. */
class PieceList {
  readonly #view: Buffer;
  readonly #offset: number;
  readonly #options: FramerOptions;
  readonly #readAtMs: number;
  readonly #pieces: Lines[] = [];
  #kind: LineKind | undefined;
  /** Start of the run in `#view`. */
  #runStart = 0;
  #runEnd = 0;
  #count = 0;

  constructor(view: Buffer, offset: number, options: FramerOptions, readAtMs: number) {
    this.#view = view;
    this.#offset = offset;
    this.#options = options;
    this.#readAtMs = readAtMs;
  }

  get lastKind(): LineKind | undefined {
    return this.#kind;
  }

  add(kind: LineKind, end: number): void {
    if (kind !== this.#kind) {
      this.#flush();
      this.#kind = kind;
    } else if (this.#count === scratch.length) {
      const larger = new Uint32Array(scratch.length * 2);
      larger.set(scratch);
      scratch = larger;
    }
    scratch[this.#count] = end - this.#runStart;
    this.#count += 1;
    this.#runEnd = end;
  }

  finish(): Lines[] {
    this.#flush();
    return this.#pieces;
  }

  #flush(): void {
    if (this.#count === 0) return;
    const kind = this.#kind!;
    this.#pieces.push(
      new Lines({
        bytes: this.#view.subarray(this.#runStart, this.#runEnd),
        offset: this.#offset + this.#runStart,
        // A copy of the right size: the scratch array is written again while this piece is still on its way.
        ends: scratch.slice(0, this.#count),
        count: this.#count,
        kind,
        delimiterBytes: kind === "whole" || kind === "cut_end" ? this.#options.delimiter.length : 0,
        delimiter: this.#options.delimiter,
        readAtMs: this.#readAtMs,
        host: this.#options.host,
        encoding: this.#options.encoding,
      }),
    );
    this.#runStart = this.#runEnd;
    this.#count = 0;
  }
}
