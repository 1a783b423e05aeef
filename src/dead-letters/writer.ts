import { toError } from "../errors.ts";
import type { DataRecord } from "../record/index.ts";
import { Backoff } from "../runtime/backoff.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { letterOf } from "./letter.ts";
import type { DeadLetterStore } from "./store.ts";

/** A store that stays full or broken is tried this often at most. */
const RETRY = { initialMs: 100, maxMs: 5000 };

/** A flood of bad records is told about once in this time for each component. */
const REPORT_EVERY_MS = 1000;

/**
 * Puts refused records into the store and does not give up: a full store or a full disk means to wait, which holds the
 * stage back, and never to drop.
 */
export class DeadLetterWriter {
  readonly #options: {
    readonly store: DeadLetterStore;
    readonly clock: Clock;
    readonly random: Random;
    readonly events: EventSink;
    readonly log: Logger;
  };
  readonly #reports = new Map<string, { records: number; toldAtMs: number; reason: string }>();

  constructor(options: { store: DeadLetterStore; clock: Clock; random: Random; events: EventSink; log: Logger }) {
    this.#options = options;
  }

  /** True once all are durable; false if `signal` aborted first, then perhaps some are (a repeat is harmless). */
  async put(
    component: string,
    rejections: readonly { readonly record: DataRecord; readonly reason: string }[],
    attempts: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { store, clock, random, log } = this.#options;
    const nowMs = clock.now();
    const letters = rejections.map(({ record, reason }) => letterOf(record, { component, reason, attempts, nowMs }));
    const backoff = new Backoff(RETRY, random);
    while (!signal.aborted) {
      try {
        await store.put(letters);
        if (backoff.attempts > 0) log.info({ component }, "the dead letter store takes letters again");
        this.#report(component, letters.length, rejections.at(-1)?.reason ?? "");
        return true;
      } catch (thrown) {
        if (backoff.attempts === 0) log.error({ component }, `${component} waits: ${toError(thrown).message}`);
        await clock.sleep(backoff.next(), { signal });
      }
    }
    return false;
  }

  /** Tells what has not been told yet; for the end. */
  flush(): void {
    for (const [component, report] of this.#reports) if (report.records > 0) this.#tell(component, report);
  }

  #report(component: string, records: number, reason: string): void {
    const report = this.#reports.get(component) ?? { records: 0, toldAtMs: Number.NEGATIVE_INFINITY, reason };
    this.#reports.set(component, report);
    report.records += records;
    report.reason = reason;
    if (this.#options.clock.monotonic() - report.toldAtMs >= REPORT_EVERY_MS) this.#tell(component, report);
  }

  #tell(component: string, report: { records: number; toldAtMs: number; reason: string }): void {
    const { records, reason } = report;
    const what = records === 1 ? "a record" : `${records} records`;
    this.#options.events.emit("dead_lettered", `${component} refused ${what} for good; the last one: ${reason}`, {
      component,
      records,
      reason,
    });
    report.records = 0;
    report.toldAtMs = this.#options.clock.monotonic();
  }
}
