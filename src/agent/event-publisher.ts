import type {
  Broadcast,
  BroadcastReceiver,
  ChannelMonitorLog,
  ChannelRegistry,
  Coalescing,
  Receiver,
  Sender,
} from "../channel/index.ts";
import { capacityOf } from "../config/channel-size.ts";
import type { ChannelSize } from "../config/plan.ts";
import type { Clock } from "../runtime/clock.ts";
import { logEvent } from "../telemetry/event-log.ts";
import {
  EVENTS,
  type EventName,
  type EventSink,
  type EventSubscription,
  type FactsOf,
  type LifecycleEvent,
} from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { redact } from "../telemetry/redact.ts";

export interface EventPublisherOptions {
  readonly channels: ChannelRegistry;
  readonly clock: Clock;
  readonly log: Logger;
  /** `mpsc_channels.shared.event_publisher` */
  readonly queue: ChannelSize;
  /** `mpsc_channels.api.event_stream`: of each listener. */
  readonly listener: ChannelSize;
}

/**
 * Lifecycle events on their way from whoever has something to tell to whoever listens. Publishing never waits.
 *
 * ```
 *  emit --+--> log, at once: a dropped event must not take an error with it, nor a dying process its last words
 *         `--> [shared/event_publisher] --> [api/event_stream, one ring per listener] --> /api/events, Agent.events()
 *                drops when full               a slow listener loses events, and is told how many
 * ```
 */
export class EventPublisher {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #sender: Sender<LifecycleEvent>;
  readonly #receiver: Receiver<LifecycleEvent>;
  readonly #listeners: Broadcast<LifecycleEvent>;
  readonly #served: Promise<void>;
  /** Events may overtake each other or be merged on their way: they are numbered as they come out. */
  readonly #isReordered: boolean;
  /** Number of the last event, where they are numbered as they go in. */
  #published = 0;

  constructor({ channels, clock, log, queue, listener }: EventPublisherOptions) {
    this.#clock = clock;
    this.#log = log;
    const { sender, receiver } = channels.create<LifecycleEvent>({
      component: "shared",
      channel: "event_publisher",
      why: "lifecycle events on their way to whoever listens; nobody who has something to tell may wait",
      clock,
      ...capacityOf(queue),
      overflow: withoutWaiting(queue),
      ...(queue.priorityLanes ? { priorityLanes: { isCritical: ({ level }) => level === "error" } } : {}),
      ...(queue.coalesce ? { coalesce: ALIKE } : {}),
    });
    this.#isReordered = (queue.priorityLanes ?? false) || (queue.coalesce ?? false);
    this.#sender = sender;
    this.#receiver = receiver;
    this.#listeners = channels.createBroadcast<LifecycleEvent>({
      component: "api",
      channel: "event_stream",
      why: "lifecycle events of each listener; nobody who looks may hold up what is looked at",
      clock,
      capacity: listener.bufferSize,
      overflow: withoutWaiting(listener),
    });
    this.#served = this.#serve();
  }

  /** Where `component` tells what happens to it. */
  of(component: string): EventSink {
    return { emit: (event, message, facts) => this.#publish(component, event, message, facts) };
  }

  /** Events from now on; dispose of it to stop listening. */
  subscribe(): EventSubscription {
    return new Subscription(this.#listeners.subscribe(), this.#last + 1, () => ({
      number: this.#last,
      time: this.#now(),
    }));
  }

  /** What the channel monitor says: warnings and drops as events, the rest as it is. */
  monitorLog(): ChannelMonitorLog {
    const tell = (level: "warn" | "info", fields: { readonly [field: string]: unknown }, message: string) => {
      // Whoever taps is told by the tap what was left out; the pipeline has lost nothing.
      if (fields["component"] === TAP) return;
      const event = monitorEvent(fields);
      if (event === undefined) this.#log[level](fields, message);
      else this.#publish(String(fields["component"]), event, message, fields as FactsOf<typeof event>);
    };
    return {
      warn: (fields, message) => tell("warn", fields, message),
      info: (fields, message) => tell("info", fields, message),
    };
  }

  /** Listeners still get what was published until now, then the end; later events are only logged. */
  async close(): Promise<void> {
    this.#sender.close();
    await this.#served;
    this.#listeners.close();
  }

  #publish<Name extends EventName>(own: string, event: Name, message: string, facts: FactsOf<Name>): void {
    // Who tells something about somebody else names him in the facts.
    const component = "component" in facts ? String(facts.component) : own;
    const { level } = EVENTS[event];
    logEvent(this.#log, { component, event, message, facts });
    if (this.#sender.isClosed) return;
    this.#published += 1;
    const published = { number: this.#published, time: this.#now(), event, level, component, message, facts };
    this.#sender.trySend(published as unknown as LifecycleEvent);
  }

  /** Number of the last event that was published (or that came out, or was dropped on its way). */
  get #last(): number {
    if (!this.#isReordered) return this.#published;
    const { received, dropped } = this.#receiver.counters();
    return received + dropped.policy;
  }

  #now(): string {
    return new Date(this.#clock.now()).toISOString();
  }

  async #serve(): Promise<void> {
    for await (const event of this.#receiver) {
      if (this.#listeners.receivers === 0) continue;
      const numbered = this.#isReordered ? { ...event, number: this.#last } : event;
      this.#listeners.send(redact(numbered) as LifecycleEvent);
    }
  }
}

/** Events that say the very same wait once, so that nothing but the time of the earlier ones is lost. */
const ALIKE: Coalescing<LifecycleEvent> = {
  keyOf: ({ event, component, message, facts }) => JSON.stringify([event, component, message, facts]),
  merge: (_, arrived, count) => ({ ...arrived, count }),
};

/** Which event the monitor's words are: what it counts says it. */
function monitorEvent(fields: object): "drop_burst" | "warning_raised" | "warning_cleared" | undefined {
  if ("dropped" in fields) return "drop_burst";
  if ("lasted_ms" in fields) return "warning_cleared";
  return "usage_percent" in fields ? "warning_raised" : undefined;
}

/** Labels of the channels of `tailrace tap`. */
export const TAP = "tap";

/** Where the configuration says to wait or to fail, the newest is dropped all the same: an emitter can do neither. */
function withoutWaiting({ overflow }: ChannelSize): "drop_oldest" | "drop_newest" {
  return overflow === "drop_oldest" ? "drop_oldest" : "drop_newest";
}

/** One listener. What is missing between two events shows in their numbers, wherever on the way it was dropped. */
class Subscription implements EventSubscription {
  readonly #receiver: BroadcastReceiver<LifecycleEvent>;
  /** Number of the last event that was published, and the time. */
  readonly #last: () => { readonly number: number; readonly time: string };
  /** Number of the next event, if none is missed. */
  #next: number;
  /** Taken out, and to be given after the word of what was missed before it. */
  #held: LifecycleEvent | undefined;
  #isClosed = false;

  constructor(receiver: BroadcastReceiver<LifecycleEvent>, next: number, last: () => { number: number; time: string }) {
    this.#receiver = receiver;
    this.#next = next;
    this.#last = last;
  }

  async recv(options?: { readonly signal?: AbortSignal }): Promise<LifecycleEvent | undefined> {
    const event = this.#held ?? (await this.#take(options));
    this.#held = undefined;
    if (event === undefined) return this.#end();
    const missed = event.number - this.#next;
    this.#next = event.number;
    if (missed > 0) {
      this.#held = event;
      return missedEvents(missed, event);
    }
    this.#next += 1;
    return event;
  }

  async #take(options?: { readonly signal?: AbortSignal }): Promise<LifecycleEvent | undefined> {
    for (;;) {
      const item = await this.#receiver.recv(options);
      if (item?.missed === undefined) return item?.value;
    }
  }

  /** What was dropped behind the last event. */
  #end(): LifecycleEvent | undefined {
    if (!this.#receiver.closed || this.#isClosed) return undefined;
    const last = this.#last();
    const missed = last.number + 1 - this.#next;
    this.#next = last.number + 1;
    return missed > 0 ? missedEvents(missed, { ...last, number: last.number + 1 }) : undefined;
  }

  close(): void {
    this.#isClosed = true;
    this.#held = undefined;
    this.#receiver.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<LifecycleEvent, undefined, undefined> {
    try {
      for (let event = await this.recv(); event !== undefined; event = await this.recv()) yield event;
      return undefined;
    } finally {
      this.close();
    }
  }
}

/** In the place of the `missed` events before `next`, with the number of the last of them. */
function missedEvents(missed: number, next: { readonly number: number; readonly time: string }): LifecycleEvent {
  const message = `${missed} ${missed === 1 ? "event is" : "events are"} missing here: this listener was too slow`;
  const { level } = EVENTS.events_missed;
  const about = { event: "events_missed", level, component: "api", message, facts: { missed } } as const;
  return { number: next.number - 1, time: next.time, ...about };
}
