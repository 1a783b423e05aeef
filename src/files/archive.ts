import { type CompressionFormat, decompress, formatOfName, isComplete } from "../codec/decompress.ts";
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
 */
export class ArchiveContent implements Content {
  readonly #handle: FileHandle;
  readonly #format: CompressionFormat;
  #bytes: AsyncGenerator<Buffer> | undefined;
  #kept: Buffer[] = [];
  #keptFrom = 0;
  #produced = 0;
  #size = UNKNOWN_SIZE;

  constructor(handle: FileHandle, format: CompressionFormat) {
    this.#handle = handle;
    this.#format = format;
  }

  /** Bytes held for the next read: at most what the last one asked for, and a chunk of the decompressor. */
  get keptBytes(): number {
    return this.#kept.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  async read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number> {
    if (length === 0 || offset >= this.#size) return 0;
    if (offset < this.#keptFrom) await this.#restart();
    this.#bytes ??= this.#open();
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
    return { ...stat, size: this.#size };
  }

  async close(): Promise<void> {
    await this.#bytes?.return(undefined).catch(() => undefined);
    await this.#handle.close();
  }

  /** Decompresses to the end; the size of the content. */
  async measure(): Promise<number> {
    const byte = Buffer.alloc(1);
    while (this.#size === UNKNOWN_SIZE) await this.read(byte, 0, 1, this.#produced);
    return this.#size;
  }

  #open(): AsyncGenerator<Buffer> {
    return decompress(this.#format, (into, length, offset) => this.#handle.read(into, 0, length, offset));
  }

  async #restart(): Promise<void> {
    await this.#bytes?.return(undefined);
    this.#bytes = undefined;
    this.#kept = [];
    this.#keptFrom = 0;
    this.#produced = 0;
  }

  async #produce(): Promise<boolean> {
    if (this.#size !== UNKNOWN_SIZE && this.#produced >= this.#size) return false;
    const next = await this.#bytes!.next();
    if (next.done === true) {
      this.#size = this.#produced;
      return false;
    }
    this.#kept.push(next.value);
    this.#produced += next.value.length;
    return true;
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
  return isComplete(format, (into, length, offset) => handle.read(into, 0, length, offset), size);
}
