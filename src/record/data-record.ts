import type { Lines } from "./lines.ts";
import type { Messages } from "./messages.ts";
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
  /** What was read together with this record: the source bytes it is a part of, or the messages it is one of. */
  readonly pieces: Lines | Messages;
  /** Index of the record within `pieces`. */
  readonly index: number;
  /** Which of several events that a transform made of one record; 0 for the first or only one. */
  readonly split: number;
  #event: EventFields | undefined;

  constructor(origin: Origin, pieces: Lines | Messages, index: number, event?: EventFields, split = 0) {
    this.origin = origin;
    this.pieces = pieces;
    this.index = index;
    this.split = split;
    this.#event = event;
  }

  /** The record's own bytes, without the delimiter. A view: valid until the batch has settled. */
  get bytes(): Buffer {
    return this.pieces.bytesOf(this.index);
  }

  /** Source offset of the record's first byte; the number of a message. */
  get offset(): number {
    return this.pieces.startOf(this.index);
  }

  /** The source range that ends when this record ends (the delimiter of a line included). */
  get range(): Range {
    return { start: this.pieces.startOf(this.index), end: this.pieces.endOf(this.index) };
  }

  /** Stable over restarts: hash(file key, generation) + `:` + offset, and `.N` for the N-th further event of a split. */
  get id(): string {
    const id = `${this.origin.recordIdPrefix}:${this.offset}`;
    return this.split === 0 ? id : `${id}.${this.split}`;
  }

  /** The event. Treat it as read-only: branches share it. Transforms make a new one: `record.with({ ...record.event, level })`. */
  get event(): EventFields {
    this.#event ??= this.pieces.eventOf(this.index, this.origin);
    return this.#event;
  }

  /** True while no transform has replaced the event of a line: the bytes alone say everything. Never for a message. */
  get isUntouched(): boolean {
    return this.#event === undefined && this.pieces.form === "lines";
  }

  /** The same record (id, range, bytes) with another event. */
  with(event: EventFields, split = this.split): DataRecord {
    return new DataRecord(this.origin, this.pieces, this.index, event, split);
  }
}
