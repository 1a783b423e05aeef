import { TailraceError } from "../errors.ts";

/** Bytes into `into[0, length)` from `offset` of the archive; 0 at its end. May be short. */
export type ReadAt = (into: Buffer, length: number, offset: number) => Promise<number>;

/**
 * How an archive ends, as far as it is there now:
 * - `whole`: every member, frame or stream of it is there, and its checksum is right
 * - `empty`: nothing has been written yet
 * - `cut`: it ends in the middle; perhaps the rest is yet to be written
 * - `trailing`: what is behind its last member is none, and is passed over
 * - `damaged`: what is at `at` cannot be decoded
 */
export interface ArchiveEnd {
  readonly kind: "whole" | "empty" | "cut" | "trailing" | "damaged";
  /** In plain words. */
  readonly reason: string;
  /** Byte of the archive; undefined where the program that decodes it does not tell. */
  readonly at: number | undefined;
}

/** What a decoder gives: content, or how the archive ends for now. Asked again after an end it looks for more. */
export type ArchivePiece = Buffer | ArchiveEnd;

/** The archive cannot be decoded from here on; decoders turn it into an `ArchiveEnd` of kind `damaged`. */
export class Damage extends Error {
  readonly at: number;

  constructor(at: number, reason: string) {
    super(reason);
    this.at = at;
  }
}

export function damagedEnd({ at, message }: Damage): ArchiveEnd {
  return { kind: "damaged", reason: message, at };
}

export function cutEnd(at: number, where: string): ArchiveEnd {
  return { kind: "cut", reason: `it ends too early, ${where}`, at };
}

/** The end between two members, at `at`. */
export function endBetween(at: number): ArchiveEnd {
  if (at === 0) return { kind: "empty", reason: "it is empty", at };
  return { kind: "whole", reason: "it is whole", at };
}

export function trailingEnd(at: number): ArchiveEnd {
  return { kind: "trailing", reason: `what follows its end at byte ${at} is no part of an archive`, at };
}

export function unsupported(what: string, cause?: unknown): TailraceError {
  return new TailraceError("TR_ARCHIVE_UNSUPPORTED", what, { cause });
}

/** One read, in a buffer of its own. */
export async function readSome(read: ReadAt, length: number, offset: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  return bytes.subarray(0, await read(bytes, length, offset));
}

/** Until `length` bytes are there or the archive ends. In a buffer of its own. */
export async function readUpTo(read: ReadAt, length: number, offset: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const count = await read(bytes.subarray(filled), length - filled, offset + filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

/** Padding that is read at once. */
const PADDING_BYTES = 64 * 1024;

/** The offset of the first byte from `offset` on that is no NUL: archives are padded with them. */
export async function skipPadding(read: ReadAt, offset: number): Promise<number> {
  // Nearly always there is no padding.
  let bytes = Buffer.allocUnsafe(16);
  for (let at = offset; ; ) {
    const count = await read(bytes, bytes.length, at);
    if (count === 0) return at;
    const index = bytes.subarray(0, count).findIndex((byte) => byte !== 0);
    if (index >= 0) return at + index;
    at += count;
    if (bytes.length < PADDING_BYTES) bytes = Buffer.allocUnsafe(PADDING_BYTES);
  }
}

/** The same reader, with small reads out of a block that was read ahead. */
export function readAhead(read: ReadAt): ReadAt {
  const block = Buffer.allocUnsafe(64 * 1024);
  let start = 0;
  let filled = 0;
  return async (into, length, offset) => {
    const isHeld = offset >= start && offset < start + filled;
    if (!isHeld) {
      if (length >= block.length) return read(into, length, offset);
      filled = 0;
      filled = await read(block, block.length, offset);
      start = offset;
    }
    return block.copy(into, 0, offset - start, Math.min(filled, offset - start + length));
  };
}
