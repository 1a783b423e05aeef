import { type Position, type Range, START } from "../record/position.ts";

/**
 * Ranges at which a source pauses a file (delivery contract, section 2). What is in flight at that moment still ends,
 * so a set may pass the limit; it never forgets an ending.
 */
export const MAX_RANGES = 256;

/**
 * What has ended at one sink of one origin, in memory and mutable: everything below `prefix`, and ranges above it.
 *
 * ```
 *  0          prefix      s0   e0     s1 e1
 *  |############|----------|####|------|##|------->   # ended   - not yet
 * ```
 *
 * The ranges are two arrays of numbers, sorted; none touches the prefix or its neighbour. Endings in source order, the
 * common case, only move `prefix`: constant time, nothing allocated.
 */
export class SettledSet {
  readonly #limit: number;
  #prefix = 0;
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];

  /**
   * @param position What the set starts with; it is copied.
   * @param options.maxRanges Where `isFull` becomes true.
   * @throws RangeError if `position` is malformed.
   */
  constructor(position: Position = START, options: { maxRanges?: number } = {}) {
    this.#limit = options.maxRanges ?? MAX_RANGES;
    this.addPosition(position);
  }

  /** Everything below it has ended. */
  get prefix(): number {
    return this.#prefix;
  }

  /** The ranges above the prefix, ascending; a copy. */
  get ranges(): readonly Range[] {
    return this.#starts.map((start, index) => ({ start, end: this.#ends[index]! }));
  }

  get rangeCount(): number {
    return this.#starts.length;
  }

  /** True while the set holds as many ranges as it may: the source pauses this file until the first gap closes. */
  get isFull(): boolean {
    return this.#starts.length >= this.#limit;
  }

  /** Just behind the highest offset that has ended. */
  get end(): number {
    return this.#ends.length === 0 ? this.#prefix : this.#ends[this.#ends.length - 1]!;
  }

  /**
   * Takes note that the range has ended. An empty range adds nothing; one that is known already changes nothing.
   * @throws RangeError if it is no range of whole, non-negative numbers.
   */
  add(range: Range): void {
    checkRange(range);
    const { start, end } = range;
    if (start <= this.#prefix) {
      if (end <= this.#prefix) return;
      this.#prefix = end;
      if (this.#starts.length > 0) this.#absorb();
    } else if (start < end) {
      this.#insert(start, end);
    }
  }

  /** Adds all that `position` says has ended. */
  addPosition(position: Position): void {
    this.add({ start: 0, end: position.prefix });
    for (const range of position.ranges) this.add(range);
  }

  /** True if all of the range has ended. */
  covers(range: Range): boolean {
    checkRange(range);
    if (range.end <= this.#prefix || range.start === range.end) return true;
    const at = this.#firstEndingAtOrAfter(range.end);
    // A range that straddles the prefix is never covered: what follows the prefix has not ended.
    return at < this.#starts.length && this.#starts[at]! <= range.start;
  }

  coversAll(ranges: readonly Range[]): boolean {
    for (const range of ranges) if (!this.covers(range)) return false;
    return true;
  }

  /**
   * True if `offset` lies at or after the end of everything that has ended. The fast path of "skip what has ended": a
   * batch that starts there needs no look at its records, and that is every batch but those of a replay.
   */
  isAfter(offset: number): boolean {
    return offset >= this.end;
  }

  /** The set as a value that will never change. */
  snapshot(): Position {
    return { prefix: this.#prefix, ranges: this.ranges };
  }

  /** Drops ranges that the prefix has reached. */
  #absorb(): void {
    let reached = 0;
    while (reached < this.#starts.length && this.#starts[reached]! <= this.#prefix) {
      if (this.#ends[reached]! > this.#prefix) this.#prefix = this.#ends[reached]!;
      reached += 1;
    }
    if (reached > 0) this.#replace(0, reached);
  }

  /** Adds a range above the prefix, joined with those that it overlaps or touches. */
  #insert(start: number, end: number): void {
    const from = this.#firstEndingAtOrAfter(start);
    let to = from;
    let low = start;
    let high = end;
    while (to < this.#starts.length && this.#starts[to]! <= end) {
      if (this.#starts[to]! < low) low = this.#starts[to]!;
      if (this.#ends[to]! > high) high = this.#ends[to]!;
      to += 1;
    }
    if (to === from + 1) {
      // The common case out of order: one range grows.
      this.#starts[from] = low;
      this.#ends[from] = high;
    } else {
      this.#replace(from, to - from, low, high);
    }
  }

  #replace(from: number, count: number, start?: number, end?: number): void {
    if (start === undefined) {
      this.#starts.splice(from, count);
      this.#ends.splice(from, count);
    } else {
      this.#starts.splice(from, count, start);
      this.#ends.splice(from, count, end!);
    }
  }

  /** Index of the first range whose end is at or after `offset`. */
  #firstEndingAtOrAfter(offset: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What has ended in at least one of the positions; nothing if there is none. */
export function unitePositions(positions: readonly Position[]): Position {
  const union = new SettledSet();
  for (const position of positions) union.addPosition(position);
  return union.snapshot();
}

/**
 * What has ended in every one of the positions. Without any position nothing has: that repeats at worst, where the
 * empty intersection of mathematics (everything) would lose.
 */
export function intersectPositions(positions: readonly Position[]): Position {
  if (positions.length === 0) return START;
  return positions.reduce(intersectTwo);
}

function intersectTwo(left: Position, right: Position): Position {
  const both = new SettledSet();
  const lefts = asRanges(left);
  const rights = asRanges(right);
  for (let at = 0, other = 0; at < lefts.length && other < rights.length; ) {
    const a = lefts[at]!;
    const b = rights[other]!;
    const start = Math.max(a.start, b.start);
    const end = Math.min(a.end, b.end);
    if (start < end) both.add({ start, end });
    if (a.end < b.end) at += 1;
    else other += 1;
  }
  return both.snapshot();
}

function asRanges(position: Position): readonly Range[] {
  return position.prefix === 0 ? position.ranges : [{ start: 0, end: position.prefix }, ...position.ranges];
}

function checkRange({ start, end }: Range): void {
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start > end) {
    throw new RangeError(`no range: start ${start}, end ${end}; both are whole numbers with 0 <= start <= end`);
  }
}
