import type { ContentMark } from "../checkpoint/checkpoint-store.ts";

/** The bytes that end at `end`, by their hash. */
export interface Guard {
  readonly end: number;
  readonly mark: ContentMark;
}

/** Guards that are kept of what no commit covers yet; beyond them every second one goes, and the newest stays. */
const MAX_NOTED = 128;

/**
 * The guards of one generation: one that is stored, and those of what this process has sent since.
 *
 *     content  0 ........ stored.end ...... noted ...... noted ...... newest
 *                         ^ covers what is committed     ^ each where a batch ended
 *
 * The stored one only ever moves forward, and always in the transaction that commits a position (`settle`).
 */
export class Guards {
  #stored: Guard;
  #noted: Guard[] = [];

  constructor(stored: Guard) {
    this.#stored = stored;
  }

  /** What the store holds once the next commit is through. */
  get stored(): Guard {
    return this.#stored;
  }

  /** The guard of the furthest bytes that are known. */
  get newest(): Guard {
    return this.#noted[this.#noted.length - 1] ?? this.#stored;
  }

  /** Notes the guard of bytes that were seen; of what lies below a known one nothing is gained. */
  note(guard: Guard): void {
    if (guard.end <= this.newest.end) return;
    this.#noted.push(guard);
    if (this.#noted.length > MAX_NOTED) this.#noted = this.#noted.filter((_, index) => index % 2 === 0);
    // The newest is at an even index of an odd number.
  }

  /** The newest guard that ends at or before `size`: for content that is shorter than what was read. */
  within(size: number): Guard | undefined {
    for (let index = this.#noted.length - 1; index >= 0; index -= 1) {
      const guard = this.#noted[index]!;
      if (guard.end <= size) return guard;
    }
    return this.#stored.mark.length > 0 && this.#stored.end <= size ? this.#stored : undefined;
  }

  /** A commit is about to say that bytes up to `end` have ended somewhere: from now on the stored guard covers them. */
  settle(end: number): void {
    if (end <= this.#stored.end) return;
    const index = this.#noted.findIndex((guard) => guard.end >= end);
    const covering = index < 0 ? this.#noted.length - 1 : index;
    if (covering < 0) return;
    this.#stored = this.#noted[covering]!;
    this.#noted = this.#noted.slice(covering + 1);
  }
}
