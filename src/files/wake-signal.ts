import type { Clock } from "../runtime/clock.ts";

/** Wakes the one that waits; a wake-up that comes while nobody waits counts for the next wait. */
export class WakeSignal {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  #isWoken = false;
  #waiter: (() => void) | undefined;

  /** @param signal ends every wait */
  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
  }

  wake(): void {
    this.#isWoken = true;
    this.#waiter?.();
  }

  /** Resolves when woken, after `ms` (undefined: never by itself), or on cancellation. */
  wait(ms: number | undefined): Promise<void> {
    if (this.#isWoken || this.#signal.aborted) {
      this.#isWoken = false;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const done = () => {
        timer?.cancel();
        this.#signal.removeEventListener("abort", done);
        this.#waiter = undefined;
        this.#isWoken = false;
        resolve();
      };
      const timer = ms === undefined ? undefined : this.#clock.after(ms, done);
      this.#signal.addEventListener("abort", done, { once: true });
      this.#waiter = done;
    });
  }
}
