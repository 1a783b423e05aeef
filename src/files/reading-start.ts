import { LineFramer } from "../codec/line-framer.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { Content } from "./content.ts";
import { growFingerprint, hasShrunk, holeLength, proveContent, sizeSeen } from "./content-proof.ts";
import type { FileState } from "./file-state.ts";
import { GUARD_BYTES } from "./fingerprint.ts";
import type { TailerOptions } from "./tailer-options.ts";

/** Looks at content that was just opened; undefined: it is not what was read up to `state.offset`. */
export async function provenStat(state: FileState, content: Content): Promise<FileStat | undefined> {
  const seen = sizeSeen(state);
  const stat = await content.stat();
  if (state.startAt !== undefined) {
    state.offset = Math.min(state.startAt, stat.size);
    state.start = state.offset;
    state.readEnd = state.offset;
    state.rangeFrom = state.offset > 0 ? 0 : undefined;
    state.startAt = undefined;
  }
  if (stat.size < state.offset || hasShrunk(state, stat, seen)) return undefined;
  return (await proveContent(state, content)) ? stat : undefined;
}

/**
 * A writer that does not append goes on at its old offset after a truncation: the file then begins with a hole, which
 * reads as NUL bytes that nobody wrote. Reading begins behind it.
 */
export async function skipHole(
  state: FileState,
  content: Content,
  size: number,
  save: () => Promise<boolean>,
  { events, counters, maxBatchBytes }: TailerOptions,
): Promise<void> {
  const bytes = await holeLength(content, size, maxBatchBytes);
  // Nothing but NUL bytes: perhaps the data is yet to come. It is looked at again when there is more.
  if (bytes === 0 || bytes >= size) return;
  state.start = bytes;
  state.offset = bytes;
  state.readEnd = bytes;
  state.rangeFrom = 0;
  state.guard = Buffer.alloc(Math.min(GUARD_BYTES, bytes));
  await growFingerprint(state, content);
  // Durable first, so that a replay skips the same bytes.
  await save();
  counters.holeBytes += bytes;
  const file = pathToText(state.path);
  const message = `${file} starts with a hole of ${bytes} bytes after its truncation; skipped`;
  events.emit("hole_skipped", message, { file, bytes });
}

/** Frames what follows `state.offset`, as it was framed before. */
export function framerAt(state: FileState, options: TailerOptions): LineFramer {
  const { positions, maxLineBytes, delimiter, encoding, host } = options;
  const stored = positions.boundariesOf(state.key);
  return new LineFramer({
    delimiter,
    maxLineBytes,
    encoding,
    host,
    boundaries: [...new Set([...stored, ...state.boundaries])].sort((a, b) => a - b),
    start: state.offset,
    resumesAfter: whatPrecedes(state, delimiter),
  });
}

function whatPrecedes(state: FileState, delimiter: Buffer): "line" | "cut" | "partial" {
  if (state.resumesAfter !== undefined) return state.resumesAfter;
  if (state.offset === 0 || state.offset === state.start) return "line";
  if (state.boundaries.includes(state.offset)) return "partial";
  const tail = state.guard.subarray(Math.max(0, state.guard.length - delimiter.length));
  return tail.equals(delimiter) ? "line" : "cut";
}
