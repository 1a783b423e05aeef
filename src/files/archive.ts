import type { ArchiveMark } from "../checkpoint/checkpoint-store.ts";
import { type ArchiveEnd, archiveEnd, type CompressionFormat, decompress, formatOfName } from "../codec/decompress.ts";
import { type BytePath, baseName } from "../runtime/byte-path.ts";
import type { FileHandle, FileStat } from "../runtime/file-system.ts";
import { type Content, UNKNOWN_SIZE } from "./content.ts";

/** The compression that a path's name tells, if any. */
export function formatOf(path: BytePath): CompressionFormat | undefined {
  return formatOfName(baseName(path));
}

/**
 * What is in a compressed file, by content offset. Reading goes forward; what was read last is kept, so that an
 * unfinished line can be read again with what follows it. A step further back starts from the beginning.
 *
 *     content  0 ......... kept from ######## produced ......... (not yet decompressed)
 *                          ^ offset of the last read
 *
 * Everything that can be decompressed is given, whatever is wrong behind it; then the content ends, and `archive.damage`
 * says what is wrong. Once the archive has changed (members were appended, its writer went on) `stat` knows no size
 * again, and reading goes on where it ended.
 */
export class ArchiveContent implements Content {
  readonly #handle: FileHandle;
  readonly #format: CompressionFormat;
  #pieces: AsyncGenerator<Buffer | ArchiveEnd> | undefined;
  #kept: Buffer[] = [];
  #keptFrom = 0;
  #produced = 0;
  /** How the archive ends, once that was reached. */
  #end: ArchiveEnd | undefined;
  /** Of the archive, before what was read last: a change after it may have been missed. */
  #lookedAt: FileStat | undefined;
  /** It was not read from its beginning since it changed. */
  #isContinued = false;

  constructor(handle: FileHandle, format: CompressionFormat) {
    this.#handle = handle;
    this.#format = format;
  }

  /** Bytes held for the next read: at most what the last one asked for, and a chunk of the decompressor. */
  get keptBytes(): number {
    return this.#kept.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  get archive(): ArchiveMark | undefined {
    if (this.#end === undefined || this.#lookedAt === undefined) return undefined;
    const { kind, reason, at } = this.#end;
    const { size: bytes, modifiedMs } = this.#lookedAt;
    if (kind !== "cut" && kind !== "damaged") return { bytes, modifiedMs };
    return { bytes, modifiedMs, damage: { reason, ...(at === undefined ? {} : { at }) } };
  }

  get trailing(): string | undefined {
    return this.#end?.kind === "trailing" ? this.#end.reason : undefined;
  }

  async read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number> {
    if (length === 0) return 0;
    if (offset < this.#keptFrom) await this.#restart();
    do this.#forgetBefore(offset);
    while (this.#produced < offset + length && (await this.#produce()));
    let done = 0;
    let at = this.#keptFrom;
    for (const chunk of this.#kept) {
      const from = Math.max(0, offset + done - at);
      if (from < chunk.length && done < length) {
        done += chunk.copy(into, intoOffset + done, from, Math.min(chunk.length, from + length - done));
      }
      at += chunk.length;
    }
    return done;
  }

  /** Of the archive, but with the size of the content. */
  async stat(): Promise<FileStat> {
    const stat = await this.#handle.stat();
    if (this.#end !== undefined && this.#hasChanged(stat)) {
      // What follows damage can only be told from the beginning.
      if (this.#end.kind === "damaged" || stat.size < this.#lookedAt!.size) await this.#restart();
      else this.#isContinued = true;
      this.#end = undefined;
      this.#lookedAt = stat;
    }
    return { ...stat, size: this.#end === undefined ? UNKNOWN_SIZE : this.#produced };
  }

  async close(): Promise<void> {
    await this.#pieces?.return(undefined).catch(() => undefined);
    await this.#handle.close();
  }

  #hasChanged(stat: FileStat): boolean {
    const before = this.#lookedAt;
    return before === undefined || stat.size !== before.size || stat.modifiedMs !== before.modifiedMs;
  }

  async #restart(): Promise<void> {
    await this.#pieces?.return(undefined);
    this.#pieces = undefined;
    this.#kept = [];
    this.#keptFrom = 0;
    this.#produced = 0;
    this.#end = undefined;
    this.#lookedAt = undefined;
    this.#isContinued = false;
  }

  async #produce(): Promise<boolean> {
    if (this.#end !== undefined) return false;
    this.#lookedAt ??= await this.#handle.stat();
    this.#pieces ??= decompress(this.#format, (into, length, offset) => this.#handle.read(into, 0, length, offset));
    const { value, done } = await this.#pieces.next();
    if (done === true) {
      // An error of the reading has ended it before.
      await this.#restart();
      return true;
    }
    if (Buffer.isBuffer(value)) {
      this.#kept.push(value);
      this.#produced += value.length;
      return true;
    }
    const isWrong = value.kind === "damaged" || value.kind === "trailing";
    if (isWrong && this.#isContinued) {
      // Perhaps nothing was appended, and another archive was written in its place.
      await this.#restart();
      return true;
    }
    this.#end = value;
    return false;
  }

  #forgetBefore(offset: number): void {
    while (this.#kept.length > 0 && this.#keptFrom + this.#kept[0]!.length <= offset) {
      this.#keptFrom += this.#kept.shift()!.length;
    }
  }
}

/** Whether the archive is whole: each trailer checks. A damaged one or one that is still being written is not. */
export async function isWholeArchive(handle: FileHandle, format: CompressionFormat): Promise<boolean> {
  const { size } = await handle.stat();
  const end = await archiveEnd(format, (into, length, offset) => handle.read(into, 0, length, offset), size);
  return end.kind === "whole" || end.kind === "trailing";
}
