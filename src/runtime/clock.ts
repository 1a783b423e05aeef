/**
 * Time behind an interface, so that the simulation can replace it. Everything in Tailrace that waits or looks at a
 * clock is handed one of these.
 */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. May jump, also backwards. */
  now(): number;
  /** Monotonic milliseconds; only differences mean anything. */
  monotonic(): number;
  /** Resolves after `ms`; earlier, and without an error, when `signal` aborts. */
  sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void>;
  /** Calls `run` once after `ms`. A pending timer keeps the process alive: cancel what is not needed any more. */
  after(ms: number, run: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, options) => sleepWith(systemClock, ms, options?.signal),
  after(ms, run) {
    // setTimeout turns anything above 2^31-1 into 1 ms.
    const timer = setTimeout(run, Math.min(Math.max(0, ms), 2 ** 31 - 1));
    return { cancel: () => clearTimeout(timer) };
  },
};

/** `sleep` on top of `after`, for any clock. */
export function sleepWith(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      timer.cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.after(ms, done);
    signal?.addEventListener("abort", done, { once: true });
  });
}
