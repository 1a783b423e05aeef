import type { Memory } from "../record/batch.ts";

/** Several pieces of memory as one: a batch that was read into all of them. Takes a reference of its own to each. */
export class JoinedMemory implements Memory {
  readonly byteLength: number;
  readonly #parts: readonly Memory[];
  #references = 1;

  constructor(parts: readonly Memory[]) {
    for (const part of parts) part.retain();
    this.#parts = parts;
    this.byteLength = parts.reduce((sum, part) => sum + part.byteLength, 0);
  }

  retain(): void {
    this.#references += 1;
  }

  release(): void {
    this.#references -= 1;
    if (this.#references === 0) for (const part of this.#parts) part.release();
  }
}
