import type { Clock } from "../runtime/clock.ts";
import { WakeSignal } from "./wake-signal.ts";

/** Notifications come in bursts, one for each write: what they announce is looked at together. */
export const HINT_DELAY_MS = 25;

/** When the manager's loop goes round: at the pace of the scan, sooner when something happened. */
export class LoopPace {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #wakes: WakeSignal;
  #isHinted = false;
  #isNudged = false;

  /** @param signal ends every wait */
  constructor(clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
    this.#wakes = new WakeSignal(clock, signal);
  }

  /** The next turn comes at once. */
  get isNudged(): boolean {
    return this.#isNudged;
  }

  /** Go round at once. */
  nudge(): void {
    this.#isNudged = true;
    this.#wakes.wake();
  }

  /** Go round in a moment, with whatever comes until then. */
  hint(): void {
    this.#isHinted = true;
    this.nudge();
  }

  /** Until `dueMs` (monotonic), a nudge or a hint. */
  async next(dueMs: number): Promise<void> {
    await this.#wakes.wait(Math.max(1, dueMs - this.#clock.monotonic()));
    this.#isNudged = false;
    if (!this.#isHinted) return;
    await this.#clock.sleep(HINT_DELAY_MS, { signal: this.#signal });
    this.#isHinted = false;
  }
}
