import type { Batch, DataRecord } from "../record/index.ts";
import { type Encoding, encodeBatch, encodeRecord } from "./encode.ts";

const NEWLINE = 0x0a;

/** One record and what a message of it holds. */
export interface RecordBody {
  readonly record: DataRecord;
  /** Without a newline or delimiter behind it. May be the batch's own memory: valid until it has settled. */
  readonly body: Buffer;
}

/**
 * The bodies for a target that takes one message a record. A record that is nothing (an unfinished line of no bytes at
 * a rotation's end) has none and is left out.
 */
export function encodeBodies(batch: Batch, encoding: Encoding): RecordBody[] {
  const { records } = batch;
  if (encoding === "raw") return records.map((record) => ({ record, body: record.bytes }));
  if (encoding === "json") {
    // JSON has no newline inside: a batch is encoded at once and cut.
    const bodies = linesOf(encodeBatch(batch, "json"));
    if (bodies.length === records.length) return bodies.map((body, index) => ({ record: records[index]!, body }));
  }
  return records.flatMap((record) => {
    const line = encodeRecord(record, encoding);
    return line.length === 0 ? [] : [{ record, body: line.subarray(0, line.length - 1) }];
  });
}

function linesOf(parts: readonly Buffer[]): Buffer[] {
  const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  const lines: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(NEWLINE, start);
    lines.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return lines;
}
