import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock, Timer } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";

export interface ShutdownWatchOptions {
  readonly pipeline: Pipeline;
  readonly clock: Clock;
  readonly log: Logger;
  /** How long to go on trying sinks that do not acknowledge, milliseconds; 0: no limit. */
  readonly graceMs: number;
  /** Names of the sources that cannot read again what is released unsettled: that is a loss. */
  readonly fleeting: readonly string[];
  readonly onLoss: (message: string) => void;
}

const SAY_MS = 1000;

/**
 * While a shutdown waits for sinks it says once a second for what; after the grace it releases what is unsettled, to be
 * read again at the next start.
 */
export class ShutdownWatch {
  readonly #options: ShutdownWatchOptions;
  readonly #startedAtMs: number;
  #timer: Timer | undefined;

  constructor(options: ShutdownWatchOptions) {
    this.#options = options;
    this.#startedAtMs = options.clock.monotonic();
  }

  start(): void {
    const { clock, graceMs } = this.#options;
    const elapsedMs = clock.monotonic() - this.#startedAtMs;
    const untilGrace = graceMs === 0 ? SAY_MS : Math.max(1, graceMs - elapsedMs);
    this.#timer = clock.after(Math.min(SAY_MS, untilGrace), () => this.#look());
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #look(): void {
    const { pipeline, clock, log, graceMs, fleeting, onLoss } = this.#options;
    const waits = pipeline.waitingFor();
    if (graceMs > 0 && clock.monotonic() - this.#startedAtMs >= graceMs) {
      if (waits.length > 0) {
        log.warn(
          { waiting_for: waits },
          `sink_grace_ms is over; what is not acknowledged is released and read again at the next start (${waits.join("; ")})`,
        );
        if (fleeting.length > 0)
          onLoss(
            `what was not acknowledged is lost as far as it comes from ${fleeting.join(", ")}: that cannot be read again`,
          );
      }
      pipeline.abandon();
      return;
    }
    if (waits.length > 0) log.info({ waiting_for: waits }, `Shutting down: waiting for ${waits.join("; ")}`);
    this.start();
  }
}
