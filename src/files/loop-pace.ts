import type { Clock } from "../runtime/clock.ts";
import type { FolderChange } from "../runtime/file-system.ts";
import { WakeSignal } from "./wake-signal.ts";

/** Notifications come in bursts, one for each write: what they announce is looked at together. */
export const HINT_DELAY_MS = 25;

/**
 * Bytes that keep coming are looked at ten times a second: a look costs a dozen system calls, whatever it finds, and what
 * it finds is not durable before the next commit anyway. The first bytes after a pause, and any change of names, are
 * looked at after HINT_DELAY_MS.
 */
export const STEADY_MS = 100;

/** When the manager's loop goes round: at the pace of the scan, sooner when something happened. */
export class LoopPace {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #wakes: WakeSignal;
  /** Monotonic time by which the next turn is wanted for what has happened. */
  #wantedMs = Number.POSITIVE_INFINITY;
  /** Monotonic time at which the last turn began. */
  #turnMs = Number.NEGATIVE_INFINITY;

  /** @param signal ends every wait */
  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
    this.#wakes = new WakeSignal(clock, signal);
  }

  /** Something happened since the last turn began. */
  get isNudged(): boolean {
    return this.#wantedMs !== Number.POSITIVE_INFINITY;
  }

  /** Go round at once. */
  nudge(): void {
    this.#wantBy(this.#clock.monotonic());
  }

  /** Go round in a moment, with whatever comes until then. */
  hint(change: FolderChange): void {
    const soonMs = this.#clock.monotonic() + HINT_DELAY_MS;
    this.#wantBy(change === "content" ? Math.max(soonMs, this.#turnMs + STEADY_MS) : soonMs);
  }

  /** Until `dueMs` (monotonic), a nudge or a hint. */
  async next(dueMs: number): Promise<void> {
    const latestMs = Math.max(dueMs, this.#clock.monotonic() + 1);
    while (!this.#signal.aborted) {
      const leftMs = Math.min(latestMs, this.#wantedMs) - this.#clock.monotonic();
      if (leftMs <= 0) break;
      await this.#wakes.wait(leftMs);
    }
    this.#wantedMs = Number.POSITIVE_INFINITY;
    this.#turnMs = this.#clock.monotonic();
  }

  #wantBy(wantedMs: number): void {
    if (wantedMs >= this.#wantedMs) return;
    this.#wantedMs = wantedMs;
    this.#wakes.wake();
  }
}
