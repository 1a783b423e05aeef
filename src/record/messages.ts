import type { EventFields } from "./data-record.ts";
import type { LineKind } from "./lines.ts";
import type { Origin } from "./origin.ts";

const NEWLINE = Buffer.from("\n");

/** One message of a queue, a row, a time slot: what arrives as a whole and not as bytes of a file. */
export interface Message {
  /**
   * Its place in the origin, in the origin's own unit (offset in a partition, sequence number, cursor value): a safe
   * integer, rising within one `Messages`. The record's range is `[number, number + 1)`.
   */
  readonly number: number;
  /** The body as it came; what `raw` writes, followed by a newline. */
  readonly body: Buffer;
  /** The fields that it brings; they stand behind `timestamp`, `source` and `host`, and win over them. */
  readonly fields: EventFields;
}

/**
 * Messages read together, the counterpart of `Lines` for sources whose records are no lines. What lies between two
 * numbers (removed by compaction, or never used) holds no record; the batch's ranges cover it.
 */
export class Messages {
  readonly form = "messages";
  readonly kind: LineKind = "whole";
  readonly delimiterBytes = 0;
  readonly delimiter: Buffer = NEWLINE;
  readonly encoding = "utf-8";
  readonly readAtMs: number;
  readonly host: string;
  readonly #messages: readonly Message[];
  #readAt: string | undefined;

  constructor(messages: readonly Message[], options: { readonly readAtMs: number; readonly host: string }) {
    this.#messages = messages;
    this.readAtMs = options.readAtMs;
    this.host = options.host;
  }

  get count(): number {
    return this.#messages.length;
  }

  startOf(index: number): number {
    return this.#messages[index]!.number;
  }

  endOf(index: number): number {
    return this.#messages[index]!.number + 1;
  }

  bytesOf(index: number): Buffer {
    return this.#messages[index]!.body;
  }

  /** The event of message `index` as it is before any transform; a fresh object each time. */
  eventOf(index: number, origin: Origin): EventFields {
    this.#readAt ??= new Date(this.readAtMs).toISOString();
    // Spread makes own fields, also of a key named __proto__ (ECMA-262, CopyDataProperties).
    return { timestamp: this.#readAt, source: origin.source, host: this.host, ...this.#messages[index]!.fields };
  }
}
