import type { Random } from "./random.ts";

/** Exponential backoff: each wait is uniform in [(1 - jitter) * w, w], w = min(max, initial * multiplier^attempt). */
export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly multiplier?: number;
  /** Random part of each wait, a fraction of 1; default 1 (full jitter). */
  readonly jitter?: number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: Random;
  #attempt = 0;

  constructor(options: BackoffOptions, random: Random) {
    this.#options = options;
    this.#random = random;
  }

  /** Attempts since the last reset. */
  get attempts(): number {
    return this.#attempt;
  }

  /** The next wait in milliseconds (at least 1, so that a loop always yields to the event loop). */
  next(): number {
    const { initialMs, maxMs, multiplier = 2, jitter = 1 } = this.#options;
    const ceiling = Math.min(maxMs, initialMs * multiplier ** this.#attempt);
    this.#attempt += 1;
    return Math.max(1, (1 - jitter + this.#random.next() * jitter) * ceiling);
  }

  reset(): void {
    this.#attempt = 0;
  }
}
