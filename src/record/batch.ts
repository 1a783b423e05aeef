import { DataRecord } from "./data-record.ts";
import type { Lines } from "./lines.ts";
import type { Messages } from "./messages.ts";
import type { Origin } from "./origin.ts";
import type { Range } from "./position.ts";

/** Memory that a batch lives in, counted by reference: one per branch that still needs the bytes. */
export interface Memory {
  /** Bytes taken from the budget. */
  readonly byteLength: number;
  retain(): void;
  /** Gives one reference back; at the last the memory may be reused at once. */
  release(): void;
}

/** For batches whose bytes belong to the garbage collector. */
const plainMemory: Memory = { byteLength: 0, retain() {}, release() {} };

/**
 * Records of one origin that travel and settle together: the message on every channel between stages. A TailerPayload
 * is a Batch of whole lines.
 *
 * A batch is in one of two forms: untouched `lines` (bytes and an index), or `records` that a transform made. Ask for
 * `lines` first: as long as it is defined, the bytes can be passed on without looking at a record.
 */
export class Batch {
  readonly origin: Origin;
  /** What of the origin ends when this batch ends; includes what transforms have left out on the way. */
  readonly ranges: readonly Range[];
  readonly memory: Memory;
  /** The untouched form; undefined once a transform made records. */
  readonly lines: Lines | undefined;
  #records: readonly DataRecord[] | undefined;
  readonly #byteLength: number;

  private constructor(
    origin: Origin,
    ranges: readonly Range[],
    memory: Memory,
    lines: Lines | undefined,
    records: readonly DataRecord[] | undefined,
    byteLength: number,
  ) {
    this.origin = origin;
    this.ranges = ranges;
    this.memory = memory;
    this.lines = lines;
    this.#records = records;
    this.#byteLength = byteLength;
  }

  /** A batch as a source makes it. `range` defaults to exactly the bytes of `lines`. */
  static ofLines(origin: Origin, lines: Lines, memory: Memory = plainMemory, range?: Range): Batch {
    const span = range ?? { start: lines.offset, end: lines.offset + lines.bytes.length };
    return new Batch(origin, [span], memory, lines, undefined, lines.bytes.length);
  }

  /**
   * A batch of messages. `range` is what of the origin ends with it: from where it was read to behind the last message, so
   * that numbers which hold no message end as well. `byteLength`: memory that the messages take, bodies and events.
   */
  static ofMessages(origin: Origin, messages: Messages, range: Range, byteLength: number, memory = plainMemory): Batch {
    const records = Array.from({ length: messages.count }, (_, index) => new DataRecord(origin, messages, index));
    return new Batch(origin, [range], memory, undefined, records, byteLength);
  }

  /** The same ranges and memory with other records: what a transform leaves. */
  withRecords(records: readonly DataRecord[]): Batch {
    return new Batch(this.origin, this.ranges, this.memory, undefined, records, this.#byteLength);
  }

  /** The same, in other memory: what somebody else counts. */
  withMemory(memory: Memory): Batch {
    return new Batch(this.origin, this.ranges, memory, this.lines, this.#records, this.#byteLength);
  }

  /** Records in it. */
  get count(): number {
    return this.lines === undefined ? this.#records!.length : this.lines.count;
  }

  /** Size that counts against `capacityBytes`: the source bytes. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** The records; made on first use for an untouched batch. */
  get records(): readonly DataRecord[] {
    if (this.#records === undefined) {
      const lines = this.lines!;
      const records = new Array<DataRecord>(lines.count);
      for (let index = 0; index < lines.count; index += 1) records[index] = new DataRecord(this.origin, lines, index);
      this.#records = records;
    }
    return this.#records;
  }

  /**
   * Two halves for bisection, left half first; together they settle what the whole would. Events that were split from
   * one record stay on one side while there is another place to cut; where there is none, only the last half settles
   * their common range. Undefined when there is a single record.
   */
  halves(): readonly [Batch, Batch] | undefined {
    const records = this.records;
    if (records.length < 2) return undefined;
    const middle = cutPlace(records);
    const isBorder = records[middle]!.range.start !== records[middle - 1]!.range.start;
    const border = isBorder ? records[middle]!.range.start : (this.ranges[0]?.start ?? 0);
    const left = this.ranges.map((range) => ({ start: range.start, end: Math.min(range.end, border) }));
    const right = this.ranges.map((range) => ({ start: Math.max(range.start, border), end: range.end }));
    return [this.#part(records.slice(0, middle), left), this.#part(records.slice(middle), right)];
  }

  /** Only the records that `keep` wants; the ranges stay, so that the left-out ones end with the batch. */
  filter(keep: (record: DataRecord) => boolean): Batch {
    const records = this.records;
    const kept = records.filter(keep);
    return kept.length === records.length ? this : this.withRecords(kept);
  }

  #part(records: readonly DataRecord[], ranges: readonly Range[]): Batch {
    const bytes = records.reduce((sum, record) => sum + record.range.end - record.range.start, 0);
    return new Batch(
      this.origin,
      ranges.filter((range) => range.start < range.end),
      this.memory,
      undefined,
      records,
      bytes,
    );
  }
}

/** The index nearest the middle where two neighbours come from different source records; else the middle. */
function cutPlace(records: readonly DataRecord[]): number {
  const middle = records.length >> 1;
  for (let distance = 0; distance <= middle; distance += 1) {
    for (const at of [middle - distance, middle + distance]) {
      if (at > 0 && at < records.length && records[at]!.range.start !== records[at - 1]!.range.start) return at;
    }
  }
  return middle;
}
