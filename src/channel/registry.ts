import { TailraceError } from "../errors.ts";
import { type Broadcast, type BroadcastOptions, broadcast } from "./broadcast.ts";
import type { Receiver, Sender } from "./channel.ts";
import { ChannelCore } from "./core.ts";
import { type ChannelCounters, continueCounters } from "./counters.ts";
import type { ChannelOptions, OverflowPolicy } from "./options.ts";
import { ChannelReceiver } from "./receiver.ts";
import { mergeDurations, SendDurationRecorder, type SendDurations } from "./send-durations.ts";
import { ChannelSender } from "./sender.ts";

/** Who a channel is; the two names are its metric labels. */
interface Identity {
  readonly component: string;
  readonly channel: string;
  /** Why it has this size and policy, in a sentence for people. */
  readonly why: string;
}

/** One channel, as the code that needs it asks for it. */
export interface ChannelDefinition<T> extends ChannelOptions<T>, Identity {
  /** What drop reports count; default `records`. */
  readonly unit?: "records" | "time slots";
}

export interface BroadcastDefinition extends BroadcastOptions, Identity {}

/** A channel of this process, seen from outside: for metrics, the ledger and the monitor. */
export interface RegisteredChannel extends Identity {
  readonly policy: OverflowPolicy;
  /** Messages. */
  readonly capacity: number;
  readonly unit: "records" | "time slots";
  /** False for commands and events: such a channel has no counts in records. */
  readonly carriesRecords: boolean;
  /** Of one instant; goes on from an earlier channel of the same name. */
  counters(): ChannelCounters;
  /** Goes on from an earlier channel of the same name, so that its `count` is the `sent` of `counters`. */
  sendDurations(): SendDurations;
  /** Both ends are through with it; its counts are final. */
  readonly isOver: boolean;
  /** `usagePercent` of the counters, cheaper. */
  readonly usagePercent: number;
  /** Records that the policy dropped, of this channel alone (no earlier one), cheaper than the counters. */
  readonly policyDroppedRecords: number;
}

/**
 * Every channel of a process, each made here, so that none is without a name, a reason and a monitor. A channel that is
 * over stays listed, with its final counts, until a new one of the same name goes on from them: totals never step back.
 */
export class ChannelRegistry {
  readonly #channels = new Map<string, RegisteredChannel>();

  /**
   * Makes a channel. Throws ConfigError as `channel` does, and TailraceError (TR_INTERNAL) if one of the same component
   * and name is still in use.
   */
  create<T>(definition: ChannelDefinition<T>): { sender: Sender<T>; receiver: Receiver<T> } {
    const core = new ChannelCore(definition);
    this.#register({
      component: definition.component,
      channel: definition.channel,
      why: definition.why,
      policy: core.overflow,
      capacity: definition.capacity,
      unit: definition.unit ?? "records",
      carriesRecords: definition.recordsOf !== undefined,
      counters: () => core.counters(),
      sendDurations: () => core.sendDurations(),
      get isOver() {
        return core.isOver;
      },
      get usagePercent() {
        return core.usagePercent;
      },
      get policyDroppedRecords() {
        return core.policyDroppedRecords;
      },
    });
    return { sender: new ChannelSender(core), receiver: new ChannelReceiver(core) };
  }

  /** Makes a broadcast; its counts are sums over its receivers. */
  createBroadcast<T>(definition: BroadcastDefinition): Broadcast<T> {
    const hub = broadcast<T>(definition);
    // Sending to a broadcast never waits.
    const durations = new SendDurationRecorder();
    this.#register({
      component: definition.component,
      channel: definition.channel,
      why: definition.why,
      policy: "drop_oldest",
      capacity: definition.capacity,
      unit: "records",
      carriesRecords: false,
      counters: () => hub.counters(),
      sendDurations: () => durations.snapshot(hub.counters().sent),
      get isOver() {
        return hub.isClosed && hub.receivers === 0;
      },
      get usagePercent() {
        return hub.counters().usagePercent;
      },
      get policyDroppedRecords() {
        return hub.counters().records.dropped.policy;
      },
    });
    return hub;
  }

  /** All channels, in the order of their making. */
  list(): RegisteredChannel[] {
    return [...this.#channels.values()];
  }

  /** Takes a channel off the list (its component is gone from the configuration); its totals end. */
  remove(component: string, channel: string): void {
    this.#channels.delete(keyOf({ component, channel }));
  }

  #register(entry: RegisteredChannel): void {
    const key = keyOf(entry);
    const earlier = this.#channels.get(key);
    if (earlier !== undefined && !earlier.isOver) {
      throw new TailraceError(
        "TR_INTERNAL",
        `a channel ${entry.component}/${entry.channel} exists already; close its ends before making it anew`,
      );
    }
    this.#channels.set(key, earlier === undefined ? entry : continued(earlier, entry));
  }
}

function keyOf(names: { readonly component: string; readonly channel: string }): string {
  return JSON.stringify([names.component, names.channel]);
}

/** `present` with the final counts of `earlier` under its own. */
function continued(earlier: RegisteredChannel, present: RegisteredChannel): RegisteredChannel {
  const pastCounters = earlier.counters();
  const pastDurations = earlier.sendDurations();
  return Object.create(present, {
    counters: { value: () => continueCounters(pastCounters, present.counters()) },
    sendDurations: { value: () => mergeDurations(pastDurations, present.sendDurations()) },
  }) as RegisteredChannel;
}
