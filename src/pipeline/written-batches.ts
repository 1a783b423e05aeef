import type { Batch } from "../record/batch.ts";
import type { Lane } from "./lane.ts";

/** A batch (or half of one) in the target of a sink with marks, not yet covered by a commit. */
export interface Written {
  readonly batch: Batch;
  readonly lane: Lane;
  readonly hold: Hold;
}

/**
 * What a sink has taken and no commit covers yet. Of a sink with marks the batches themselves are kept, with their memory
 * (events as JSON where they were encoded so: kept as objects they cost a quarter of all CPU in garbage collection): if
 * the barrier fails, they are all there is to write again.
 */
export class WrittenBatches {
  readonly #onUncommitted: (bytes: number) => void;
  /** Since the last barrier, and between that and its commit. */
  #written: Written[] = [];
  #preparing: Written[] = [];
  #writtenBytes = 0;
  #preparingBytes = 0;

  /** `onUncommitted` is told by how many bytes they grew (negative: shrank). */
  constructor(onUncommitted: (bytes: number) => void) {
    this.#onUncommitted = onUncommitted;
  }

  /** Something was written since the last barrier. */
  get isDirty(): boolean {
    return this.#writtenBytes > 0;
  }

  /** Without `hold` only the bytes count, where a commit has anything to say of them: nothing can be taken back. */
  add(batch: Batch, lane: Lane, hold: Hold | undefined): void {
    if (hold === undefined && batch.origin.kind === "fleeting") return;
    this.#writtenBytes += batch.byteLength;
    this.#onUncommitted(batch.byteLength);
    if (hold === undefined) return;
    const packed = batch.packed();
    if (packed !== undefined) {
      this.#written.push({ batch: packed, lane, hold: new Hold(packed) });
      return;
    }
    batch.memory.keep?.();
    hold.retain();
    this.#written.push({ batch, lane, hold });
  }

  /** What was written until now is what the barrier describes. */
  beginBarrier(): void {
    this.#preparing = this.#written;
    this.#preparingBytes = this.#writtenBytes;
    this.#written = [];
    this.#writtenBytes = 0;
  }

  /** The barrier is durable. @returns records of the batches that were kept for it. */
  committed(): number {
    const committed = this.#preparing;
    this.#preparing = [];
    this.#onUncommitted(-this.#preparingBytes);
    this.#preparingBytes = 0;
    let records = 0;
    for (const { batch, hold } of committed) {
      records += batch.count;
      hold.release();
    }
    return records;
  }

  /** The barrier failed: everything since the last commit, in the order in which it was written. */
  takeBack(): readonly Written[] {
    const again = [...this.#preparing, ...this.#written];
    this.#onUncommitted(-this.#preparingBytes - this.#writtenBytes);
    this.#preparing = [];
    this.#written = [];
    this.#preparingBytes = 0;
    this.#writtenBytes = 0;
    return again;
  }
}

/** A batch may settle in parts; its memory goes back when the commit of the last part is through. */
export class Hold {
  readonly #batch: Batch;
  #parts = 1;

  constructor(batch: Batch) {
    this.#batch = batch;
  }

  retain(): void {
    this.#parts += 1;
  }

  release(): void {
    this.#parts -= 1;
    if (this.#parts === 0) this.#batch.memory.release();
  }
}
