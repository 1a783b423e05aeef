import { isUtf8 } from "node:buffer";
import type { Batch, DataRecord, Lines } from "../record/index.ts";
import { ByteWriter } from "./byte-writer.ts";
import { EventJson } from "./event-json.ts";

/**
 * What one record becomes at a sink:
 * - `json`: the event and a newline
 * - `text`: its `message` and a newline
 * - `raw`: the record's own source bytes and the source's delimiter
 */
export type Encoding = "json" | "text" | "raw";

/** Counts what encoding had to change. */
export interface EncodeTally {
  /** Records with bytes that are invalid in their encoding; each such byte sequence became U+FFFD. Never with `raw`. */
  replacedRecords: number;
}

/**
 * The bytes of a batch: buffers to be written back to back. They may be the batch's own memory, so they are valid until
 * it has settled.
 *
 * An untouched batch in `raw` is passed on as it is: no copy, no look at a line; so is valid UTF-8 in `text`.
 */
export function encodeBatch(batch: Batch, encoding: Encoding, tally?: EncodeTally): Buffer[] {
  const lines = batch.lines;
  if (lines === undefined)
    return encoding === "json" ? jsonOf(batch, tally) : encodeRecords(batch.records, encoding, tally);
  if (encoding === "raw") return rawOf(lines);
  if (isNothing(lines)) return [];
  const isValid = isValidUtf8(lines);
  if (encoding === "text" && isValid && isTextAlready(lines)) return [lines.bytes];
  if (encoding === "json" && isValid) return [eventsOf(batch, lines)];
  return encodeRecords(batch.records, encoding, tally);
}

/** The events of a batch of records; encoded once for all sinks, where its memory keeps what they become. */
function jsonOf(batch: Batch, tally?: EncodeTally): Buffer[] {
  if (batch.json !== undefined) return [batch.json];
  const { records } = batch;
  return written(records, "json", tally, (bytes) =>
    records.every(hasLineOfItsOwn) ? (batch.keepJson(bytes) ?? copyOf(bytes)) : copyOf(bytes),
  );
}

/** An untouched record is counted where its text is replaced, at each sink; one that is nothing has no line. */
function hasLineOfItsOwn(record: DataRecord): boolean {
  return !record.isUntouched && !(record.pieces.form === "lines" && isNothing(record.pieces));
}

/** The bytes of one record, newline or delimiter included. */
export function encodeRecord(record: DataRecord, encoding: Encoding, tally?: EncodeTally): Buffer {
  const parts = encodeRecords([record], encoding, tally);
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

/** The bytes of some records, in order: buffers to be written back to back. */
export function encodeRecords(records: readonly DataRecord[], encoding: Encoding, tally?: EncodeTally): Buffer[] {
  return encoding === "raw" ? rawOfRecords(records) : written(records, encoding, tally, copyOf);
}

const copyOf = (bytes: Buffer): Buffer => Buffer.from(bytes);

/** Writes the records into the scratch buffer; `keep` takes out of it what is to stay. */
function written(
  records: readonly DataRecord[],
  encoding: "json" | "text",
  tally: EncodeTally | undefined,
  keep: (bytes: Buffer) => Buffer,
): Buffer[] {
  const writer = scratch ?? new ByteWriter(SCRATCH_BYTES);
  // An event whose `toJSON` throws leaves it half full, and to the garbage collector.
  scratch = undefined;
  // Neighbours nearly always share their source bytes: what depends on those alone is made once for a run of them.
  let run: Run | undefined;
  for (const record of records) {
    const { pieces } = record;
    if (pieces.form === "lines" && isNothing(pieces)) continue;
    if (pieces.form === "lines" && record.isUntouched) {
      if (run?.lines !== pieces) run = { lines: pieces, isValid: isValidUtf8(pieces), json: undefined };
      writeUntouched(writer, record, run, encoding, tally);
    } else {
      writer.writeText(`${encoding === "json" ? JSON.stringify(record.event) : messageOf(record)}\n`);
    }
  }
  const bytes = writer.length === 0 ? [] : [keep(writer.take())];
  writer.length = 0;
  if (writer.buffer.length <= SCRATCH_BYTES) scratch = writer;
  return bytes;
}

/**
 * Events are written here first, since nobody knows how many bytes they become: buffers that grew are garbage of twice
 * the size, which V8 frees late. One is enough, as nothing here waits; a larger one is not kept.
 */
let scratch: ByteWriter | undefined;
const SCRATCH_BYTES = 512 * 1024;

interface Run {
  readonly lines: Lines;
  readonly isValid: boolean;
  json: EventJson | undefined;
}

function writeUntouched(
  writer: ByteWriter,
  record: DataRecord,
  run: Run,
  encoding: Encoding,
  tally?: EncodeTally,
): void {
  const { index } = record;
  const { lines } = run;
  if (!run.isValid) {
    if (tally !== undefined && hasInvalid(lines, index)) tally.replacedRecords += 1;
    writer.writeText(`${encoding === "json" ? JSON.stringify(record.event) : lines.textOf(index)}\n`);
    return;
  }
  const from = lines.startOf(index) - lines.offset;
  const to = lines.endOf(index) - lines.offset - lines.delimiterBytes;
  if (encoding === "json") {
    run.json ??= new EventJson(lines, record.origin);
    run.json.write(writer, from, to, lines.startOf(index));
  } else {
    writer.writeBytes(lines.bytes.subarray(from, to));
    writer.writeBytes(NEWLINE);
  }
}

const NEWLINE = Buffer.from("\n");

/** A whole untouched batch as JSON. */
function eventsOf(batch: Batch, lines: Lines): Buffer {
  const { bytes, ends, count, delimiterBytes, offset } = lines;
  const json = new EventJson(lines, batch.origin);
  const writer = new ByteWriter(json.expected(count, bytes.length));
  let start = 0;
  for (let index = 0; index < count; index += 1) {
    const end = ends[index]!;
    json.write(writer, start, end - delimiterBytes, offset + start);
    start = end;
  }
  return writer.take();
}

/** Kinds whose pieces get a delimiter in `raw` although their source bytes have none. */
function needsDelimiter(lines: Lines): boolean {
  return lines.kind === "cut" || lines.kind === "partial_end";
}

function rawOf(lines: Lines): Buffer[] {
  if (!needsDelimiter(lines)) return [lines.bytes];
  const parts: Buffer[] = [];
  for (let index = 0; index < lines.count; index += 1) {
    const bytes = lines.bytesOf(index);
    if (bytes.length > 0) parts.push(bytes);
    parts.push(lines.delimiter);
  }
  return parts;
}

/** Each record's own bytes once, also where a transform split it; neighbours in the source become one buffer. */
function rawOfRecords(records: readonly DataRecord[]): Buffer[] {
  const parts: Buffer[] = [];
  let lines: Lines | undefined;
  let from = 0;
  let to = 0;
  const flush = () => {
    if (lines !== undefined && to > from) parts.push(lines.bytes.subarray(from, to));
  };
  let previous: DataRecord | undefined;
  for (const record of records) {
    const { pieces } = record;
    if (previous?.pieces === pieces && previous.index === record.index) continue;
    previous = record;
    if (pieces.form === "messages") {
      flush();
      lines = undefined;
      if (record.bytes.length > 0) parts.push(record.bytes);
      parts.push(pieces.delimiter);
      continue;
    }
    const start = pieces.startOf(record.index) - pieces.offset;
    const end = pieces.endOf(record.index) - pieces.offset;
    if (lines !== pieces || start !== to) {
      flush();
      lines = pieces;
      from = start;
    }
    to = end;
    if (needsDelimiter(pieces)) {
      flush();
      lines = undefined;
      parts.push(pieces.delimiter);
    }
  }
  flush();
  return parts;
}

/** An unfinished line of no bytes at rotation's end: in `raw` it is the delimiter that was missing, elsewhere nothing. */
function isNothing(lines: Lines): boolean {
  return lines.kind === "partial_end" && lines.bytes.length === 0;
}

/** True where source bytes, delimiters included, are already messages with newlines. */
function isTextAlready(lines: Lines): boolean {
  return lines.delimiterBytes === 1 && lines.bytes[lines.bytes.length - 1] === 0x0a;
}

/** Pieces are cut at delimiters, which are whole characters, so valid bytes have only valid records; a cut piece is one. */
function isValidUtf8(lines: Lines): boolean {
  return lines.encoding === "utf-8" && isUtf8(lines.bytes);
}

function hasInvalid(lines: Lines, index: number): boolean {
  return lines.encoding === "utf-8" ? !isUtf8(lines.bytesOf(index)) : lines.textOf(index).includes("\ufffd");
}

function messageOf(record: DataRecord): string {
  const message = record.event["message"];
  if (typeof message === "string") return message;
  return message === undefined ? "" : JSON.stringify(message);
}
