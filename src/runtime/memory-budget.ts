import type { Memory } from "../record/batch.ts";

/**
 * The in-flight budget: bytes that all batches together may hold, from the read until the last branch is done with
 * them. Waiting for it is fair (first come, first served). Chunks of the common size, and whatever is larger, are pooled:
 * a fresh 256 KiB mapping costs its page faults again at each read, and the garbage collector would free it late (a line
 * of 200 MB, read in buffers of 1 MiB, took 45 MiB more than was announced).
 */
export class MemoryBudget {
  readonly totalBytes: number;
  readonly #chunkBytes: number;
  /** The pool, longest unused first. */
  readonly #free: Buffer[] = [];
  #freeBytes = 0;
  readonly #waiting: { bytes: number; grant: () => void }[] = [];
  #usedBytes = 0;

  constructor(totalBytes: number, chunkBytes: number) {
    this.totalBytes = totalBytes;
    this.#chunkBytes = chunkBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /**
   * A buffer of at least `bytes`, once the budget has room (a request above the whole budget is granted when nothing
   * else is out). Undefined if `signal` aborts first.
   */
  async lease(wanted: number, options: { signal?: AbortSignal } = {}): Promise<Lease | undefined> {
    const bytes = this.#isPooled(wanted) ? this.#chunkBytes : wanted;
    if (options.signal?.aborted) return undefined;
    if (this.#waiting.length > 0 || !this.#fits(bytes)) {
      if (!(await this.#turn(bytes, options.signal))) return undefined;
    } else {
      this.#usedBytes += bytes;
    }
    return this.#leased(bytes);
  }

  /** Memory that the budget has been charged with already. */
  #leased(bytes: number): Lease {
    return new Lease(this.#take(bytes), bytes, (lease, buffer) => {
      this.#usedBytes -= lease;
      if (buffer.length >= this.#chunkBytes) this.#keep(buffer);
      this.#trimPool();
      this.#grantWaiting();
    });
  }

  /** `lease` for who cannot wait: undefined while the budget has no room, or others wait for it. */
  tryLease(wanted: number): Lease | undefined {
    const bytes = this.#isPooled(wanted) ? this.#chunkBytes : wanted;
    if (this.#waiting.length > 0 || !this.#fits(bytes)) return undefined;
    this.#usedBytes += bytes;
    return this.#leased(bytes);
  }

  #fits(bytes: number): boolean {
    return this.#usedBytes + bytes <= this.totalBytes || this.#usedBytes === 0;
  }

  #take(bytes: number): Buffer {
    const at = this.#free.findLastIndex(({ length }) => length === bytes);
    if (at >= 0) {
      this.#freeBytes -= bytes;
      return this.#free.splice(at, 1)[0]!;
    }
    this.#trimPool();
    return bytes >= this.#chunkBytes ? Buffer.allocUnsafeSlow(bytes) : Buffer.allocUnsafe(bytes);
  }

  #keep(buffer: Buffer): void {
    this.#free.push(buffer);
    this.#freeBytes += buffer.length;
  }

  /** What lies in the pool and what is out must fit the budget together. */
  #trimPool(): void {
    while (this.#free.length > 0 && this.#usedBytes + this.#freeBytes > this.totalBytes)
      this.#freeBytes -= this.#free.shift()!.length;
  }

  /** Small reads (a few new lines) come from Node's own slab: they must not each hold a whole chunk. */
  #isPooled(bytes: number): boolean {
    return bytes > this.#chunkBytes / 8 && bytes <= this.#chunkBytes;
  }

  #turn(bytes: number, signal: AbortSignal | undefined): Promise<boolean> {
    return new Promise((resolve) => {
      const abort = () => {
        const at = this.#waiting.indexOf(waiter);
        if (at >= 0) this.#waiting.splice(at, 1);
        resolve(false);
        this.#grantWaiting();
      };
      const waiter = {
        bytes,
        grant: () => {
          signal?.removeEventListener("abort", abort);
          this.#usedBytes += bytes;
          resolve(true);
        },
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  #grantWaiting(): void {
    while (this.#waiting.length > 0 && this.#fits(this.#waiting[0]!.bytes)) this.#waiting.shift()!.grant();
  }
}

/** Memory out of the budget, counted by reference; born with one reference. */
export class Lease implements Memory {
  readonly buffer: Buffer;
  #byteLength: number;
  #references = 1;
  readonly #giveBack: (bytes: number, buffer: Buffer) => void;

  constructor(buffer: Buffer, byteLength: number, giveBack: (bytes: number, buffer: Buffer) => void) {
    this.buffer = buffer;
    this.#byteLength = byteLength;
    this.#giveBack = giveBack;
  }

  get byteLength(): number {
    return this.#byteLength;
  }

  retain(): void {
    if (this.#references === 0) throw new Error("a lease was retained after its release");
    this.#references += 1;
  }

  release(): void {
    if (this.#references === 0) throw new Error("a lease was released twice");
    this.#references -= 1;
    if (this.#references === 0) this.#giveBack(this.#byteLength, this.buffer);
  }
}
