/**
 * Reads a BPF ring buffer, zero-copy (Linux: Documentation/bpf/ringbuf.rst):
 *
 *   consumer page    position up to which we have read; ours to write
 *   producer page    position up to which the kernel has reserved; read only, as is the data
 *   data             `size` bytes, mapped twice in a row, so that no record is ever torn at the end
 *
 *   record = header (length in bits 0-29, discarded: bit 30, busy: bit 31; then a page offset), payload, filled to 8 bytes
 *
 * Positions count bytes since the beginning and only ever rise: 64 bits in memory (unsigned long). Of the producer's, the
 * low 32 bits are read: the distance between the two is never more than `size`, and differences modulo 2^32 are exact.
 *
 * It works on any bytes of that form, so that positions near 2^32 can be tested without sending 4 GiB.
 */
export class RingReader {
  readonly sizeBytes: number;
  readonly #consumer: BigUint64Array;
  readonly #producer: Int32Array;
  readonly #headers: Int32Array;
  /** Payload as words of 32 bits; `take` is handed indices into it. */
  readonly words: Uint32Array;
  /** The same bytes. */
  readonly bytes: Uint8Array;
  readonly #mask: number;
  /** Where we have read up to, modulo 2^32. */
  #position: number;
  /** The same, in full, as last published. */
  #published: bigint;

  /** `consumer`: at least 8 bytes. `producer`: at least 8 bytes. `data`: twice `sizeBytes`, the second half equal to the first. */
  constructor(memory: {
    readonly consumer: ArrayBuffer;
    readonly producer: ArrayBuffer;
    readonly dataAt: number;
    readonly sizeBytes: number;
  }) {
    const { consumer, producer, dataAt, sizeBytes } = memory;
    this.sizeBytes = sizeBytes;
    this.#mask = sizeBytes - 1;
    this.#consumer = new BigUint64Array(consumer, 0, 1);
    this.#producer = new Int32Array(producer, 0, 1);
    this.#headers = new Int32Array(producer, dataAt, sizeBytes / 2);
    this.words = new Uint32Array(producer, dataAt, sizeBytes / 2);
    this.bytes = new Uint8Array(producer, dataAt, sizeBytes * 2);
    this.#published = Atomics.load(this.#consumer, 0);
    this.#position = Number(BigInt.asUintN(32, this.#published));
  }

  /** Bytes that were reserved and not read yet. */
  get pendingBytes(): number {
    return (this.#produced() - this.#position) >>> 0;
  }

  /**
   * Hands every record that is there to `take`: index of its first word in `words`, and its bytes. What it is handed may be
   * overwritten as soon as `drain` goes on. Ends at the position that the kernel had reserved at the call; false if it
   * came to a record that was still being written, so that it had to end before that.
   */
  drain(take: (word: number, byteLength: number) => void): boolean {
    const headers = this.#headers;
    const mask = this.#mask;
    const end = this.#produced();
    let position = this.#position;
    let unpublished = 0;
    try {
      while (position !== end) {
        const word = (position & mask) >>> 2;
        const header = Atomics.load(headers, word);
        if (header < 0) return false;
        const byteLength = header & LENGTH_MASK;
        if ((header & DISCARDED) === 0) take(word + 2, byteLength);
        position = (position + ((byteLength + HEADER_BYTES + 7) & ~7)) >>> 0;
        unpublished += 1;
        // The kernel gets room again bit by bit: while it overflows, every record counts.
        if (unpublished === PUBLISH_EVERY) {
          unpublished = 0;
          this.#publish(position);
        }
      }
      return true;
    } finally {
      this.#publish(position);
    }
  }

  #produced(): number {
    return Atomics.load(this.#producer, 0) >>> 0;
  }

  #publish(position: number): void {
    const bytes = (position - this.#position) >>> 0;
    if (bytes === 0) return;
    this.#position = position;
    this.#published += BigInt(bytes);
    Atomics.store(this.#consumer, 0, this.#published);
  }
}

const HEADER_BYTES = 8;
const LENGTH_MASK = 0x3fff_ffff;
const DISCARDED = 0x4000_0000;
const PUBLISH_EVERY = 256;
