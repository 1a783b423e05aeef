import { type ArchiveEnd, type ArchivePiece, endBetween, type ReadAt } from "./archive-end.ts";
import { gzipContent } from "./decompress-gzip.ts";
import { programContent } from "./decompress-program.ts";
import { zstdContent } from "./zstd.ts";

export type { ArchiveEnd, ReadAt } from "./archive-end.ts";

/** How a rotated file may be compressed. */
export type CompressionFormat = "gzip" | "zstd" | "xz" | "bzip2";

const ENDINGS: readonly (readonly [string, CompressionFormat])[] = [
  [".gz", "gzip"],
  [".zst", "zstd"],
  [".xz", "xz"],
  [".bz2", "bzip2"],
];

/** The format that a file's name tells, if any. Only the ending counts, in any case: `app.log.gz`, `APP.GZ`. */
export function formatOfName(name: string): CompressionFormat | undefined {
  return endingOf(name)?.[1];
}

/** A name without the ending of its format: `app.log.1.gz` is `app.log.1`. */
export function withoutFormatEnding(name: string): string {
  const ending = endingOf(name)?.[0] ?? "";
  return name.slice(0, name.length - ending.length);
}

function endingOf(name: string): readonly [string, CompressionFormat] | undefined {
  // The longest ending has four bytes: not the whole of a long name is looked at, ten thousand of them in a folder.
  const tail = name.slice(-4).toLowerCase();
  return ENDINGS.find(([ending]) => name.length > ending.length && tail.endsWith(ending));
}

/**
 * The content of an archive, in buffers of at most 128 KiB that are the caller's to keep, and how it ends. Concatenated
 * members, streams or frames are one content. The memory taken does not grow with the archive. Content comes out before
 * the checksum behind it was verified; ask `archiveEnd` first where that matters. Of a damaged archive everything that
 * can be decoded before the damage comes out.
 *
 *     bytes, bytes, ..., end --(asked again: the archive has grown?)--> bytes, ..., end ...
 *
 * Nothing follows an end of kind `damaged`. `read` is never called twice at a time, nor after the generator has ended
 * (`return()`, or leaving the loop, included).
 *
 * @throws TailraceError `TR_ARCHIVE_UNSUPPORTED` where a program is missing or a feature is not known; whatever `read`
 *   throws
 */
export async function* decompress(format: CompressionFormat, read: ReadAt): AsyncGenerator<ArchivePiece> {
  let isOver = false;
  let reading: Promise<unknown> = Promise.resolve();
  const readWatched: ReadAt = async (into, length, offset) => {
    if (isOver) return 0;
    const pending = read(into, length, offset);
    reading = pending.catch(() => undefined);
    return pending;
  };
  try {
    yield* contentOf(format, readWatched);
  } finally {
    // The streams read ahead; the caller closes the file next.
    isOver = true;
    await reading;
  }
}

/**
 * How the first `size` bytes of an archive end. Reads and decodes all of it, in bounded memory.
 *
 * @throws like `decompress`
 */
export async function archiveEnd(format: CompressionFormat, read: ReadAt, size: number): Promise<ArchiveEnd> {
  const readBounded: ReadAt = async (into, length, offset) =>
    offset >= size ? 0 : read(into, Math.min(length, size - offset), offset);
  for await (const piece of decompress(format, readBounded)) if (!Buffer.isBuffer(piece)) return piece;
  return endBetween(size);
}

function contentOf(format: CompressionFormat, read: ReadAt): AsyncGenerator<ArchivePiece> {
  if (format === "gzip") return gzipContent(read);
  if (format === "zstd") return zstdContent(read);
  return programContent(format, read);
}
