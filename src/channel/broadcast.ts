import { ChannelClosedError } from "../errors.ts";
import { channel, type Receiver, type Sender } from "./channel.ts";
import type { ChannelClock } from "./clock.ts";
import { type ChannelCounters, continueCounters } from "./counters.ts";

/** What a broadcast receiver gets: a value, or how many values it was too slow for since the last one it got. */
export type BroadcastItem<T> = { readonly value: T; readonly missed?: undefined } | { readonly missed: number };

export interface BroadcastOptions {
  /** Messages that each receiver may lag behind, a positive integer. */
  readonly capacity: number;
  /** What a receiver that lags loses; default `drop_oldest`. */
  readonly overflow?: "drop_oldest" | "drop_newest";
  readonly clock?: ChannelClock;
}

/**
 * One message to many receivers. Sending never waits: a receiver that lags loses its oldest messages (or the newest, as
 * its `overflow` says), and is told.
 */
export interface Broadcast<T> {
  /** To everyone that is subscribed now; gives their number. Throws ChannelClosedError with the value after `close`. */
  send(value: T): number;
  /** Gets what is sent from now on. */
  subscribe(): BroadcastReceiver<T>;
  /** Receivers still get what is inside, then the end. */
  close(): void;
  readonly isClosed: boolean;
  readonly receivers: number;
  /** Sums over all receivers there were; `usagePercent` is that of the slowest one now. */
  counters(): ChannelCounters;
  [Symbol.dispose](): void;
}

export interface BroadcastReceiver<T> extends AsyncIterable<BroadcastItem<T>> {
  /** The next item; undefined at the end, or when `signal` aborts (nothing is lost). */
  recv(options?: { signal?: AbortSignal }): Promise<BroadcastItem<T> | undefined>;
  tryRecv(): BroadcastItem<T> | undefined;
  /** Messages lost in all. */
  readonly missedTotal: number;
  readonly closed: boolean;
  counters(): ChannelCounters;
  close(): void;
  [Symbol.dispose](): void;
}

/**
 * A bounded broadcast: each receiver has a ring of its own, so that a slow one costs the others nothing.
 *
 * @throws ConfigError (TR_CONFIG_INVALID) for a capacity that is none
 * @example
 *   const hub = broadcast<number>({ capacity: 2 });
 *   const slow = hub.subscribe();
 *   for (const n of [1, 2, 3]) hub.send(n);
 *   await slow.recv(); // => { missed: 1 }
 *   await slow.recv(); // => { value: 2 }
 */
export function broadcast<T>(options: BroadcastOptions): Broadcast<T> {
  return new BroadcastHub<T>(options);
}

class BroadcastHub<T> implements Broadcast<T> {
  readonly #options: BroadcastOptions;
  readonly #open = new Map<LaggingReceiver<T>, Sender<T>>();
  /** Counts of the receivers that are gone. */
  #past: ChannelCounters;
  #isClosed = false;

  constructor(options: BroadcastOptions) {
    this.#options = options;
    // Checks the capacity now, not at the first subscription.
    const empty = channel<T>({ capacity: options.capacity });
    empty.receiver.close();
    empty.sender.close();
    this.#past = empty.receiver.counters();
  }

  send(value: T): number {
    if (this.#isClosed) throw new ChannelClosedError(value, "the broadcast is closed");
    for (const sender of this.#open.values()) sender.trySend(value);
    return this.#open.size;
  }

  subscribe(): BroadcastReceiver<T> {
    const receiver = new LaggingReceiver<T>(this.#options, () => {
      const sender = this.#open.get(receiver);
      if (sender === undefined) return;
      sender.close();
      this.#open.delete(receiver);
      this.#past = continueCounters(this.#past, receiver.counters());
    });
    if (this.#isClosed) receiver.sender.close();
    else this.#open.set(receiver, receiver.sender);
    return receiver;
  }

  close(): void {
    this.#isClosed = true;
    for (const sender of this.#open.values()) sender.close();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get receivers(): number {
    return this.#open.size;
  }

  counters(): ChannelCounters {
    let sum = this.#past;
    let messages = 0;
    let usagePercent = 0;
    for (const receiver of this.#open.keys()) {
      const one = receiver.counters();
      sum = continueCounters(sum, one);
      messages += one.messages;
      usagePercent = Math.max(usagePercent, one.usagePercent);
    }
    return { ...sum, messages, bytes: 0, records: { ...sum.records, inChannel: messages }, usagePercent };
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class LaggingReceiver<T> implements BroadcastReceiver<T> {
  readonly sender: Sender<T>;
  readonly #receiver: Receiver<T>;
  readonly #onClose: () => void;
  #missed = 0;
  #missedTotal = 0;

  constructor(options: BroadcastOptions, onClose: () => void) {
    const { sender, receiver } = channel<T>({
      overflow: "drop_oldest",
      ...options,
      onDrop: (_, reason) => {
        if (reason !== "policy") return;
        this.#missed += 1;
        this.#missedTotal += 1;
      },
    });
    this.sender = sender;
    this.#receiver = receiver;
    this.#onClose = onClose;
  }

  async recv(options?: { signal?: AbortSignal }): Promise<BroadcastItem<T> | undefined> {
    if (options?.signal?.aborted) return undefined;
    const ready = this.tryRecv();
    if (ready !== undefined || this.closed) return ready;
    // Nothing is missed while waiting: the ring is empty.
    const step = await this.#receiver.recv(options);
    return step === undefined ? undefined : { value: step };
  }

  tryRecv(): BroadcastItem<T> | undefined {
    if (this.#missed > 0) {
      // Under `drop_oldest` what was missed is older than all that is inside. (Under `drop_newest` it is told too early.)
      const missed = this.#missed;
      this.#missed = 0;
      return { missed };
    }
    const value = this.#receiver.tryRecv();
    return value === undefined ? undefined : { value };
  }

  get missedTotal(): number {
    return this.#missedTotal;
  }

  get closed(): boolean {
    return this.#missed === 0 && this.#receiver.closed;
  }

  counters(): ChannelCounters {
    return this.#receiver.counters();
  }

  close(): void {
    this.#receiver.close();
    this.#missed = 0;
    this.#onClose();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<BroadcastItem<T>, undefined, undefined> {
    try {
      for (let item = await this.recv(); item !== undefined; item = await this.recv()) yield item;
      return undefined;
    } finally {
      this.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
