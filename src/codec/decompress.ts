import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { errnoOf, TailraceError, toError } from "../errors.ts";
import { type ReadAt, zstdContent } from "./zstd.ts";

export type { ReadAt } from "./zstd.ts";

/** How a rotated file may be compressed. */
export type CompressionFormat = "gzip" | "zstd" | "xz" | "bzip2";

const ENDINGS: readonly (readonly [string, CompressionFormat])[] = [
  [".gz", "gzip"],
  [".zst", "zstd"],
  [".xz", "xz"],
  [".bz2", "bzip2"],
];

/**
 * What has no decoder here is handed to the program that made it, as logrotate does. Each decodes all streams of an
 * archive, verifies their checksums, and ends with a non-zero code where one is damaged.
 */
const PROGRAMS = {
  // A dictionary of 64 MiB is the largest that `xz -9` makes; it needs a little more.
  xz: { command: "xz", args: ["-dc", "--memlimit-decompress=160MiB"], debianPackage: "xz-utils" },
  bzip2: { command: "bzip2", args: ["-dc"], debianPackage: "bzip2" },
} as const;

// 64 KiB: what zlib, xz and the pipes between processes work in.
const CHUNK_BYTES = 64 * 1024;
/** What is kept of a program's complaint. */
const COMPLAINT_BYTES = 1000;

/** The format that a file's name tells, if any. Only the ending counts: `app.log.gz`, `app.gz`. */
export function formatOfName(name: string): CompressionFormat | undefined {
  return ENDINGS.find(([ending]) => name.length > ending.length && name.endsWith(ending))?.[1];
}

/** A name without the ending of its format: `app.log.1.gz` is `app.log.1`. */
export function withoutFormatEnding(name: string): string {
  const ending = ENDINGS.find(([candidate]) => name.length > candidate.length && name.endsWith(candidate))?.[0];
  return ending === undefined ? name : name.slice(0, -ending.length);
}

/**
 * The content of an archive from content offset `from` (default 0) to its end, in buffers of at most 128 KiB that are
 * the caller's to keep. Concatenated members, streams or frames are one content. The memory taken does not grow with
 * the archive. Content comes out before the checksum behind it was verified; ask `isComplete` first where that matters.
 *
 * `read` is never called twice at a time, nor after the generator has ended (`return()`, or leaving the loop, included).
 *
 * @throws TailraceError `TR_ARCHIVE_DAMAGED` (also an empty file, or one that is still being written) saying what is
 *   wrong; `TR_ARCHIVE_UNSUPPORTED` where a program is missing; whatever `read` throws; the signal's reason.
 */
export async function* decompress(
  format: CompressionFormat,
  read: ReadAt,
  options: { signal?: AbortSignal; from?: number } = {},
): AsyncGenerator<Buffer> {
  const { signal } = options;
  let archiveBytes = 0;
  let isOver = false;
  let reading: Promise<unknown> = Promise.resolve();
  const readWatched: ReadAt = async (into, length, offset) => {
    signal?.throwIfAborted();
    if (isOver) return 0;
    const pending = read(into, length, offset);
    reading = pending.catch(() => undefined);
    const count = await pending;
    archiveBytes = Math.max(archiveBytes, offset + count);
    return count;
  };
  let toSkip = options.from ?? 0;
  try {
    for await (const bytes of contentOf(format, readWatched)) {
      signal?.throwIfAborted();
      if (toSkip < bytes.length) yield toSkip === 0 ? bytes : bytes.subarray(toSkip);
      toSkip = Math.max(0, toSkip - bytes.length);
    }
  } finally {
    // The streams read ahead; the caller closes the file next.
    isOver = true;
    await reading;
  }
  // Zero bytes are an archive of nothing to zlib and to xz; in truth they are one that nobody has written yet.
  if (archiveBytes === 0) throw damaged(format, "it is empty");
}

/**
 * Whether the first `size` bytes of an archive are all of it: everything decodes, and every trailer's checksum and size
 * are right. Reads and decodes all of it, in bounded memory.
 *
 * @throws like `decompress`, except `TR_ARCHIVE_DAMAGED`, which is `false`
 */
export async function isComplete(
  format: CompressionFormat,
  read: ReadAt,
  size: number,
  options: { signal?: AbortSignal } = {},
): Promise<boolean> {
  const readBounded: ReadAt = async (into, length, offset) =>
    offset >= size ? 0 : read(into, Math.min(length, size - offset), offset);
  try {
    for await (const _ of decompress(format, readBounded, options));
    return true;
  } catch (error) {
    if (error instanceof TailraceError && error.code === "TR_ARCHIVE_DAMAGED") return false;
    throw error;
  }
}

function contentOf(format: CompressionFormat, read: ReadAt): AsyncGenerator<Buffer> {
  if (format === "gzip") return gzipContent(read);
  if (format === "zstd") return zstdContent(read);
  return programContent(format, read);
}

async function* gzipContent(read: ReadAt): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  const feeding = pipeline(archiveChunks(read), gunzip).catch(() => undefined);
  try {
    // An error of the reading reaches the loop through `gunzip`, as it is.
    for await (const bytes of gunzip) yield bytes as Buffer;
  } catch (error) {
    const code = errnoOf(error);
    if (code === undefined || !code.startsWith("Z_")) throw error;
    throw damaged("gzip", code === "Z_BUF_ERROR" ? "it ends too early" : toError(error).message, error);
  } finally {
    gunzip.destroy();
    await feeding;
  }
}

async function* programContent(format: "xz" | "bzip2", read: ReadAt): AsyncGenerator<Buffer> {
  const { command, args, debianPackage } = PROGRAMS[format];
  // Without XZ_OPT, BZIP2 and the like, which change what the program does; complaints in English.
  const env = { PATH: process.env["PATH"], LC_ALL: "C" };
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env });
  try {
    await once(child, "spawn");
  } catch (error) {
    const message = `cannot run the program \`${command}\` that decompresses ${format} (${toError(error).message}); install it (Debian: ${debianPackage})`;
    throw new TailraceError("TR_ARCHIVE_UNSUPPORTED", message, { cause: error });
  }
  const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(0, COMPLAINT_BYTES);
  });
  let readError: unknown;
  // The pipe breaks when the program gives up; its exit code and complaint tell why.
  const feeding = pipeline(
    archiveChunks(read, (error) => {
      readError = error;
      child.kill("SIGKILL");
    }),
    child.stdin,
  ).catch(() => undefined);
  try {
    for await (const bytes of child.stdout) yield bytes as Buffer;
    const [exitCode, killedBy] = await ended;
    await feeding;
    if (readError !== undefined) throw readError;
    if (exitCode === 0) return;
    const reason = complaint.trim().replaceAll("\n", "; ") || `\`${command}\` ended with ${killedBy ?? exitCode}`;
    throw damaged(format, reason);
  } finally {
    child.kill("SIGKILL");
    child.stdin.destroy();
    await feeding;
    await ended;
  }
}

/** The archive from its start to its end, read as it is asked for. */
function archiveChunks(read: ReadAt, onError?: (error: unknown) => void): Readable {
  async function* chunks() {
    try {
      for (let offset = 0; ; ) {
        const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
        const count = await read(chunk, CHUNK_BYTES, offset);
        if (count === 0) return;
        offset += count;
        yield chunk.subarray(0, count);
      }
    } catch (error) {
      onError?.(error);
      throw error;
    }
  }
  return Readable.from(chunks(), { objectMode: false, highWaterMark: CHUNK_BYTES });
}

function damaged(format: CompressionFormat, what: string, cause?: unknown): TailraceError {
  return new TailraceError("TR_ARCHIVE_DAMAGED", `the ${format} archive is damaged or incomplete: ${what}`, { cause });
}
