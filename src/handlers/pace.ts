import type { Clock } from "../runtime/clock.ts";

/** Suggested while nothing is known yet. */
const UNKNOWN_MS = 20;
const LONGEST_MS = 1000;
/** Shorter stretches of time say little. */
const SHORTEST_WINDOW_MS = 20;

/** How fast workers answer, for guessing how long something takes. */
export class Pace {
  readonly #clock: Clock;
  #sinceMs: number;
  #count = 0;
  #perMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sinceMs = clock.monotonic();
  }

  /** One more. */
  count(): void {
    this.#count += 1;
  }

  /** Called now and then. */
  look(): void {
    const elapsedMs = this.#clock.monotonic() - this.#sinceMs;
    if (elapsedMs < SHORTEST_WINDOW_MS) return;
    const perMs = this.#count / elapsedMs;
    this.#perMs = this.#perMs === undefined ? perMs : (this.#perMs + perMs) / 2;
    this.#sinceMs += elapsedMs;
    this.#count = 0;
  }

  /** Milliseconds, 1 to 1000. */
  timeFor(count: number): number {
    const elapsedMs = this.#clock.monotonic() - this.#sinceMs;
    const isLongEnough = elapsedMs >= SHORTEST_WINDOW_MS && this.#count > 0;
    const perMs = this.#perMs ?? (isLongEnough ? this.#count / elapsedMs : undefined);
    if (perMs === undefined) return UNKNOWN_MS;
    return Math.min(LONGEST_MS, Math.max(1, count / perMs));
  }
}
