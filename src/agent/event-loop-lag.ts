import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";

/**
 * How often the delay is measured. It is part of what Node reports, and taken off again. Each look wakes the process: at 20
 * ms they were half of what an idle agent cost.
 */
const RESOLUTION_MS = 100;

const WINDOW_MS = 1000;

/** The longest delay of the event loop in the present second and the one before. */
export class EventLoopLag {
  readonly #histogram: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #timer: NodeJS.Timeout;
  #before = 0;

  constructor() {
    this.#histogram.enable();
    // Not by the agent's clock: this measures the machine's, and must not keep the process alive.
    this.#timer = setInterval(() => {
      this.#before = this.#present();
      this.#histogram.reset();
    }, WINDOW_MS);
    this.#timer.unref();
  }

  get seconds(): number {
    return Math.max(this.#before, this.#present());
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#histogram.disable();
  }

  #present(): number {
    return Math.max(0, this.#histogram.max / 1e9 - RESOLUTION_MS / 1000);
  }
}
