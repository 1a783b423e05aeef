import { createHash } from "node:crypto";
import type { ContentMark } from "../checkpoint/checkpoint-store.ts";
import type { FileHandle } from "../runtime/file-system.ts";

/** First bytes of a file that make its fingerprint; it grows while the file is shorter. */
export const FINGERPRINT_BYTES = 1024;
/** Bytes before a position that guard it. */
export const GUARD_BYTES = 256;

/** What marks are read from: an open file, or the decompressed content of an archive by content offset. */
export type ContentReader = Pick<FileHandle, "read">;

/** 128 bits of SHA-256: nobody can make two log files agree by chance or, where it matters, on purpose. */
const HASH_HEX_DIGITS = 32;

/** The mark of no bytes: tells nothing about the content. */
export const EMPTY_MARK: ContentMark = { length: 0, hash: hashOf(Buffer.alloc(0)) };

/** The mark of exactly these bytes. */
export function contentMark(bytes: Buffer): ContentMark {
  return { length: bytes.length, hash: hashOf(bytes) };
}

/** The same where they are to tell one file from another: NUL bytes are a hole that no program wrote, and tell nothing. */
export function tellingMark(bytes: Buffer): ContentMark {
  return bytes.some((byte) => byte !== 0) ? contentMark(bytes) : EMPTY_MARK;
}

function hashOf(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, HASH_HEX_DIGITS);
}

/** The bytes of [offset, offset + length) in memory of their own, fewer where the content ends. */
export async function readStretch(handle: ContentReader, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.max(0, length));
  let filled = 0;
  while (filled < bytes.length) {
    const count = await handle.read(bytes, filled, bytes.length - filled, offset + filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}
