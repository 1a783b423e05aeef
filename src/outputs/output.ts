import type { BytePath } from "../runtime/byte-path.ts";
import type { Timer } from "../runtime/clock.ts";
import type { FileHandle, FileStat } from "../runtime/file-system.ts";
import type { FileIdentity, OutputMark, RotationIntent } from "./output-mark.ts";

/** More buffers than this are joined before writing: a copy is cheaper than so many small pieces. */
const MAX_PARTS = 64;

/**
 * One open output file.
 *
 *     0 ........ committed ........ noted ........ length ........ reach
 *       described by  | in a barrier,  | delivered,    | a write under way, or the
 *       durable sets  | not committed  | next barrier  | rest of one that failed: to be cut off
 *
 * Bytes go to `length`, never to "the end": what a failed write left behind is written over or cut, not kept.
 */
export class Output {
  readonly path: BytePath;
  readonly identity: FileIdentity;
  readonly device: bigint;
  readonly inode: bigint;
  readonly createdAtMs: number;
  writtenAtMs: number;
  /** Bytes of delivered batches. */
  length: number;
  /** Bytes under the committed mark. */
  committedLength: number;
  /** Bytes that the barrier under way describes; undefined while there is none for this output. */
  notedLength: number | undefined;
  /** The farthest any write may have got since the last truncation. */
  #reach: number;
  /** The farthest `#reach` was since `beginLook`: a `stat` that runs beside writes and truncations may see any of it. */
  #peak: number;
  /** Why it is to be closed at the next barrier, and a new one begun under its path. */
  rotation: "size" | "age" | "signal" | "replaced" | undefined;
  /** Monotonic time before which no rotation is tried again, since the file could not be renamed. */
  rotateNotBeforeMs = Number.NEGATIVE_INFINITY;
  /** A rotation that has begun and must be finished before the next byte. */
  intent: RotationIntent | undefined;
  /** Settles when appends may go on; defined while a rotation holds them back. */
  hold: Hold | undefined;
  /** That its rotation fails has been said. */
  isTroubleTold = false;
  /** After a failed fdatasync: this descriptor is not to be written any more. */
  isInDoubt = false;
  /** The file has no name any more; nothing in it can be reached once it is closed. */
  isLost = false;
  ageTimer: Timer | undefined;
  #handle: FileHandle;
  #mustTruncate = false;
  /** Truncations so far, and how many of them are known to be durable. */
  #cuts = 0;
  #durableCuts = 0;

  constructor(path: BytePath, handle: FileHandle, stat: FileStat, identity: FileIdentity, mark: OutputMark) {
    this.path = path;
    this.#handle = handle;
    this.identity = identity;
    this.device = stat.device;
    this.inode = stat.inode;
    this.length = mark.length;
    this.committedLength = mark.length;
    this.#reach = mark.length;
    this.#peak = mark.length;
    this.createdAtMs = mark.createdAtMs;
    this.writtenAtMs = mark.writtenAtMs;
  }

  /** No byte in it waits for a commit. */
  get isClean(): boolean {
    return this.length === this.committedLength && this.notedLength === undefined;
  }

  /** Nothing is to be mended before the next append. */
  get isReady(): boolean {
    return !this.isInDoubt && !this.#mustTruncate;
  }

  mark(length: number): OutputMark {
    return { ...this.identity, length, createdAtMs: this.createdAtMs, writtenAtMs: this.writtenAtMs };
  }

  isFile(stat: FileStat | undefined): boolean {
    return stat !== undefined && stat.inode === this.inode && stat.device === this.device;
  }

  stat(): Promise<FileStat> {
    return this.#handle.stat();
  }

  /** fdatasync(2): all bytes written and cut before the call are so for good. */
  async datasync(): Promise<void> {
    const cuts = this.#cuts;
    await this.#handle.datasync();
    this.#durableCuts = Math.max(this.#durableCuts, cuts);
  }

  /**
   * To be called before this output is left for good, clean and ready as it is: what was cut off it must not come back
   * with a power cut, when nobody looks at its length any more.
   */
  async finish(): Promise<void> {
    if (this.#durableCuts < this.#cuts) await this.datasync();
  }

  /** From now on `peak` also remembers what truncations take back. */
  beginLook(): void {
    this.#peak = this.#reach;
  }

  /** No write of ours got farther than this since `beginLook`. */
  get peak(): number {
    return this.#peak;
  }

  /** Writes at `length`. On a failure, or before `accept`, the bytes do not count. Rejects as the file system does. */
  async append(parts: readonly Buffer[], byteLength: number): Promise<void> {
    let rest: readonly Buffer[] = parts.length > MAX_PARTS ? [Buffer.concat(parts)] : parts;
    let at = this.length;
    this.#reach = at + byteLength;
    this.#peak = Math.max(this.#peak, this.#reach);
    while (rest.length > 0) {
      const [first] = rest;
      const written =
        rest.length === 1
          ? await this.#handle.write(first!, 0, first!.length, at)
          : await this.#handle.writev(rest, at);
      if (written === 0) throw new Error("the file system took no bytes");
      at += written;
      // A short write says no reason; the next one gives the error, or goes on.
      rest = behind(rest, written);
    }
  }

  /** What `append` wrote counts. */
  accept(byteLength: number, nowMs: number): void {
    this.length += byteLength;
    this.writtenAtMs = nowMs;
  }

  /** Somebody else made the file shorter: what is left is what there is. */
  adopt(size: number): void {
    this.length = size;
    this.#reach = size;
  }

  /** Forgets all bytes past `length`; the file follows now, or, if it will not, before the next append. */
  async cutTo(length: number): Promise<void> {
    this.length = length;
    this.#mustTruncate = true;
    try {
      await this.#truncate();
    } catch {
      // Tried again in `mend`, before the next byte; after a crash the start cuts it off.
    }
  }

  /** Brings the file to what this object says. Rejects if it cannot; nothing may be appended then. */
  async mend(reopen: () => Promise<FileHandle | undefined>): Promise<void> {
    if (this.isInDoubt) {
      const old = this.#handle;
      const fresh = await reopen();
      if (fresh !== undefined) {
        this.#handle = fresh;
        // The lock belongs to the old descriptor; it must go before the new one can take it.
        await old.close().catch(() => {});
        if ((await fresh.tryLock?.()) === false)
          throw new Error("another process took the output while it was opened anew");
      }
      this.isInDoubt = false;
    }
    if (this.#mustTruncate) await this.#truncate();
  }

  async close(): Promise<void> {
    this.ageTimer?.cancel();
    this.hold?.release();
    this.hold = undefined;
    // Everything that counts was synced before; an error of close(2) says nothing about it.
    await this.#handle.close().catch(() => {});
  }

  async #truncate(): Promise<void> {
    this.#cuts += 1;
    await this.#handle.truncate(this.length);
    this.#reach = this.length;
    this.#mustTruncate = false;
  }
}

/** Keeps appends back; released once. */
export class Hold {
  readonly released: Promise<void>;
  #release!: () => void;

  constructor() {
    this.released = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  release(): void {
    this.#release();
  }
}

function behind(parts: readonly Buffer[], bytes: number): readonly Buffer[] {
  let skip = bytes;
  let index = 0;
  while (index < parts.length && skip >= parts[index]!.length) {
    skip -= parts[index]!.length;
    index += 1;
  }
  if (index === parts.length) return [];
  return skip === 0 ? parts.slice(index) : [parts[index]!.subarray(skip), ...parts.slice(index + 1)];
}
