import { TailraceError } from "../errors.ts";
import type { Receiver } from "./channel.ts";
import type { ChannelCore } from "./core.ts";
import type { ChannelCounters } from "./counters.ts";
import { forgetHandle, watchHandle } from "./unclosed.ts";

const NOTHING: Promise<undefined> = Promise.resolve(undefined);

/** The handle on the receiving side; all the work is done by the core. */
export class ChannelReceiver<T> implements Receiver<T> {
  readonly #core: ChannelCore<T>;

  constructor(core: ChannelCore<T>) {
    this.#core = core;
    watchHandle(this, "receiver", () => !core.isOver);
  }

  recv(options?: { signal?: AbortSignal }): Promise<T | undefined> {
    const core = this.#core;
    const signal = options?.signal;
    if (signal?.aborted) return NOTHING;
    if (core.length > 0) return Promise.resolve(core.take());
    if (core.isOver) return NOTHING;
    return core.waitToReceive("value", signal) as Promise<T | undefined>;
  }

  tryRecv(): T | undefined {
    return this.#core.length > 0 ? this.#core.take() : undefined;
  }

  recvMany(max: number, options?: { signal?: AbortSignal }): Promise<T[]> {
    if (!Number.isInteger(max) || max < 1) {
      return Promise.reject(new TailraceError("TR_INTERNAL", `recvMany(${max}): ask for a whole number, at least 1`));
    }
    const signal = options?.signal;
    if (signal?.aborted) return Promise.resolve([]);
    if (this.#core.length > 0) return Promise.resolve(this.#core.takeMany(max));
    return this.#gather(max, signal);
  }

  /** Waits for the first value, then takes what has gathered by the time that this is run. */
  async #gather(max: number, signal: AbortSignal | undefined): Promise<T[]> {
    const core = this.#core;
    while (!core.isOver) {
      await core.waitToReceive("arrival", signal);
      if (signal?.aborted) {
        core.passOn();
        return [];
      }
      // Another receive may have been quicker.
      if (core.length > 0) return core.takeMany(max);
    }
    return [];
  }

  [Symbol.asyncIterator](): AsyncIterator<T, undefined, undefined> {
    return new ChannelIterator(this, this.#core);
  }

  close(): void {
    forgetHandle(this);
    this.#core.closeReceiver();
  }

  get closed(): boolean {
    return this.#core.isOver;
  }

  counters(): ChannelCounters {
    return this.#core.counters();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Written out, because an async generator costs about ten times as much per value. */
class ChannelIterator<T> implements AsyncIterator<T, undefined, undefined> {
  readonly #receiver: ChannelReceiver<T>;
  readonly #core: ChannelCore<T>;

  constructor(receiver: ChannelReceiver<T>, core: ChannelCore<T>) {
    this.#receiver = receiver;
    this.#core = core;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const core = this.#core;
    if (core.length > 0) return Promise.resolve({ done: false, value: core.take() });
    if (core.isOver) return Promise.resolve({ done: true, value: undefined });
    return core.waitToReceive("step", undefined) as Promise<IteratorResult<T, undefined>>;
  }

  /** A `break` (or a throw) out of the loop: nobody will read on, so the senders must not wait. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.#receiver.close();
    return Promise.resolve({ done: true, value: undefined });
  }
}
