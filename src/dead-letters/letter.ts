import { createHash } from "node:crypto";
import { Batch, type DataRecord, type EventFields, type LineKind, Lines, type Range } from "../record/index.ts";

/** A record that a sink or a transform refused for good, with everything needed to send it to that component again. */
export interface DeadLetter {
  /** Stable: the same record refused again by the same component has the same id. */
  readonly id: string;
  /** Name of the sink or transform that refused it. */
  readonly component: string;
  /** In plain words. */
  readonly reason: string;
  /** Writes that were tried. */
  readonly attempts: number;
  /** RFC 3339 UTC: when it was refused. */
  readonly time: string;
  /** The event as the component was handed it. */
  readonly event: EventFields;
  /** The record's own bytes without the delimiter, base64. */
  readonly raw: string;
  readonly record: LetterRecord;
}

/** Where the record came from, and how to make it again with the same id. */
interface LetterRecord {
  readonly id: string;
  readonly source: string;
  /** Key of the origin: the file's generation, the partition. */
  readonly originKey: string;
  readonly recordIdPrefix: string;
  /** Null where there is no file. */
  readonly file: string | null;
  readonly offset: number;
  readonly split: number;
  /** No transform had replaced the event: it follows from the bytes. */
  readonly isUntouched: boolean;
  readonly kind: LineKind;
  readonly delimiterBytes: number;
  /** Base64. */
  readonly delimiter: string;
  readonly encoding: string;
  readonly readAtMs: number;
  readonly host: string;
}

/** 64 bits: plenty for what one store ever holds. */
function letterId(component: string, recordId: string): string {
  return createHash("sha256").update(`${component}\0${recordId}`).digest("hex").slice(0, 16);
}

/** A letter about a record. Copies the bytes: it outlives the batch. */
export function letterOf(
  record: DataRecord,
  about: { readonly component: string; readonly reason: string; readonly attempts: number; readonly nowMs: number },
): DeadLetter {
  const { pieces, origin } = record;
  // Asking for the event makes the record a touched one.
  const { isUntouched } = record;
  return {
    id: letterId(about.component, record.id),
    component: about.component,
    reason: about.reason,
    attempts: about.attempts,
    time: new Date(about.nowMs).toISOString(),
    event: isUntouched ? pieces.eventOf(record.index, origin) : record.event,
    raw: record.bytes.toString("base64"),
    record: {
      id: record.id,
      source: origin.source,
      originKey: origin.key,
      recordIdPrefix: origin.recordIdPrefix,
      file: origin.file ?? null,
      offset: record.offset,
      split: record.split,
      isUntouched,
      kind: pieces.kind,
      delimiterBytes: pieces.delimiterBytes,
      delimiter: pieces.delimiter.toString("base64"),
      encoding: pieces.encoding,
      readAtMs: pieces.readAtMs,
      host: pieces.host,
    },
  };
}

/**
 * The record again, as a batch of its own for the input of `letter.component`: same id, bytes, event and offset. Its
 * origin is one that nobody stores positions for; `onSettled` is called after the commit that covers its ending.
 */
export function batchOf(letter: DeadLetter, onSettled: (ranges: readonly Range[]) => void): Batch {
  const { record } = letter;
  const own = Buffer.from(letter.raw, "base64");
  const delimiter = Buffer.from(record.delimiter, "base64");
  const bytes = record.delimiterBytes === 0 ? own : Buffer.concat([own, delimiter]);
  const lines = new Lines({
    bytes,
    offset: record.offset,
    ends: Uint32Array.of(bytes.length),
    count: 1,
    kind: record.kind,
    delimiterBytes: record.delimiterBytes,
    delimiter,
    encoding: record.encoding,
    readAtMs: record.readAtMs,
    host: record.host,
  });
  const origin = {
    source: record.source,
    key: `dead-letter:${letter.id}`,
    kind: "acknowledged" as const,
    mustArrive: true as const,
    recordIdPrefix: record.recordIdPrefix,
    file: record.file ?? undefined,
    onSettled,
  };
  const batch = Batch.ofLines(origin, lines);
  if (record.isUntouched && record.split === 0) return batch;
  return batch.withRecords(batch.records.map((whole) => whole.with(letter.event, record.split)));
}
