import { ChannelCore } from "./core.ts";
import type { ChannelCounters } from "./counters.ts";
import type { ChannelOptions } from "./options.ts";
import { ChannelReceiver } from "./receiver.ts";
import { ChannelSender } from "./sender.ts";

/**
 * A bounded channel: many senders, one receiver, first in, first out.
 *
 * How it ends: when the last sender is closed, the receiver still gets all that is inside (and all that sends which were
 * waiting bring), then the end. When the receiver is closed, waiting senders get their values back, and what is inside is
 * dropped with reason "closed". An unclosed handle is never closed by itself: close it, or declare it with `using`.
 *
 * @throws ConfigError (TR_CONFIG_INVALID) naming every option that is wrong
 * @example
 *   const { sender, receiver } = channel<string>({ capacity: 2 });
 *   sender.trySend("a"); // => "sent"
 *   await sender.send("b");
 *   sender.trySend("c"); // => "full"
 *   sender.close();
 *   for await (const value of receiver) console.log(value); // => a, b
 */
export function channel<T>(options: ChannelOptions<T>): { sender: Sender<T>; receiver: Receiver<T> } {
  const core = new ChannelCore(options);
  return { sender: new ChannelSender(core), receiver: new ChannelReceiver(core) };
}

/** A sending end; any number of them by `clone`. */
export interface Sender<T> {
  /**
   * Resolves once the value is in the channel (or dropped, as its policy says). Waiting senders are let in first come,
   * first served, and nobody overtakes them. Where speed counts: `if (s.trySend(v) !== "sent") await s.send(v)`.
   *
   * Where it rejects, the value is certainly not in the channel, and stays with its owner:
   * - ChannelClosedError (TR_CHANNEL_CLOSED): the receiver, or this sender, is closed; the value is in the error;
   * - ChannelFullError (TR_CHANNEL_FULL): no room for `timeoutMs` (default: the channel's `sendTimeoutMs`); the value
   *   is in the error, and may be sent again;
   * - the reason of `signal`, once that aborts.
   *
   * Closing a sender does not take back what it is waiting to send.
   */
  send(value: T, options?: { signal?: AbortSignal; timeoutMs?: number }): Promise<void>;
  /** `send` that waits `timeoutMs` milliseconds at most; 0: not at all. */
  sendTimeout(value: T, timeoutMs: number): Promise<void>;
  /** Never waits; under a drop policy always "sent" while open. Unless "sent", the value stays with the caller. */
  trySend(value: T): "sent" | "full" | "closed";
  /**
   * Under a drop policy: drops the value as if the channel were full, counted and reported as such. For a sender that may
   * not wait and has no memory left for what it would send. Nothing happens on a closed channel.
   */
  drop(value: T): void;
  /** Another sender of the same channel; the channel ends when the last one is closed. Throws on a closed sender. */
  clone(): Sender<T>;
  close(): void;
  /** True once nothing that is sent here will be taken. */
  readonly isClosed: boolean;
  counters(): ChannelCounters;
  [Symbol.dispose](): void;
}

/** The receiving end. Leaving a `for await` loop over it by `break`, `return` or a throw closes it. */
export interface Receiver<T> extends AsyncIterable<T> {
  /**
   * The next value; undefined once the channel is closed and empty, or when `signal` aborts (nothing is lost: the value
   * that it would have got stays in the channel).
   */
  recv(options?: { signal?: AbortSignal }): Promise<T | undefined>;
  tryRecv(): T | undefined;
  /** At least one and up to `max` values; empty only at the end (or on abort). */
  recvMany(max: number, options?: { signal?: AbortSignal }): Promise<T[]>;
  /** Stops senders; values still inside are dropped with reason "closed". */
  close(): void;
  /** True once nothing will ever come again. */
  readonly closed: boolean;
  counters(): ChannelCounters;
  [Symbol.dispose](): void;
}
