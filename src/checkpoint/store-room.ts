import type { FileHandle } from "node:fs/promises";
import { open, statfs } from "node:fs/promises";
import { readShape, type StoreShape } from "./store-pages.ts";

/**
 * Keeps room for the next transaction inside the store's own file.
 *
 * ```
 *  data.mdb   [ pages that LMDB uses or has used | zeros, allocated: room for the next transaction ]
 *             0                           last page                                      file size
 * ```
 *
 * LMDB must never meet a full disk: where a page cannot be written, lmdb 3.5.6 prints its message of more than 100 bytes
 * into 100 bytes of heap (`mdb_page_flush`), and the process dies of it sooner or later. So before each transaction the
 * most that it can need is allocated by plain writes of zeros behind the last page, where LMDB does not care what lies.
 * It is these writes that fail on a full disk, with ENOSPC, before LMDB has begun. What LMDB writes then is in place.
 *
 * File systems that never write in place (`COPIES`) cannot be helped that way; there the free space is asked for.
 */
export class StoreRoom {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #copies: boolean;
  #size: number;

  private constructor(path: string, file: FileHandle, copies: boolean, size: number) {
    this.#path = path;
    this.#file = file;
    this.#copies = copies;
    this.#size = size;
  }

  /** For the store file at `path`, which exists. Holes in it (a restored copy may have some) are filled. */
  static async open(path: string): Promise<StoreRoom> {
    const file = await open(path, "r+");
    try {
      const copies = COPIES.has((await statfs(path)).type);
      const { size, blocks } = await file.stat();
      if (!copies && blocks * 512 < size) await fillHoles(file, size);
      return new StoreRoom(path, file, copies, size);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * Allocates what a transaction of these rows may need.
   * @param valueBytes Length of each row's value; 0 for a removal.
   * @throws the system's error (ENOSPC, EDQUOT, ...); nothing but zeros was written.
   */
  async ensure(valueBytes: readonly number[]): Promise<void> {
    const shape = readShape(this.#file.fd);
    const needed = pagesNeeded(shape, valueBytes) * shape.pageBytes;
    const end = (shape.lastPage + 1) * shape.pageBytes + needed;
    if (end > this.#size) await this.#extend(end);
    if (this.#copies) {
      const { bavail, bsize } = await statfs(this.#path);
      if (bavail * bsize < needed + STEP_BYTES) {
        throw Object.assign(new Error("ENOSPC: too little space left on device"), { code: "ENOSPC" });
      }
    }
  }

  /** Bytes of the file, at least; only ever grows. */
  get size(): number {
    return this.#size;
  }

  /** fdatasync of the file. */
  async datasync(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Makes the file at least `end` bytes long, and a whole number of steps if the disk has them. */
  async #extend(end: number): Promise<void> {
    const goal = Math.ceil(end / STEP_BYTES) * STEP_BYTES;
    // LMDB may have grown the file itself, by the pages of a transaction that failed; those bytes mean nothing.
    this.#size = Math.max(this.#size, (await this.#file.stat()).size);
    while (this.#size < goal) {
      try {
        const length = Math.min(ZEROS.length, goal - this.#size);
        const { bytesWritten } = await this.#file.write(ZEROS, 0, length, this.#size);
        this.#size += bytesWritten;
      } catch (error) {
        if (this.#size >= end) return;
        throw error;
      }
    }
  }
}

/** The file grows by whole steps, so that most transactions find their room already there. */
const STEP_BYTES = 256 * 1024;
const ZEROS = Buffer.alloc(STEP_BYTES);

/** `statfs` types of file systems that write every change to a new place: btrfs, ZFS, bcachefs. */
const COPIES = new Set([0x9123683e, 0x2fc12fc1, 0xca451a4e]);

/**
 * The most pages that a transaction may write. Every page on the way to a row is written anew and may split once; in a
 * large transaction that is at most the whole tree and twice what the new bytes fill. Values of more than a quarter page
 * may lie on pages of their own. The list of freed pages takes 8 bytes for each, on pages that are written anew, too.
 */
export function pagesNeeded(shape: StoreShape, valueBytes: readonly number[]): number {
  const { pageBytes, treePages, overflowPages, depth } = shape;
  let bytes = 0;
  let big = 0;
  for (const each of valueBytes) {
    bytes += each + ROW_BYTES;
    if (each > pageBytes / 4) big += Math.ceil((each + 64) / pageBytes);
  }
  const byRows = valueBytes.length * (depth + 2);
  const byTree = treePages + Math.ceil((4 * bytes) / pageBytes);
  const touched = Math.min(byRows, byTree) + big;
  const freed = touched + overflowPages;
  return touched + Math.ceil((freed * 16) / pageBytes) + 32;
}

/** The longest key (MAX_KEY_BYTES of lmdb-environment.ts) and what LMDB keeps beside it. */
const ROW_BYTES = 1024 + 16;

async function fillHoles(file: FileHandle, size: number): Promise<void> {
  const chunk = Buffer.alloc(4096);
  for (let at = 0; at < size; at += chunk.length) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, at);
    if (bytesRead > 0 && chunk.subarray(0, bytesRead).every((byte) => byte === 0)) {
      // Written back as they were read: only the blocks are new.
      await file.write(ZEROS, 0, bytesRead, at);
    }
  }
}
