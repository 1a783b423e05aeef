import type { SeededRandom } from "./seeded-random.ts";

/** ext4's usual block. */
export const BLOCK_BYTES = 4096;

/** What of a thing that was not synced a power cut leaves: by seed, `anything` in between. */
export type Kept = "nothing" | "everything" | "anything";

/**
 * The bytes of one file, once as all processes see them now, once as a power cut leaves them:
 *
 *     now --write, truncate--> dirty blocks --beginSync--> writeback --endSync--> durable
 *                                  ^                          |
 *                                  '------ abandonSync -------'        failed: clean, and never on the disk
 *
 * A sync is of blocks of 4 KiB and of the length.
 */
export class SimContent {
  /** The first `#size` bytes count; zeros behind. */
  #bytes: Buffer = Buffer.alloc(0);
  #size = 0;
  #durable: Buffer = Buffer.alloc(0);
  /** Blocks that no sync has looked at since they were written. */
  #dirty = new Set<number>();
  /** Lowest length it was truncated to since the last good sync. */
  #cutTo = Number.POSITIVE_INFINITY;
  /** Syncs under way. */
  readonly #writebacks = new Set<Writeback>();

  get size(): number {
    return this.#size;
  }

  /** All bytes; of now, until the next change. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#size);
  }

  /** A gap before `offset` is a hole (zeros). */
  write(bytes: Uint8Array, offset: number): void {
    const end = offset + bytes.length;
    if (end > this.#size) this.#resize(end);
    this.#bytes.set(bytes, offset);
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) this.#dirty.add(block);
  }

  truncate(length: number): void {
    if (length < this.#size) this.#cutTo = Math.min(this.#cutTo, length);
    this.#resize(length);
  }

  /** A whole sync in one step. */
  sync(): void {
    this.endSync(this.beginSync(), true);
  }

  /**
   * First half of a sync: notes what is to be made durable. What is written from now on belongs to the next one. Pages
   * that another sync is writing back are waited for, so they are part of this one too.
   */
  beginSync(): Writeback {
    const { dirty, cutTo } = this.#unsynced();
    const blocks = new Map<number, Buffer>();
    for (const block of dirty) {
      const start = block * BLOCK_BYTES;
      if (start < this.#size)
        blocks.set(block, Buffer.from(this.#bytes.subarray(start, Math.min(this.#size, start + BLOCK_BYTES))));
    }
    const writeback: Writeback = { content: this, blocks, length: this.#size, cutTo };
    this.#dirty = new Set();
    this.#cutTo = Number.POSITIVE_INFINITY;
    this.#writebacks.add(writeback);
    return writeback;
  }

  /** Second half of a sync. Failed: the pages count as clean and never reached the disk. */
  endSync(writeback: Writeback, isGood: boolean): void {
    if (!this.#writebacks.delete(writeback)) return;
    if (!isGood) {
      this.#cutTo = Math.min(this.#cutTo, writeback.cutTo);
      return;
    }
    this.#durable = resized(this.#durable, Math.min(this.#durable.length, writeback.cutTo), writeback.length);
    for (const [block, bytes] of writeback.blocks) this.#durable.set(bytes, block * BLOCK_BYTES);
  }

  /** The process that asked for a sync is gone before it was carried out: the pages are as dirty as before. */
  abandonSync(writeback: Writeback): void {
    if (!this.#writebacks.delete(writeback)) return;
    for (const block of writeback.blocks.keys()) this.#dirty.add(block);
    this.#cutTo = Math.min(this.#cutTo, writeback.cutTo);
  }

  /** `anything`: any of the dirty blocks, and a length between the durable one and the present one. */
  powerCut(keep: Kept, random: SeededRandom): void {
    const { dirty, cutTo } = this.#unsynced();
    const isOld = keep === "nothing" || (keep === "anything" && cutTo < this.#durable.length && random.chance(0.5));
    if (!isOld) {
      const base = Math.min(this.#durable.length, cutTo);
      const length =
        keep === "everything"
          ? this.#size
          : random.pick([base, this.#size, random.int(Math.min(base, this.#size), Math.max(base, this.#size))]);
      const left = resized(this.#durable, base, length);
      for (const block of dirty) {
        const start = block * BLOCK_BYTES;
        if (keep === "anything" && random.chance(0.5)) continue;
        const end = Math.min(start + BLOCK_BYTES, length, this.#size);
        if (start < end) left.set(this.#bytes.subarray(start, end), start);
      }
      this.#durable = left;
    }
    this.#bytes = Buffer.from(this.#durable);
    this.#size = this.#durable.length;
    this.#dirty = new Set();
    this.#writebacks.clear();
    this.#cutTo = Number.POSITIVE_INFINITY;
  }

  /** With what syncs under way have in hand. */
  #unsynced(): { readonly dirty: ReadonlySet<number>; readonly cutTo: number } {
    let cutTo = this.#cutTo;
    const dirty = new Set(this.#dirty);
    for (const writeback of this.#writebacks) {
      cutTo = Math.min(cutTo, writeback.cutTo);
      for (const block of writeback.blocks.keys()) dirty.add(block);
    }
    return { dirty, cutTo };
  }

  #resize(length: number): void {
    if (length > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(length, this.#bytes.length * 2, 256));
      this.#bytes.copy(grown, 0, 0, this.#size);
      this.#bytes = grown;
    } else if (length < this.#size) this.#bytes.fill(0, length, this.#size);
    this.#size = length;
  }
}

/** What one sync makes durable. */
export interface Writeback {
  readonly content: SimContent;
  readonly blocks: ReadonlyMap<number, Buffer>;
  readonly length: number;
  readonly cutTo: number;
}

/** The first `keep` bytes, then zeros up to `length`. */
function resized(bytes: Buffer, keep: number, length: number): Buffer {
  const result = Buffer.alloc(length);
  bytes.copy(result, 0, 0, Math.min(keep, length));
  return result;
}
