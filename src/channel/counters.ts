/** What was dropped, by the reason: a policy that somebody wrote down, or a receiver that closed with values inside. */
export interface DropCounts {
  readonly policy: number;
  readonly closed: number;
}

/** One instant's counts; sent = received + dropped + in channel, always, in messages and in records. */
export interface ChannelCounters {
  readonly capacity: number;
  /** Infinity: not bounded by bytes. */
  readonly capacityBytes: number;
  /** In channel now. */
  readonly messages: number;
  /** In channel now. */
  readonly bytes: number;
  /** Every message accepted or dropped; a refused one counts nowhere. */
  readonly sent: number;
  readonly received: number;
  readonly dropped: DropCounts;
  /** Messages that were merged into a waiting one of their key; they count nowhere else. */
  readonly coalesced: number;
  readonly records: {
    readonly inChannel: number;
    readonly sent: number;
    readonly received: number;
    readonly dropped: DropCounts;
  };
  /** 0 to 100, the greater of messages and bytes. */
  readonly usagePercent: number;
}

/** What went through one channel and its predecessor of the same name; what is inside is the present one's alone. */
export function continueCounters(past: ChannelCounters, present: ChannelCounters): ChannelCounters {
  return {
    ...present,
    sent: past.sent + present.sent,
    received: past.received + present.received,
    dropped: addDrops(past.dropped, present.dropped),
    coalesced: past.coalesced + present.coalesced,
    records: {
      inChannel: present.records.inChannel,
      sent: past.records.sent + present.records.sent,
      received: past.records.received + present.records.received,
      dropped: addDrops(past.records.dropped, present.records.dropped),
    },
  };
}

function addDrops(one: DropCounts, other: DropCounts): DropCounts {
  return { policy: one.policy + other.policy, closed: one.closed + other.closed };
}
