import type { ChannelRegistry, OverflowPolicy, SendDurations } from "../channel/index.ts";

/** One channel, for people and for the API. */
export interface ChannelRow {
  readonly component: string;
  readonly channel: string;
  readonly why: string;
  readonly overflow: OverflowPolicy;
  /** Messages. */
  readonly capacity: number;
  /** Null: not bounded by bytes. */
  readonly capacity_bytes: number | null;
  readonly usage_percent: number;
  /** In channel now. */
  readonly messages: number;
  readonly bytes: number;
  readonly sent: number;
  readonly received: number;
  readonly dropped: number;
  /** Null: it carries no records. */
  readonly records: {
    readonly in_channel: number;
    readonly sent: number;
    readonly received: number;
    readonly dropped: number;
  } | null;
  /** Merged into a waiting one of their key; they count nowhere else. */
  readonly coalesced: number;
  /** Seconds that sends waited for room. */
  readonly send_seconds: SendDurations["percentiles"];
}

/** Every channel, in the order of their making. */
export function channelRows(channels: ChannelRegistry): ChannelRow[] {
  return channels.list().map((channel) => {
    const counters = channel.counters();
    const { records } = counters;
    return {
      component: channel.component,
      channel: channel.channel,
      why: channel.why,
      overflow: channel.policy,
      capacity: counters.capacity,
      capacity_bytes: Number.isFinite(counters.capacityBytes) ? counters.capacityBytes : null,
      usage_percent: counters.usagePercent,
      messages: counters.messages,
      bytes: counters.bytes,
      sent: counters.sent,
      received: counters.received,
      dropped: counters.dropped.policy + counters.dropped.closed,
      records: channel.carriesRecords
        ? {
            in_channel: records.inChannel,
            sent: records.sent,
            received: records.received,
            dropped: records.dropped.policy + records.dropped.closed,
          }
        : null,
      coalesced: counters.coalesced,
      send_seconds: channel.sendDurations().percentiles,
    };
  });
}
