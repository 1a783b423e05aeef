import type { KernelCalls, MappedMemory } from "./kernel-calls.ts";

/**
 * Memory that the kernel shares with us, and the only place that knows its bytes. A view that is used after munmap kills
 * the process without a word, so no view leaves an object that owns its mapping, and each of them asks `isMapped` (or
 * is released together with it) before it touches one. `release` is the last thing that happens to a mapping.
 */
export class Mapping {
  readonly #calls: KernelCalls;
  #memory: MappedMemory | undefined;

  /** @throws KernelError */
  constructor(
    calls: KernelCalls,
    options: {
      readonly descriptor: number;
      readonly offset: number;
      readonly byteLength: number;
      readonly isWritable: boolean;
    },
  ) {
    this.#calls = calls;
    this.#memory = calls.map(options.descriptor, options.offset, options.byteLength, options.isWritable);
  }

  get isMapped(): boolean {
    return this.#memory !== undefined;
  }

  /** The memory itself. Whoever keeps it must not use it after `release`. @throws Error after that */
  get bytes(): ArrayBuffer {
    if (this.#memory === undefined) throw new Error("this memory was given back to the kernel already");
    return this.#memory.bytes;
  }

  release(): void {
    const memory = this.#memory;
    // Before the call: whatever it answers, nobody may touch these bytes again.
    this.#memory = undefined;
    if (memory !== undefined) this.#calls.unmap(memory);
  }
}
