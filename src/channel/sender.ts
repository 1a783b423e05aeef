import { TailraceError } from "../errors.ts";
import type { Sender } from "./channel.ts";
import type { ChannelCore } from "./core.ts";
import type { ChannelCounters } from "./counters.ts";
import { forgetHandle, watchHandle } from "./unclosed.ts";
import { closedError } from "./waiting-senders.ts";

/** Shared by all sends that need not wait: a promise each would cost more than the send. */
const DONE: Promise<void> = Promise.resolve();

/** A handle on the sending side; all the work is done by the core. */
export class ChannelSender<T> implements Sender<T> {
  readonly #core: ChannelCore<T>;
  #isClosed = false;

  constructor(core: ChannelCore<T>) {
    this.#core = core;
    core.openSender();
    watchHandle(this, "sender", () => !core.isReceiverClosed);
  }

  send(value: T, options?: { signal?: AbortSignal; timeoutMs?: number }): Promise<void> {
    const signal = options?.signal;
    if (signal?.aborted) return Promise.reject(signal.reason);
    try {
      const outcome = this.trySend(value);
      if (outcome === "sent") return DONE;
      if (outcome === "closed") return Promise.reject(closedError(value));
      return this.#core.waitToSend(value, signal, options?.timeoutMs);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  sendTimeout(value: T, timeoutMs: number): Promise<void> {
    return this.send(value, { timeoutMs });
  }

  trySend(value: T): "sent" | "full" | "closed" {
    return this.#isClosed ? "closed" : this.#core.offer(value);
  }

  drop(value: T): void {
    if (!this.isClosed) this.#core.drop(value);
  }

  clone(): Sender<T> {
    // Its channel may have ended already, and must not come back to life.
    if (this.#isClosed) throw new TailraceError("TR_CHANNEL_CLOSED", "a closed sender cannot be cloned");
    return new ChannelSender(this.#core);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    forgetHandle(this);
    this.#core.closeSender();
  }

  get isClosed(): boolean {
    return this.#isClosed || this.#core.isReceiverClosed;
  }

  counters(): ChannelCounters {
    return this.#core.counters();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
