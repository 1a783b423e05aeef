import { DataRecord } from "./data-record.ts";
import type { Lines } from "./lines.ts";
import type { Messages } from "./messages.ts";
import type { Origin } from "./origin.ts";
import { PackedEvents } from "./packed-events.ts";
import type { Range } from "./position.ts";

/** Memory that a batch lives in, counted by reference: one per branch that still needs the bytes. */
export interface Memory {
  /** Bytes taken from the budget. */
  readonly byteLength: number;
  retain(): void;
  /** Gives one reference back; at the last the memory may be reused at once. */
  release(): void;
  /** For memory that also counts events: they are written, and kept only until a commit. */
  keep?(): void;
  /** For memory that also counts events: a copy of what they are as JSON, which lives as long as this memory. */
  keepJson?(json: Buffer): Buffer;
  /**
   * The same without the events and with the `json` that `keepJson` gave, as a reference of its own, to be released beside
   * the one that there is.
   */
  packed?(json: Buffer): Memory | undefined;
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
  #packed: PackedEvents | undefined;
  #json: Buffer | undefined;
  #together: readonly Batch[] | undefined;
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
   * that numbers which hold no message end as well; several, ascending, where numbers in between are somebody else's.
   * `byteLength`: memory that the messages take, bodies and events.
   */
  static ofMessages(
    origin: Origin,
    messages: Messages,
    range: Range | readonly Range[],
    byteLength: number,
    memory = plainMemory,
  ): Batch {
    const records = Array.from({ length: messages.count }, (_, index) => new DataRecord(origin, messages, index));
    const ranges = "start" in range ? [range] : range;
    return new Batch(origin, ranges, memory, undefined, records, byteLength);
  }

  /**
   * Batches of one origin as one, in their order, that settles what they would: a single `write` instead of several. Takes
   * over their references.
   */
  static together(batches: readonly [Batch, ...Batch[]]): Batch {
    const [first] = batches;
    if (batches.length === 1) return first;
    const ranges = batches.flatMap((batch) => batch.ranges);
    const bytes = batches.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const memory = new SharedMemory(batches.map((batch) => batch.memory));
    const batch = new Batch(first.origin, ranges, memory, undefined, undefined, bytes);
    batch.#together = batches;
    return batch;
  }

  /** The same ranges and memory with other records: what a transform leaves. */
  withRecords(records: readonly DataRecord[]): Batch {
    return new Batch(this.origin, this.ranges, this.memory, undefined, records, this.#byteLength);
  }

  /** The same, in other memory: what somebody else counts. */
  withMemory(memory: Memory): Batch {
    const batch = new Batch(this.origin, this.ranges, memory, this.lines, this.#records, this.#byteLength);
    batch.#packed = this.#packed;
    batch.#json = this.#json;
    batch.#together = this.#together;
    return batch;
  }

  /** The same ranges with other events, which stand as JSON; `json` is theirs, and lives as long as `memory`. */
  withPacked(packed: PackedEvents, json: Buffer, memory: Memory): Batch {
    const batch = new Batch(this.origin, this.ranges, memory, undefined, undefined, this.#byteLength);
    batch.#packed = packed;
    batch.#json = json;
    return batch;
  }

  /** The same, which tells another origin of its end; as a source made it. */
  withOrigin(origin: Origin): Batch {
    return new Batch(origin, this.ranges, this.memory, this.lines, this.#records, this.#byteLength);
  }

  /** The same ranges and records, which stand somewhere else: of `lines`, `records` and `packed` exactly one. */
  copied(copy: {
    readonly origin: Origin;
    readonly memory: Memory;
    readonly lines?: Lines;
    readonly records?: readonly DataRecord[];
    readonly packed?: { readonly events: PackedEvents; readonly json: Buffer };
  }): Batch {
    const batch = new Batch(copy.origin, this.ranges, copy.memory, copy.lines, copy.records, this.#byteLength);
    batch.#packed = copy.packed?.events;
    batch.#json = copy.packed?.json;
    return batch;
  }

  /** Records in it. */
  get count(): number {
    return (
      this.lines?.count ??
      this.#records?.length ??
      this.#packed?.count ??
      this.#together!.reduce((sum, { count }) => sum + count, 0)
    );
  }

  /** Size that counts against `capacityBytes`: the source bytes. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** The records; made on first use for an untouched batch. */
  get records(): readonly DataRecord[] {
    if (this.#together !== undefined) {
      this.#records ??= this.#together.flatMap(({ records }) => records);
    } else if (this.#packed !== undefined) {
      this.#records ??= this.#packed.records();
    } else if (this.#records === undefined) {
      const lines = this.lines!;
      const records = new Array<DataRecord>(lines.count);
      for (let index = 0; index < lines.count; index += 1) records[index] = new DataRecord(this.origin, lines, index);
      this.#records = records;
    }
    return this.#records;
  }

  /** All events as JSON, one line each, where an encoder has left them: for the next sink, and for `packed`. */
  get json(): Buffer | undefined {
    const parts = this.#together?.map(({ json }) => json);
    if (parts?.every((json) => json !== undefined)) this.#json ??= Buffer.concat(parts);
    return this.#json;
  }

  /** Leaves a copy of the events as JSON, valid as long as the batch's memory; undefined where the memory takes none. */
  keepJson(lines: Buffer): Buffer | undefined {
    this.#json = this.memory.keepJson?.(lines);
    return this.#json;
  }

  /**
   * The same batch without its events, to be kept until a commit, in memory of its own that is to be released; undefined
   * where its memory counts no events, or there is nothing to make them of (`json`).
   */
  packed(): Batch | undefined {
    if (this.lines !== undefined || this.#json === undefined || this.count === 0) return undefined;
    const memory = this.memory.packed?.(this.#json);
    if (memory === undefined) return undefined;
    return this.withPacked(this.#packed ?? PackedEvents.of(this.records, this.#json), this.#json, memory);
  }

  /**
   * Untouched lines in parts of about `maxBytes` and `maxRecords` at most, in order, which together settle what the whole
   * would; each takes a reference of the memory, the first one this batch's own. Itself, where it is no larger or no lines.
   */
  parts(maxRecords: number, maxBytes: number): Batch[] {
    const { lines } = this;
    if (lines === undefined || (lines.count <= maxRecords && lines.bytes.length <= maxBytes)) return [this];
    const parts: Batch[] = [];
    for (let from = 0; from < lines.count; ) {
      let to = from + 1;
      const start = lines.startOf(from);
      while (to < lines.count && to - from < maxRecords && lines.endOf(to) - start <= maxBytes) to += 1;
      const first = from === 0 ? 0 : start;
      const end = to === lines.count ? Number.POSITIVE_INFINITY : lines.startOf(to);
      const ranges = clipped(this.ranges, first, end);
      const bytes = lines.endOf(to - 1) - start;
      if (parts.length > 0) this.memory.retain();
      parts.push(new Batch(this.origin, ranges, this.memory, lines.slice(from, to), undefined, bytes));
      from = to;
    }
    return parts;
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
    const left = clipped(this.ranges, 0, border);
    const right = clipped(this.ranges, border, Number.POSITIVE_INFINITY);
    return [this.part(records.slice(0, middle), left), this.part(records.slice(middle), right)];
  }

  /** Only the records that `keep` wants; the ranges stay, so that the left-out ones end with the batch. */
  filter(keep: (record: DataRecord) => boolean): Batch {
    const records = this.records;
    const kept = records.filter(keep);
    return kept.length === records.length ? this : this.withRecords(kept);
  }

  /** Some of its records, with what of the origin ends with them; the memory stays the whole batch's. */
  part(records: readonly DataRecord[], ranges: readonly Range[]): Batch {
    const bytes = records.reduce((sum, record) => sum + record.range.end - record.range.start, 0);
    return new Batch(this.origin, ranges, this.memory, undefined, records, bytes);
  }
}

/** Memory of batches that go on as one. */
class SharedMemory implements Memory {
  readonly byteLength: number;
  readonly #memories: readonly Memory[];

  constructor(memories: readonly Memory[]) {
    this.#memories = memories;
    this.byteLength = memories.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  retain(): void {
    for (const memory of this.#memories) memory.retain();
  }

  release(): void {
    for (const memory of this.#memories) memory.release();
  }

  keep(): void {
    for (const memory of this.#memories) memory.keep?.();
  }
}

/** What of the ranges lies from `start` to before `end`. */
function clipped(ranges: readonly Range[], start: number, end: number): Range[] {
  return ranges
    .map((range) => ({ start: Math.max(range.start, start), end: Math.min(range.end, end) }))
    .filter((range) => range.start < range.end);
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
