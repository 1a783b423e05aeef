import { LineFramer } from "../codec/line-framer.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { type Content, UNKNOWN_SIZE } from "./content.ts";
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
  const size = stat.size === UNKNOWN_SIZE ? undefined : stat.size;
  if (!(await proveContent(state, content, size))) return undefined;
  // What the last one read and did not give out is read again.
  state.readEnd = state.offset;
  return stat;
}

/** Fewer NUL bytes than this at the start of a file whose truncation discovery did not see are its own. */
const LEAST_HOLE_BYTES = 16;

/**
 * Where the content begins to be a program's: behind the NUL bytes at its start that none wrote. A writer that does not
 * append goes on at its old offset after a truncation, seen or not, and the file then begins with a hole.
 *
 * @returns 0: no hole; `size`: nothing but NUL bytes so far, what comes is yet to be written
 */
export async function holeAtStart(
  state: FileState,
  content: Content,
  size: number,
  { maxBatchBytes, delimiter, encoding }: TailerOptions,
): Promise<number> {
  // Where a NUL byte ends a record, it is one.
  if (state.offset > 0 || delimiter.every((byte) => byte === 0)) return 0;
  const bytes = await holeLength(content, size, maxBatchBytes);
  if (bytes === size) return bytes;
  const isHole = state.generation > 0 || bytes >= LEAST_HOLE_BYTES;
  // Letters of two or four bytes begin where such a letter can.
  const width = /^utf-?(16|32)/i.test(encoding) ? 4 : 1;
  return isHole ? bytes - (bytes % width) : 0;
}

/** Reading begins behind the hole. Durable first, so that a replay skips the same bytes. False: stopped. */
export async function skipHole(
  state: FileState,
  content: Content,
  bytes: number,
  save: () => Promise<boolean>,
  { events, counters }: TailerOptions,
): Promise<boolean> {
  state.start = bytes;
  state.offset = bytes;
  state.readEnd = bytes;
  state.rangeFrom = 0;
  state.guard = Buffer.alloc(Math.min(GUARD_BYTES, bytes));
  await growFingerprint(state, content);
  if (!(await save())) return false;
  counters.holeBytes += bytes;
  const file = pathToText(state.path);
  const message = `${file} starts with a hole of ${bytes} bytes after its truncation; skipped`;
  events.emit("hole_skipped", message, { file, bytes });
  return true;
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
