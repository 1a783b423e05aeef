import type { FileStat } from "../runtime/file-system.ts";
import { type Content, readFully } from "./content.ts";
import type { FileState } from "./file-state.ts";
import { contentMark, FINGERPRINT_BYTES, GUARD_BYTES, readStretch, tellingMark } from "./fingerprint.ts";
import { judge } from "./judge.ts";

/**
 * The most that was seen of a file, to be asked for before a `stat` that is compared with it: while that is under way,
 * discovery may look at the path and see more, which does not make the answer wrong.
 */
export function sizeSeen(state: FileState): number {
  return Math.max(state.size, state.readEnd);
}

/** Of a file of which nothing was given out no guard tells a truncation; that there was more before (`seen`) does. */
export function hasShrunk(state: FileState, stat: FileStat, seen: number): boolean {
  return state.offset === 0 && stat.size < seen;
}

/**
 * Proves that what was read before is still there, by the judge whom discovery asks too, and takes the guard bytes of this
 * process. @param size of the content; undefined: not known (an archive)
 */
export async function proveContent(state: FileState, content: Content, size: number | undefined): Promise<boolean> {
  const length = Math.min(GUARD_BYTES, state.offset);
  const guard = Buffer.alloc(length);
  // Before the marks: if the content is right after this read, it was right during it.
  if ((await readFully(content, guard, 0, length, state.offset - length)) < length) return false;
  if (state.guard.length > 0 && !state.guard.equals(guard)) return false;
  const verdict = await judge(content, size, state);
  if (verdict === "other" || verdict === "shorter") return false;
  state.guard = guard;
  state.isUnproven = false;
  if (state.guards.newest.end < state.given) {
    // A target knows of more than the store (it was killed in between), or reading begins in the middle.
    const from = Math.max(0, state.given - GUARD_BYTES);
    state.guards.note({ end: state.given, mark: tellingMark(await readStretch(content, from, state.given - from)) });
  }
  return true;
}

/** Verifies the guard alone: the file was touched but has not grown. */
export async function hasGuard(state: FileState, content: Content): Promise<boolean> {
  const { guard } = state;
  if (guard.length === 0) return true;
  const bytes = Buffer.allocUnsafe(guard.length);
  const count = await readFully(content, bytes, 0, guard.length, state.offset - guard.length);
  return count === guard.length && bytes.equals(guard);
}

/**
 * Lengthens the fingerprint of a file that was short when it was taken; from `buffer`, which holds the content from
 * `bufferStart` on, where it holds the first bytes. False: they are not the ones known.
 */
export async function learnFingerprint(
  state: FileState,
  content: Content,
  buffer: Buffer,
  count: number,
  bufferStart: number,
): Promise<boolean> {
  const known = state.fingerprint.length;
  if (known >= FINGERPRINT_BYTES || known >= state.readEnd || state.start >= FINGERPRINT_BYTES) return true;
  if (bufferStart > 0) return growFingerprint(state, content);
  return count <= known || takeFingerprint(state, buffer.subarray(0, Math.min(count, FINGERPRINT_BYTES)));
}

/** The same from the content itself. */
export async function growFingerprint(state: FileState, content: Content): Promise<boolean> {
  const bytes = Buffer.allocUnsafe(FINGERPRINT_BYTES);
  const count = await readFully(content, bytes, 0, FINGERPRINT_BYTES, 0);
  return count >= state.fingerprint.length && takeFingerprint(state, bytes.subarray(0, count));
}

function takeFingerprint(state: FileState, first: Buffer): boolean {
  const { length, hash } = state.fingerprint;
  if (length > 0 && contentMark(first.subarray(0, length)).hash !== hash) return false;
  state.fingerprint = tellingMark(first);
  return true;
}

/** Length of the hole (NUL bytes that nobody wrote) that the content begins with; reads `chunkBytes` at a time. */
export async function holeLength(content: Content, size: number, chunkBytes: number): Promise<number> {
  const chunk = Buffer.alloc(Math.min(size, chunkBytes));
  const zeros = Buffer.alloc(chunk.length);
  let at = 0;
  while (at < size) {
    const count = await content.read(chunk, 0, chunk.length, at);
    if (count === 0) break;
    if (chunk.compare(zeros, 0, count, 0, count) !== 0) return at + chunk.findIndex((byte) => byte !== 0);
    at += count;
  }
  return at;
}
