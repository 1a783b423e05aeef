import { ConfigError } from "../errors.ts";
import type { ChannelClock } from "./clock.ts";
import type { ChannelRegistry, RegisteredChannel } from "./registry.ts";
import { ChannelSizer } from "./sizer.ts";

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
  /** Bytes that all channels with a dynamic size may hold together; default: no bound. */
  readonly totalBytes?: number;
  /** Milliseconds between two looks; default 200. */
  readonly sampleMs?: number;
}

/** Percent points that a channel must fall below the threshold before it counts as over: no flapping at the edge. */
const HYSTERESIS_PERCENT = 10;

/** Milliseconds for which it must stay there: a channel that fills and empties in turns is told of once. */
const CALM_MS = 1000;

/** Drops are reported, and sizes looked at, this often. */
const REPORT_MS = 1000;

/** What was seen of one channel. */
interface Watch {
  /** Monotonic milliseconds at which it passed the threshold; undefined while it is below. */
  fullSinceMs: number | undefined;
  /** Since when it has been below again; undefined while it is full. */
  calmSinceMs: number | undefined;
  /** Of the records that its policy dropped, those already reported. */
  reportedDrops: number;
}

/**
 * Looks at every registered channel, by time and as messages are sent: an alarm in the channel tells it of a crossing
 * that would be over before the next look.
 *
 *   below --usage >= threshold (alarm, or at a look)--> full      warn, once
 *   full  --usage <= threshold - 10 at a look--> calm             and the alarm is set again
 *   calm  --alarm--> full
 *   calm  --for a second, or the channel is over--> below         info, with how long it lasted
 *
 * What a policy drops is reported once a second while it lasts and once more at the end; the reports of a channel add up
 * to all that it dropped. (What a closing receiver leaves behind is not lost but read again, and is not reported here.)
 * A channel is watched from its making, so that none escapes that lives shorter than the time between two looks.
 */
export class ChannelMonitor {
  readonly #registry: ChannelRegistry;
  readonly #clock: ChannelClock;
  readonly #log: ChannelMonitorLog;
  readonly #thresholdPercent: number;
  readonly #sampleMs: number;
  readonly #sizer: ChannelSizer;
  readonly #watches = new Map<RegisteredChannel, Watch>();
  #listening: Disposable | undefined;
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
    this.#sizer = new ChannelSizer(options.log, options.totalBytes ?? Number.POSITIVE_INFINITY);
  }

  start(): void {
    if (this.#timer !== undefined) return;
    this.#nextReportMs = this.#clock.monotonic() + REPORT_MS;
    this.#listening = this.#registry.onCreate((channel) => this.#watch(channel));
    for (const channel of this.#registry.list()) this.#watch(channel);
    this.#arm();
  }

  /** Ends the watch and reports what was not reported yet; call it after the channels are closed. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#listening?.[Symbol.dispose]();
    this.#look();
    for (const [channel, watch] of this.#watches) {
      this.#reportDrops(channel, watch);
      channel.alarmAt(0, undefined);
    }
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

  #watch(channel: RegisteredChannel): void {
    if (this.#watches.has(channel)) return;
    const watch: Watch = { fullSinceMs: undefined, calmSinceMs: undefined, reportedDrops: 0 };
    this.#watches.set(channel, watch);
    this.#setAlarm(channel, watch);
    this.#sizer.add(channel, this.#clock.monotonic());
  }

  #setAlarm(channel: RegisteredChannel, watch: Watch): void {
    channel.alarmAt(this.#thresholdPercent, (usagePercent) => {
      // It may have gone off while the watch was ended.
      if (this.#timer === undefined) return;
      watch.calmSinceMs = undefined;
      this.#tellFull(channel, watch, usagePercent);
    });
  }

  #look(): void {
    const nowMs = this.#clock.monotonic();
    const isReportDue = nowMs >= this.#nextReportMs;
    // From now, not from when it was due: after a stall one report covers it all.
    if (isReportDue) this.#nextReportMs = nowMs + REPORT_MS;
    const listed = new Set(this.#registry.list());
    for (const [channel, watch] of this.#watches) {
      const isGone = channel.isOver || !listed.has(channel);
      this.#compareUsage(channel, watch, isGone, nowMs);
      if (isReportDue || isGone) this.#reportDrops(channel, watch);
      if (isGone) this.#sizer.remove(channel);
      if (!listed.has(channel)) this.#watches.delete(channel);
    }
    if (isReportDue) this.#sizer.look(nowMs);
  }

  #compareUsage(channel: RegisteredChannel, watch: Watch, isGone: boolean, nowMs: number): void {
    const usage = channel.usagePercent;
    if (watch.fullSinceMs === undefined) {
      if (!isGone && usage >= this.#thresholdPercent) this.#tellFull(channel, watch, usage);
      return;
    }
    if (usage > Math.max(0, this.#thresholdPercent - HYSTERESIS_PERCENT) && !isGone) {
      watch.calmSinceMs = undefined;
      return;
    }
    if (watch.calmSinceMs === undefined) {
      watch.calmSinceMs = nowMs;
      this.#setAlarm(channel, watch);
    }
    if (!isGone && nowMs - watch.calmSinceMs < CALM_MS) return;
    const lastedMs = Math.round(watch.calmSinceMs - watch.fullSinceMs);
    watch.fullSinceMs = undefined;
    watch.calmSinceMs = undefined;
    this.#log.info({ ...fieldsOf(channel, usage), lasted_ms: lastedMs }, `Channel has room again after ${lastedMs} ms`);
  }

  #tellFull(channel: RegisteredChannel, watch: Watch, usage: number): void {
    if (watch.fullSinceMs !== undefined) return;
    watch.fullSinceMs = this.#clock.monotonic();
    this.#log.warn(
      fieldsOf(channel, usage),
      `Channel is ${Math.round(usage)}% full; what reads from it is slower than what fills it`,
    );
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

function fieldsOf(channel: RegisteredChannel, usage: number): { readonly [field: string]: unknown } {
  return { component: channel.component, channel: channel.channel, usage_percent: Math.round(usage * 10) / 10 };
}
