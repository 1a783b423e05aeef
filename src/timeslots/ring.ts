import type { KernelCalls } from "./kernel-calls.ts";
import { Mapping } from "./mapping.ts";
import { createMap } from "./maps.ts";
import type { Ownership } from "./ownership.ts";
import { RingReader } from "./ring-reader.ts";

/** A BPF ring buffer: the map, its memory, and the reader on it. The one owner of that memory. */
export class Ring {
  readonly descriptor: number;
  readonly #owned: Ownership;
  readonly #reader: RingReader;

  /** `sizeBytes`: a power of two and a multiple of the page. @throws KernelError */
  constructor(calls: KernelCalls, owned: Ownership, name: string, sizeBytes: number) {
    const { pageBytes } = calls;
    const release = (mapping: Mapping) => mapping.release();
    this.descriptor = createMap(calls, owned, {
      type: "RINGBUF",
      name,
      keyBytes: 0,
      valueBytes: 0,
      entries: sizeBytes,
    });
    const { descriptor } = this;
    const consumer = owned.own(
      new Mapping(calls, { descriptor, offset: 0, byteLength: pageBytes, isWritable: true }),
      release,
    );
    const producer = owned.own(
      // The kernel refuses to map these for writing.
      new Mapping(calls, { descriptor, offset: pageBytes, byteLength: pageBytes + 2 * sizeBytes, isWritable: false }),
      release,
    );
    this.#owned = owned;
    this.#reader = new RingReader({
      consumer: consumer.bytes,
      producer: producer.bytes,
      dataAt: pageBytes,
      sizeBytes,
    });
  }

  /** The reader. @throws Error once the owner is released: what it reads is gone then */
  get reader(): RingReader {
    if (!this.#owned.isLive) throw new Error("the ring was given back to the kernel already");
    return this.#reader;
  }
}
