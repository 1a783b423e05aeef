import type { HistogramPoint } from "./metrics.ts";

/** Upper bounds in seconds: 1-2-5 steps from 100 microseconds (a commit to a fast disk) to a minute (one that hangs). */
const BOUNDS_SECONDS: readonly number[] = [
  0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60,
];

/** Durations counted in plain fields. */
export class DurationHistogram {
  readonly #counts: number[] = new Array<number>(BOUNDS_SECONDS.length + 1).fill(0);
  #sum = 0;
  #count = 0;

  readonly observe = (seconds: number): void => {
    const found = BOUNDS_SECONDS.findIndex((bound) => seconds <= bound);
    const bucket = found === -1 ? BOUNDS_SECONDS.length : found;
    this.#counts[bucket] = this.#counts[bucket]! + 1;
    this.#sum += seconds;
    this.#count += 1;
  };

  point(): Omit<HistogramPoint, "labels"> {
    return { bounds: BOUNDS_SECONDS, counts: [...this.#counts], sum: this.#sum, count: this.#count };
  }
}
