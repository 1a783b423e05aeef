import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RingReader } from "./ring-reader.ts";

const PAGE = 4096;
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

/** The kernel's side of a ring, over plain memory: kernel/bpf/ringbuf.c in short. */
class SimulatedRing {
  readonly consumer = new ArrayBuffer(PAGE);
  readonly producer: ArrayBuffer;
  readonly sizeBytes: number;
  readonly #consumed = new BigUint64Array(this.consumer);
  readonly #produced: BigUint64Array;
  readonly #words: Uint32Array;
  lost = 0;

  constructor(sizeBytes: number, start: bigint) {
    this.sizeBytes = sizeBytes;
    this.producer = new ArrayBuffer(PAGE + 2 * sizeBytes);
    this.#produced = new BigUint64Array(this.producer, 0, 1);
    this.#words = new Uint32Array(this.producer, PAGE);
    this.#consumed[0] = start;
    this.#produced[0] = start;
  }

  get reader(): RingReader {
    const { consumer, producer, sizeBytes } = this;
    return new RingReader({ consumer, producer, dataAt: PAGE, sizeBytes });
  }

  /** Room for a payload, busy; undefined (and lost) if there is none. */
  reserve(byteLength: number): bigint | undefined {
    const at = this.#produced[0]!;
    const total = BigInt((byteLength + 8 + 7) & ~7);
    if (at + total - this.#consumed[0]! > BigInt(this.sizeBytes)) {
      this.lost += 1;
      return undefined;
    }
    this.#write(at, 0, byteLength + BUSY);
    this.#produced[0] = at + total;
    return at;
  }

  submit(at: bigint, payload: readonly number[], isDiscarded = false): void {
    for (const [index, word] of payload.entries()) this.#write(at, 2 + index, word);
    this.#write(at, 0, payload.length * 4 + (isDiscarded ? DISCARDED : 0));
  }

  put(payload: readonly number[], isDiscarded = false): boolean {
    const at = this.reserve(payload.length * 4);
    if (at !== undefined) this.submit(at, payload, isDiscarded);
    return at !== undefined;
  }

  /** The two mappings of the data are the same memory: both are written. */
  #write(at: bigint, word: number, value: number): void {
    const size = this.sizeBytes / 4;
    const index = Number(at % BigInt(this.sizeBytes)) / 4 + word;
    this.#words[index % size] = value;
    this.#words[(index % size) + size] = value;
  }
}

function drained(reader: RingReader): number[][] {
  const records: number[][] = [];
  reader.drain((word, byteLength) => void records.push([...reader.words.subarray(word, word + byteLength / 4)]));
  return records;
}

describe("RingReader", () => {
  it("hands on what was put in, in order, from any position, also past 2^32 and 2^53", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0n, 2n ** 32n, 2n ** 33n, 2n ** 53n).chain((edge) =>
          fc.integer({ min: -40, max: 8 }).map((steps) => {
            const start = edge + BigInt(steps * 8);
            return start < 0n ? 0n : start;
          }),
        ),
        fc.array(
          fc.record({ words: fc.integer({ min: 0, max: 12 }), isDiscarded: fc.boolean(), drains: fc.boolean() }),
          { maxLength: 200 },
        ),
        (start, steps) => {
          const ring = new SimulatedRing(128, start);
          const { reader } = ring;
          const sent: number[][] = [];
          const got: number[][] = [];
          let next = 1;
          for (const { words, isDiscarded, drains } of steps) {
            const payload = Array.from({ length: words }, () => {
              next += 1;
              return next;
            });
            if (ring.put(payload, isDiscarded) && !isDiscarded) sent.push(payload);
            if (drains) got.push(...drained(reader));
          }
          got.push(...drained(reader));
          expect(got).toEqual(sent);
          expect(reader.pendingBytes).toBe(0);
        },
      ),
    );
  });

  it("counts right under overload: generated = drained + lost", () => {
    const ring = new SimulatedRing(4096, 2n ** 32n - 100n * 8n);
    const { reader } = ring;
    let taken = 0;
    const generated = 100_000;
    const take = () => {
      taken += 1;
    };
    for (let index = 0; index < generated; index += 1) {
      ring.put([index, index]);
      if (index % 1000 === 999) reader.drain(take);
    }
    reader.drain(take);
    expect(ring.lost).toBeGreaterThan(0);
    expect(taken + ring.lost).toBe(generated);
  });

  it("stops before a record that is being written, and goes on once it is there", () => {
    const ring = new SimulatedRing(256, 0n);
    const { reader } = ring;
    ring.put([1]);
    const busy = ring.reserve(4)!;
    ring.put([3]);
    const taken: number[] = [];
    const take = (word: number) => void taken.push(reader.words[word]!);
    expect(reader.drain(take)).toBe(false);
    expect(taken).toEqual([1]);
    ring.submit(busy, [2]);
    expect(reader.drain(take)).toBe(true);
    expect(taken).toEqual([1, 2, 3]);
  });

  it("gives back the room of what was taken before a failure, and does not take it again", () => {
    const ring = new SimulatedRing(256, 0n);
    const { reader } = ring;
    ring.put([1]);
    ring.put([2]);
    expect(() =>
      reader.drain((word) => {
        if (reader.words[word] === 2) throw new Error("no");
      }),
    ).toThrow("no");
    expect(drained(reader)).toEqual([[2]]);
  });

  it("begins where another reader of the same ring ended", () => {
    const ring = new SimulatedRing(128, 2n ** 32n - 16n);
    ring.put([1]);
    expect(drained(ring.reader)).toEqual([[1]]);
    ring.put([2]);
    expect(drained(ring.reader)).toEqual([[2]]);
  });
});
