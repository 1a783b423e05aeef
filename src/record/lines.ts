import type { EventFields } from "./data-record.ts";
import type { Origin } from "./origin.ts";

/**
 * What kind of pieces a `Lines` holds:
 * - `whole`: complete lines, each with its delimiter in `bytes`
 * - `cut`: one piece of a line longer than `max_line_bytes`, more of it follows; no delimiter in `bytes`
 * - `cut_end`: the last piece of such a line, delimiter in `bytes`
 * - `partial`: an unfinished line that may still grow (time-out, `--once`); no delimiter
 * - `partial_end`: an unfinished line that never will (rotation's end); no delimiter
 */
export type LineKind = "whole" | "cut" | "cut_end" | "partial" | "partial_end";

const NEWLINE = Buffer.from("\n");

/** A stretch of source bytes holding `count` records back to back, with an index of where each one ends. */
export class Lines {
  readonly form = "lines";
  /** The bytes, delimiters included. Valid until the batch has settled; they may be in pooled memory. */
  readonly bytes: Buffer;
  /** Source offset of `bytes[0]`. */
  readonly offset: number;
  /** End of each record within `bytes`, delimiter included; only the first `count` entries count. */
  readonly ends: Uint32Array;
  readonly count: number;
  readonly kind: LineKind;
  /** Bytes of the delimiter at the end of each record; 0 for pieces that have none. */
  readonly delimiterBytes: number;
  /** The source's delimiter, also where the pieces have none; what `raw` adds to a piece that needs one. */
  readonly delimiter: Buffer;
  /** Wall clock at reading, milliseconds; the default `timestamp`. */
  readonly readAtMs: number;
  /** The `host` field. */
  readonly host: string;
  /** WHATWG label of the bytes' encoding. */
  readonly encoding: string;
  #readAt: string | undefined;

  constructor(options: {
    bytes: Buffer;
    offset: number;
    ends: Uint32Array;
    count: number;
    kind: LineKind;
    delimiterBytes: number;
    delimiter?: Buffer;
    readAtMs: number;
    host: string;
    encoding?: string;
  }) {
    this.bytes = options.bytes;
    this.offset = options.offset;
    this.ends = options.ends;
    this.count = options.count;
    this.kind = options.kind;
    this.delimiterBytes = options.delimiterBytes;
    this.delimiter = options.delimiter ?? NEWLINE;
    this.readAtMs = options.readAtMs;
    this.host = options.host;
    this.encoding = options.encoding ?? "utf-8";
  }

  /** The records from `from` to before `to`, as lines of their own over the same bytes. */
  slice(from: number, to: number): Lines {
    const start = from === 0 ? 0 : this.ends[from - 1]!;
    const ends = this.ends.slice(from, to);
    for (let index = 0; index < ends.length; index += 1) ends[index]! -= start;
    const bytes = this.bytes.subarray(start, this.ends[to - 1]!);
    return new Lines({ ...this, bytes, offset: this.offset + start, ends, count: to - from });
  }

  /** Source offset where record `index` starts. */
  startOf(index: number): number {
    return this.offset + (index === 0 ? 0 : this.ends[index - 1]!);
  }

  /** Source offset just behind record `index`, delimiter included. */
  endOf(index: number): number {
    return this.offset + this.ends[index]!;
  }

  /** Bytes of record `index` without its delimiter. */
  bytesOf(index: number): Buffer {
    return this.bytes.subarray(index === 0 ? 0 : this.ends[index - 1]!, this.ends[index]! - this.delimiterBytes);
  }

  /** Text of record `index` without its delimiter; bytes that are invalid in `encoding` become U+FFFD. */
  textOf(index: number): string {
    const from = index === 0 ? 0 : this.ends[index - 1]!;
    const to = this.ends[index]! - this.delimiterBytes;
    if (this.encoding === "utf-8") return this.bytes.toString("utf8", from, to);
    return new TextDecoder(this.encoding, { ignoreBOM: true }).decode(this.bytes.subarray(from, to));
  }

  /** The event of record `index` as it is before any transform. */
  eventOf(index: number, origin: Origin): EventFields {
    this.#readAt ??= new Date(this.readAtMs).toISOString();
    const event: EventFields = {
      timestamp: this.#readAt,
      message: this.textOf(index),
      source: origin.source,
    };
    if (origin.file !== undefined) event["file"] = origin.file;
    event["offset"] = this.startOf(index);
    event["host"] = this.host;
    if (this.kind === "cut" || this.kind === "cut_end") event["cut"] = true;
    if (this.kind === "partial" || this.kind === "partial_end") event["partial"] = true;
    return event;
  }
}
