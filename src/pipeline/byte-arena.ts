/** Bytes of one chunk; a larger piece has a chunk of its own, which is not kept. */
const CHUNK_BYTES = 1024 * 1024;

/**
 * Room for bytes that live about equally long, in chunks that are used again: a buffer of its own for each piece would be
 * freed only when the garbage collector next looks at the old generation, half a second and 40 MiB later.
 */
export class ByteArena {
  readonly #free: Chunk[] = [];
  readonly #maxFree: number;
  #current: Chunk | undefined;

  /** @param maxFreeBytes what it keeps while nobody needs it */
  constructor(maxFreeBytes: number) {
    this.#maxFree = Math.ceil(maxFreeBytes / CHUNK_BYTES);
  }

  /** A copy of `bytes`, valid until `release`, which is to be called once. */
  keep(bytes: Buffer): { readonly bytes: Buffer; readonly release: () => void } {
    const chunk = this.#chunkFor(bytes.length);
    const start = chunk.used;
    bytes.copy(chunk.bytes, start);
    chunk.used += bytes.length;
    chunk.pieces += 1;
    const release = () => {
      chunk.pieces -= 1;
      if (chunk.pieces === 0 && chunk !== this.#current) this.#giveBack(chunk);
    };
    return { bytes: chunk.bytes.subarray(start, chunk.used), release };
  }

  #chunkFor(bytes: number): Chunk {
    if (bytes > CHUNK_BYTES) return { bytes: Buffer.allocUnsafeSlow(bytes), used: 0, pieces: 0 };
    const current = this.#current;
    if (current !== undefined && current.pieces === 0) current.used = 0;
    if (current !== undefined && current.used + bytes <= CHUNK_BYTES) return current;
    this.#current = this.#free.pop() ?? { bytes: Buffer.allocUnsafeSlow(CHUNK_BYTES), used: 0, pieces: 0 };
    return this.#current;
  }

  #giveBack(chunk: Chunk): void {
    chunk.used = 0;
    if (chunk.bytes.length === CHUNK_BYTES && this.#free.length < this.#maxFree) this.#free.push(chunk);
  }
}

interface Chunk {
  readonly bytes: Buffer;
  used: number;
  /** Pieces in it that are not released. */
  pieces: number;
}
