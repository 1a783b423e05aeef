/** What a channel and its monitor need of a clock; the runtime's `Clock` is one. */
export interface ChannelClock {
  /** Monotonic milliseconds; only differences mean anything. */
  monotonic(): number;
  /** Calls `run` once after `ms`. */
  after(ms: number, run: () => void): { cancel(): void };
}

/** The machine's own clock, for channels that are made without one. */
export const machineClock: ChannelClock = {
  monotonic: () => performance.now(),
  after(ms, run) {
    // setTimeout turns anything above 2^31-1 into 1 ms.
    const timer = setTimeout(run, Math.min(Math.max(0, ms), 2 ** 31 - 1));
    return { cancel: () => clearTimeout(timer) };
  },
};
