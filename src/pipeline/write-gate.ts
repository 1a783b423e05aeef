import type { Clock } from "../runtime/clock.ts";

/**
 * Counts the writes under way in one sink, and finds the instant between two of them at which a barrier can be taken:
 * sets and lengths must describe the same instant.
 *
 * ```
 * begin ---- write ---- end        begin -- ...
 *        begin -- write ------ end |
 *              ^ atRest(take): waits for here; meanwhile `isAwaited` asks who could begin another write to wait
 * ```
 */
export class WriteGate {
  readonly #clock: Clock;
  readonly #onRest: () => void;
  #writes = 0;
  #waiting: (() => void) | undefined;
  /** Monotonic time of the last sign of life: a write that began with none under way, or one that came back. */
  progressAtMs: number;

  /** `onRest` is called once what waited has been taken. */
  constructor(clock: Clock, onRest: () => void) {
    this.#clock = clock;
    this.#onRest = onRest;
    this.progressAtMs = clock.monotonic();
  }

  get isWriting(): boolean {
    return this.#writes > 0;
  }

  /** Somebody waits for the instant between two writes. */
  get isAwaited(): boolean {
    return this.#waiting !== undefined;
  }

  begin(): void {
    this.#writes += 1;
    if (this.#writes === 1) this.isAlive();
  }

  /** A write has come back and what it did is noted. */
  end(): void {
    this.#writes -= 1;
    if (this.#writes > 0 || this.#waiting === undefined) return;
    const take = this.#waiting;
    this.#waiting = undefined;
    take();
    this.#onRest();
  }

  isAlive(): void {
    this.progressAtMs = this.#clock.monotonic();
  }

  /** Calls `take` at the next instant without a write under way; one waits at a time. */
  atRest(take: () => void): void {
    if (this.#writes === 0) take();
    else this.#waiting = take;
  }
}
