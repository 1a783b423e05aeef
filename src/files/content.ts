import type { ArchiveMark } from "../checkpoint/checkpoint-store.ts";
import type { FileHandle, FileStat } from "../runtime/file-system.ts";

/**
 * Something whose bytes can be read by offset: an open file, or an archive seen as what is in it. A `FileHandle` is one.
 */
export interface Content {
  read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number>;
  /** `size` is that of the content; for an archive not read to its end it is `UNKNOWN_SIZE`. */
  stat(): Promise<FileStat>;
  /** Only of an archive whose end was reached; undefined again once it has changed. */
  readonly archive?: ArchiveMark | undefined;
  /** What stands behind an archive, is no part of it, and is passed over; in plain words. */
  readonly trailing?: string | undefined;
  close(): Promise<void>;
}

/** The only part that comparing needs. */
export type Readable = Pick<FileHandle, "read">;

/** Stands for a size not known yet; larger than any. */
export const UNKNOWN_SIZE = Number.MAX_SAFE_INTEGER;

/** Reads until `length` bytes are there or the content ends; how many it were. */
export async function readFully(
  content: Readable,
  into: Buffer,
  intoOffset: number,
  length: number,
  offset: number,
): Promise<number> {
  let done = 0;
  while (done < length) {
    const count = await content.read(into, intoOffset + done, length - done, offset + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

/** True if both hold the same bytes in [from, to). */
export async function isEqualStretch(a: Readable, b: Readable, from: number, to: number): Promise<boolean> {
  const length = to - from;
  if (length <= 0) return true;
  const left = Buffer.allocUnsafe(length);
  const right = Buffer.allocUnsafe(length);
  const [inLeft, inRight] = await Promise.all([
    readFully(a, left, 0, length, from),
    readFully(b, right, 0, length, from),
  ]);
  return inLeft === length && inRight === length && left.equals(right);
}

/** True if all of `part`, which is not empty, stands at the beginning of `whole`; for content whose size is not known. */
export async function isBeginningOf(part: Readable, whole: Readable): Promise<boolean> {
  const left = Buffer.allocUnsafe(64 * 1024);
  const right = Buffer.allocUnsafe(left.length);
  for (let offset = 0; ; ) {
    const count = await readFully(part, left, 0, left.length, offset);
    if (count === 0) return offset > 0;
    if ((await readFully(whole, right, 0, count, offset)) < count) return false;
    if (left.compare(right, 0, count, 0, count) !== 0) return false;
    offset += count;
  }
}
