import type { ChannelRegistry, Receiver, Sender } from "../channel/index.ts";
import type { ChannelSize } from "../config/plan.ts";
import type { Clock } from "../runtime/clock.ts";
import { EVENT_LEVELS, type EventName, type EventSink } from "../telemetry/events.ts";
import { redact } from "../telemetry/redact.ts";

/** One lifecycle event, as listeners get it. */
export interface StreamedEvent {
  /** RFC 3339 UTC. */
  readonly time: string;
  readonly event: EventName;
  readonly level: string;
  readonly component: string;
  readonly message: string;
  readonly facts: { readonly [fact: string]: unknown };
}

/** Somebody who listens. `send` resolves once the event is on its way; `end` hangs up. */
export interface EventListener {
  send(event: StreamedEvent): Promise<void>;
  end(): void;
}

/** One that takes nothing for so long is hung up on. */
const PATIENCE_MS = 5000;

export const MAX_LISTENERS = 16;

/**
 * Lifecycle events on their way to whoever listens at `/api/events`: one bounded channel, out of which every listener is
 * served before the next event is. A slow listener fills the channel; then events are dropped and counted, and what is
 * watched never waits for who watches.
 */
export class EventStream {
  readonly #clock: Clock;
  readonly #sender: Sender<StreamedEvent>;
  readonly #receiver: Receiver<StreamedEvent>;
  readonly #listeners = new Set<EventListener>();
  readonly #ended: Promise<void>;

  constructor(channels: ChannelRegistry, size: ChannelSize, clock: Clock) {
    this.#clock = clock;
    const { sender, receiver } = channels.create<StreamedEvent>({
      component: "api",
      channel: "event_stream",
      why: "lifecycle events on their way to the listeners of the API; nobody who looks may hold up what is looked at",
      clock,
      capacity: size.bufferSize,
      // An emitter cannot wait: where the configuration says to, the newest is dropped all the same.
      overflow: size.overflow === "drop_oldest" ? "drop_oldest" : "drop_newest",
    });
    this.#sender = sender;
    this.#receiver = receiver;
    this.#ended = this.#serve();
  }

  /** An event sink that tells `onwards` and the listeners. */
  tee(component: string, onwards: EventSink): EventSink {
    return {
      emit: (event, message, facts = {}) => {
        onwards.emit(event, message, facts);
        if (this.#listeners.size === 0) return;
        const time = new Date(this.#clock.now()).toISOString();
        const shown = redact({ message, facts }) as Pick<StreamedEvent, "message" | "facts">;
        this.#sender.trySend({ time, event, level: EVENT_LEVELS[event], component, ...shown });
      },
    };
  }

  /** Nobody more may listen, or it is over. */
  get isFull(): boolean {
    return this.#listeners.size >= MAX_LISTENERS || this.#sender.isClosed;
  }

  /** Disposing of what it returns ends the listening. */
  listen(listener: EventListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Hangs up on everybody. */
  async close(): Promise<void> {
    this.#sender.close();
    this.#receiver.close();
    for (const listener of this.#listeners) listener.end();
    this.#listeners.clear();
    await this.#ended;
  }

  async #serve(): Promise<void> {
    for await (const event of this.#receiver) {
      await Promise.all([...this.#listeners].map((listener) => this.#tell(listener, event)));
    }
  }

  async #tell(listener: EventListener, event: StreamedEvent): Promise<void> {
    const patience = new AbortController();
    const isTold = await Promise.race([
      listener.send(event).then(
        () => true,
        () => false,
      ),
      this.#clock.sleep(PATIENCE_MS, { signal: patience.signal }).then(() => false),
    ]);
    patience.abort();
    if (isTold || !this.#listeners.delete(listener)) return;
    listener.end();
  }
}
