import { ConfigError } from "../errors.ts";
import type { ChannelClock } from "./clock.ts";
import type { ChannelRegistry, RegisteredChannel } from "./registry.ts";

/** Where the monitor says what it saw; a `Logger` is one. */
export interface ChannelMonitorLog {
  warn(fields: { readonly [field: string]: unknown }, message: string): void;
  info(fields: { readonly [field: string]: unknown }, message: string): void;
}

export interface ChannelMonitorOptions {
  readonly registry: ChannelRegistry;
  readonly clock: ChannelClock;
  readonly log: ChannelMonitorLog;
  /** `log_warning_threshold`: fill from which a channel is warned of, a fraction of 1 above 0. */
  readonly warningThreshold: number;
  /** Milliseconds between two looks; default 200. */
  readonly sampleMs?: number;
}

/** Percent points that a channel must fall below the threshold before it counts as over: no flapping at the edge. */
const HYSTERESIS_PERCENT = 10;

/** Drops are reported this often while they last. */
const REPORT_MS = 1000;

/** What was seen of one channel. */
interface Watch {
  /** Monotonic milliseconds at which it passed the threshold; undefined while it is below. */
  fullSinceMs: number | undefined;
  /** Of the records that its policy dropped, those already reported. */
  reportedDrops: number;
}

/**
 * Looks at every registered channel by time, not by message, so that watching costs the same however much flows.
 *
 *   below --usage >= threshold--> full      warn, once
 *   full  --usage <= threshold - 10, or the channel is over--> below      info, with how long it lasted
 *
 * What a policy drops is reported once a second while it lasts and once more at the end; the reports of a channel add up
 * to all that it dropped. (What a closing receiver leaves behind is not lost but read again, and is not reported here.)
 */
export class ChannelMonitor {
  readonly #registry: ChannelRegistry;
  readonly #clock: ChannelClock;
  readonly #log: ChannelMonitorLog;
  readonly #thresholdPercent: number;
  readonly #sampleMs: number;
  readonly #watches = new Map<RegisteredChannel, Watch>();
  #timer: { cancel(): void } | undefined;
  #nextReportMs = 0;

  constructor(options: ChannelMonitorOptions) {
    if (!(options.warningThreshold > 0 && options.warningThreshold <= 1)) {
      throw new ConfigError([
        {
          key: "log_warning_threshold",
          message: `${options.warningThreshold} is no share of a channel; give a number above 0 and up to 1, such as 0.8`,
        },
      ]);
    }
    this.#registry = options.registry;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#thresholdPercent = options.warningThreshold * 100;
    this.#sampleMs = options.sampleMs ?? 200;
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#nextReportMs = this.#clock.monotonic() + REPORT_MS;
    this.#arm();
  }

  /** Ends the watch and reports what was not reported yet; call it after the channels are closed. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#look();
    for (const [channel, watch] of this.#watches) this.#reportDrops(channel, watch);
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #arm(): void {
    this.#timer = this.#clock.after(this.#sampleMs, () => {
      this.#look();
      this.#arm();
    });
  }

  #look(): void {
    const nowMs = this.#clock.monotonic();
    const isReportDue = nowMs >= this.#nextReportMs;
    // From now, not from when it was due: after a stall one report covers it all.
    if (isReportDue) this.#nextReportMs = nowMs + REPORT_MS;
    const listed = new Set(this.#registry.list());
    for (const channel of listed) {
      if (!this.#watches.has(channel)) this.#watches.set(channel, { fullSinceMs: undefined, reportedDrops: 0 });
    }
    for (const [channel, watch] of this.#watches) {
      const isGone = channel.isOver || !listed.has(channel);
      this.#compareUsage(channel, watch, isGone, nowMs);
      if (isReportDue || isGone) this.#reportDrops(channel, watch);
      if (!listed.has(channel)) this.#watches.delete(channel);
    }
  }

  #compareUsage(channel: RegisteredChannel, watch: Watch, isGone: boolean, nowMs: number): void {
    const usage = channel.usagePercent;
    const fields = {
      component: channel.component,
      channel: channel.channel,
      usage_percent: Math.round(usage * 10) / 10,
    };
    if (watch.fullSinceMs === undefined) {
      if (isGone || usage < this.#thresholdPercent) return;
      watch.fullSinceMs = nowMs;
      this.#log.warn(fields, `Channel is ${Math.round(usage)}% full; what reads from it is slower than what fills it`);
    } else if (isGone || usage <= Math.max(0, this.#thresholdPercent - HYSTERESIS_PERCENT)) {
      const lastedMs = Math.round(nowMs - watch.fullSinceMs);
      watch.fullSinceMs = undefined;
      this.#log.info({ ...fields, lasted_ms: lastedMs }, `Channel has room again after ${lastedMs} ms`);
    }
  }

  #reportDrops(channel: RegisteredChannel, watch: Watch): void {
    const dropped = channel.policyDroppedRecords - watch.reportedDrops;
    if (dropped === 0) return;
    watch.reportedDrops += dropped;
    this.#log.warn(
      { component: channel.component, channel: channel.channel, dropped },
      `Dropped ${dropped} ${channel.unit} in last second`,
    );
  }
}
