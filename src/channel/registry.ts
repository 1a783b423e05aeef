import { ConfigError, TailraceError } from "../errors.ts";
import { type Broadcast, type BroadcastOptions, broadcast } from "./broadcast.ts";
import type { Receiver, Sender } from "./channel.ts";
import { ChannelCore, type ChannelPressure } from "./core.ts";
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
  /**
   * Dynamic sizing, if both are given: the monitor moves the capacity between them, beginning with `capacity`. Messages.
   */
  readonly capacityMin?: number;
  readonly capacityMax?: number;
}

export interface BroadcastDefinition extends BroadcastOptions, Identity {}

/** A channel of this process, seen from outside: for metrics, the ledger and the monitor. */
export interface RegisteredChannel extends Identity {
  readonly policy: OverflowPolicy;
  /** Messages; changes where the size is dynamic. */
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
  /** Undefined: its size is fixed. */
  readonly sizing: ResizableChannel | undefined;
  /**
   * Calls `sound` once, as soon as a message brings the usage to `percent`; undefined takes the alarm back. A broadcast
   * has no alarm.
   */
  alarmAt(percent: number, sound: ((usagePercent: number) => void) | undefined): void;
}

/** What dynamic sizing may do with a channel. */
export interface ResizableChannel {
  /** Messages. */
  readonly min: number;
  readonly max: number;
  /** Infinity: not bounded by bytes. */
  readonly capacityBytes: number;
  pressure(): ChannelPressure;
  /** Returns the capacity that it has now: never less than what is inside. */
  resize(capacity: number): number;
}

/**
 * Every channel of a process, each made here, so that none is without a name, a reason and a monitor. A channel that is
 * over stays listed, with its final counts, until a new one of the same name goes on from them: totals never step back.
 */
export class ChannelRegistry {
  readonly #channels = new Map<string, RegisteredChannel>();
  readonly #listeners = new Set<(channel: RegisteredChannel) => void>();

  /**
   * Makes a channel. Throws ConfigError as `channel` does, and TailraceError (TR_INTERNAL) if one of the same component
   * and name is still in use.
   */
  create<T>(definition: ChannelDefinition<T>): { sender: Sender<T>; receiver: Receiver<T> } {
    const core = new ChannelCore(definition);
    const sizing = sizingOf(definition, core);
    this.#register({
      component: definition.component,
      channel: definition.channel,
      why: definition.why,
      policy: core.overflow,
      get capacity() {
        return core.capacity;
      },
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
      sizing,
      alarmAt: (percent, sound) => (sound === undefined ? core.disarm() : core.alarmAt(percent, sound)),
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
      policy: definition.overflow ?? "drop_oldest",
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
      sizing: undefined,
      alarmAt: () => {},
    });
    return hub;
  }

  /** All channels, in the order of their making. */
  list(): RegisteredChannel[] {
    return [...this.#channels.values()];
  }

  /** Calls `listener` with each channel that is made from now on; dispose to stop. */
  onCreate(listener: (channel: RegisteredChannel) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
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
    const listed = earlier === undefined ? entry : continued(earlier, entry);
    this.#channels.set(key, listed);
    for (const listener of this.#listeners) listener(listed);
  }
}

function sizingOf<T>(definition: ChannelDefinition<T>, core: ChannelCore<T>): ResizableChannel | undefined {
  const { capacity, capacityMin: min, capacityMax: max, capacityBytes = Number.POSITIVE_INFINITY } = definition;
  if (min === undefined || max === undefined) return undefined;
  if (!(Number.isSafeInteger(min) && Number.isSafeInteger(max) && min >= 1 && min <= capacity && capacity <= max)) {
    throw new ConfigError([
      {
        key: "capacityMin",
        message: `a capacity of ${capacity} does not lie between ${min} and ${max}; give whole numbers of messages, 1 <= capacityMin <= capacity <= capacityMax`,
      },
    ]);
  }
  return { min, max, capacityBytes, pressure: () => core.pressure(), resize: (wanted) => core.resize(wanted) };
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
