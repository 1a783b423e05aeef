import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock } from "../runtime/clock.ts";

/** What is wrong with one component. */
export interface Complaint {
  readonly component: string;
  readonly reason: string;
}

/** An event loop that hangs for so long does nothing else either. */
const MAX_LAG_SECONDS = 5;

/** A stage that gives nothing back for so long hangs: every network sink has a time-out well below. */
const STUCK_MS = 120_000;

/** `/ready` names a sink within two seconds of its failing; one whose target says nothing must not wait for its time-out. */
const SILENT_MS = 1500;

/**
 * Whether the process makes progress, and whether it is up. A sink that is down makes it unready, not dead: starting it
 * anew would not help. Dead is what only a new start can mend: an event loop or a stage that hangs.
 */
export class Health {
  readonly #clock: Clock;
  readonly #lagSeconds: () => number;
  #pipeline: Pipeline | undefined;
  #isStopping = false;
  /** Since when each transform is at the same batch, as far as it was looked at. */
  readonly #at = new Map<string, { applied: number; sinceMs: number }>();

  constructor(clock: Clock, lagSeconds: () => number) {
    this.#clock = clock;
    this.#lagSeconds = lagSeconds;
  }

  /** The stages are open and run. */
  started(pipeline: Pipeline): void {
    this.#pipeline = pipeline;
  }

  stopping(): void {
    this.#isStopping = true;
  }

  /** Why the process makes no progress; empty: it does. */
  stuck(): Complaint[] {
    const complaints: Complaint[] = [];
    const lag = this.#lagSeconds();
    if (lag > MAX_LAG_SECONDS)
      complaints.push({ component: "runtime", reason: `the event loop hung for ${lag.toFixed(1)} s` });
    const nowMs = this.#clock.monotonic();
    for (const sink of this.#pipeline?.sinks ?? []) {
      const silentMs = nowMs - sink.progressAtMs;
      if (sink.isWriting && sink.trouble === undefined && silentMs > STUCK_MS)
        complaints.push({ component: sink.name, reason: `a write has not come back for ${seconds(silentMs)}` });
    }
    for (const { name, isApplying, applied } of this.#pipeline?.transforms ?? []) {
      const before = this.#at.get(name);
      if (!isApplying || before?.applied !== applied) this.#at.set(name, { applied, sinceMs: nowMs });
      else if (nowMs - before.sinceMs > STUCK_MS)
        complaints.push({ component: name, reason: `it is at the same batch for ${seconds(nowMs - before.sinceMs)}` });
    }
    return complaints;
  }

  /** What is not up; empty: ready. */
  notReady(): Complaint[] {
    const complaints: Complaint[] = this.#isStopping ? [{ component: "agent", reason: "it is shutting down" }] : [];
    const pipeline = this.#pipeline;
    if (pipeline === undefined)
      return complaints.length > 0 ? complaints : [{ component: "agent", reason: "it is starting" }];
    for (const sink of pipeline.sinks) {
      const reason = this.#whyNot(sink);
      if (reason !== undefined) complaints.push({ component: sink.name, reason });
    }
    for (const { name, source } of pipeline.sources)
      if (source.trouble !== undefined) complaints.push({ component: name, reason: source.trouble });
    const { trouble, hasRoom } = pipeline.committer;
    if (trouble !== undefined) complaints.push({ component: "checkpoint", reason: trouble });
    if (!hasRoom)
      complaints.push({
        component: "checkpoint",
        reason: "too much is delivered and not committed (max_uncommitted_bytes, max_uncommitted_ms); sources wait",
      });
    return complaints;
  }

  #whyNot(sink: Pipeline["sinks"][number]): string | undefined {
    if (sink.trouble !== undefined) return sink.trouble;
    if (sink.hasFailed) return "it has failed for good";
    const silentMs = this.#clock.monotonic() - sink.progressAtMs;
    return sink.isWriting && silentMs >= SILENT_MS ? `a write has not come back for ${seconds(silentMs)}` : undefined;
  }
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
