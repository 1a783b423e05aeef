import { createHash } from "node:crypto";
import type { ContentMark, FileEntry } from "../checkpoint/checkpoint-store.ts";
import type { FileHandle } from "../runtime/file-system.ts";

/** First bytes of a file that make its fingerprint; it grows while the file is shorter. */
export const FINGERPRINT_BYTES = 1024;
/** Bytes before a position that guard it. */
export const GUARD_BYTES = 256;

/** What marks are read from: an open file, or the decompressed content of an archive by content offset. */
export type ContentReader = Pick<FileHandle, "read">;

/** 128 bits of SHA-256: nobody can make two log files agree by chance or, where it matters, on purpose. */
const HASH_HEX_DIGITS = 32;

/** The mark of exactly these bytes. */
export function contentMark(bytes: Buffer): ContentMark {
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, HASH_HEX_DIGITS);
  return { length: bytes.length, hash };
}

/**
 * The mark of the first bytes: `length` of them (default 1 KiB), fewer where `size` or the content is smaller. One of
 * length 0 tells nothing about the content.
 */
export async function readFingerprint(
  handle: ContentReader,
  size: number,
  length: number = FINGERPRINT_BYTES,
): Promise<ContentMark> {
  return contentMark(await readStretch(handle, 0, Math.min(length, size)));
}

/** The mark of the up to 256 bytes that end at `end`; shorter by what the content lacks there. */
export async function readGuard(handle: ContentReader, end: number): Promise<ContentMark> {
  const start = Math.max(0, end - GUARD_BYTES);
  return contentMark(await readStretch(handle, start, end - start));
}

/**
 * Whether content is what an entry was made of: equal first bytes over the stored length, and equal bytes before the
 * stored position.
 *
 * - `match`: both are equal
 * - `mismatch`: one differs; also where the stored fingerprint is empty, as that matches by inode only
 * - `shorter`: nothing differs as far as can be told, but the content ends before what was marked (a copy that still grows, or a
 *   truncated file)
 */
export async function marksMatch(
  handle: ContentReader,
  entry: Pick<FileEntry, "fingerprint" | "guard" | "guardEnd">,
): Promise<"match" | "mismatch" | "shorter"> {
  const { fingerprint, guard, guardEnd } = entry;
  if (fingerprint.length === 0) return "mismatch";
  const first = await readStretch(handle, 0, fingerprint.length);
  // A hash of more bytes than there are says nothing about these.
  if (first.length < fingerprint.length) return "shorter";
  if (contentMark(first).hash !== fingerprint.hash) return "mismatch";
  const before = await readStretch(handle, guardEnd - guard.length, guard.length);
  if (before.length < guard.length) return "shorter";
  return contentMark(before).hash === guard.hash ? "match" : "mismatch";
}

/** The bytes of [offset, offset + length) in memory of their own, fewer where the content ends. */
async function readStretch(handle: ContentReader, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(Math.max(0, length));
  let filled = 0;
  while (filled < bytes.length) {
    const count = await handle.read(bytes, filled, bytes.length - filled, offset + filled);
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}
