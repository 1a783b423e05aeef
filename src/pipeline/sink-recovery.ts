import type { RetryPlan } from "../config/plan.ts";
import { StageError, toError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { Sink } from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Lane } from "./lane.ts";
import type { SinkHealth } from "./sink-health.ts";

export interface SinkRecoveryOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly health: SinkHealth;
}

/** What is asked, and for whom; each of them may be another the next time. */
export interface Asked {
  readonly sink: Sink;
  readonly lanes: readonly Lane[];
  readonly retry: RetryPlan;
}

/**
 * Asks a target what it holds, at the start and after an unknown outcome, and unites that with what is known
 * (`Sink.recover`).
 */
export class SinkRecovery {
  readonly #options: SinkRecoveryOptions;
  /** The target did not answer at the start. */
  isOutstanding = false;

  constructor(options: SinkRecoveryOptions) {
    this.#options = options;
  }

  /**
   * Before any source starts: once. A target that does not answer holds up nobody but its own sink, which asks again as
   * it begins to run.
   * @throws StageError if the sink failed for good.
   */
  async atStart(asked: Asked): Promise<void> {
    try {
      await this.#ask(asked, true);
    } catch (error) {
      if (error instanceof StageError) throw error;
      this.#options.health.isDown(toError(error).message);
      this.isOutstanding = true;
    }
  }

  /**
   * However long it takes, or until `signal` aborts; at the pace of the sink's own `retry`.
   * @throws StageError if the sink failed for good; also if the target was restored: what it lost is behind the sources, and
   * they read it again at the next start.
   */
  async untilAnswered(asked: Asked, signal: AbortSignal): Promise<void> {
    const { clock, random, health } = this.#options;
    const { initialMs, maxMs } = asked.retry;
    const backoff = new Backoff({ initialMs, maxMs }, random);
    while (!signal.aborted) {
      try {
        await this.#ask(asked, false);
        // A write will tell whether it takes records; that it answers, it has told now.
        if (backoff.attempts > 0 || this.isOutstanding) health.isUp();
        this.isOutstanding = false;
        return;
      } catch (error) {
        if (error instanceof StageError) throw error;
        health.isDown(toError(error).message);
        await clock.sleep(backoff.next(), { signal });
      }
    }
  }

  async #ask({ sink, lanes }: Asked, isAtStart: boolean): Promise<void> {
    const { name, events } = this.#options;
    const recovered = await sink.recover?.();
    if (recovered === undefined) return;
    const standsAlone = recovered.standsAlone ?? false;
    if (standsAlone) {
      events.emit("sink_rewound", `${name}: the target knows less than the store; it was restored or recreated`, {});
      if (!isAtStart)
        throw new StageError(
          "TR_STAGE_FAILED",
          name,
          "its target was restored or recreated while the agent ran; start again: what it lost is read again from there",
        );
      for (const lane of lanes) lane.forgetAll();
    }
    for (const { source, file, way, value } of recovered.positions) {
      for (const lane of lanes) {
        if (lane.source === source && lane.way === way) lane.recovered(file, value, standsAlone);
      }
    }
  }
}
