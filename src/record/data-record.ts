import type { Lines } from "./lines.ts";
import type { Origin } from "./origin.ts";
import type { Range } from "./position.ts";

/** An event: what transforms see and what `encoding = "json"` writes. */
export type EventFields = { [field: string]: unknown };

/**
 * One datum on its way. Its bytes stay where they were read and its event is made only when somebody asks, so that a
 * stage that passes records through costs nothing per record.
 */
export class DataRecord {
  /** Where the record came from; its range in it is `range`. */
  readonly origin: Origin;
  /** The source bytes this record is a part of. */
  readonly lines: Lines;
  /** Index of the record within `lines`. */
  readonly index: number;
  /** Which of several events that a transform made of one record; 0 for the first or only one. */
  readonly split: number;
  #event: EventFields | undefined;

  constructor(origin: Origin, lines: Lines, index: number, event?: EventFields, split = 0) {
    this.origin = origin;
    this.lines = lines;
    this.index = index;
    this.split = split;
    this.#event = event;
  }

  /** The record's own bytes, without the delimiter. A view: valid until the batch has settled. */
  get bytes(): Buffer {
    return this.lines.bytesOf(this.index);
  }

  /** Source offset of the record's first byte. */
  get offset(): number {
    return this.lines.startOf(this.index);
  }

  /** The source range that ends when this record ends (delimiter included). */
  get range(): Range {
    return { start: this.lines.startOf(this.index), end: this.lines.endOf(this.index) };
  }

  /** Stable over restarts: hash(file key, generation) + `:` + offset, and `.N` for the N-th further event of a split. */
  get id(): string {
    const id = `${this.origin.recordIdPrefix}:${this.offset}`;
    return this.split === 0 ? id : `${id}.${this.split}`;
  }

  /** The event. Treat it as read-only: branches share it. Transforms make a new one: `record.with({ ...record.event, level })`. */
  get event(): EventFields {
    this.#event ??= this.lines.eventOf(this.index, this.origin);
    return this.#event;
  }

  /** True while no transform has replaced the event: the bytes alone say everything. */
  get isUntouched(): boolean {
    return this.#event === undefined;
  }

  /** The same record (id, range, bytes) with another event. */
  with(event: EventFields, split = this.split): DataRecord {
    return new DataRecord(this.origin, this.lines, this.index, event, split);
  }
}
