import { setMaxListeners } from "node:events";
import type { Tag } from "./queue.ts";

/** Something that waits its turn in a `WaitingLine`; in one line at most. */
export interface Waiting {
  previous: this | undefined;
  next: this | undefined;
  isInLine: boolean;
}

/** First come, first served, and anyone may leave from the middle at no cost: a doubly linked list. */
export class WaitingLine<W extends Waiting> {
  #first: W | undefined;
  #last: W | undefined;

  get first(): W | undefined {
    return this.#first;
  }

  append(waiter: W): void {
    waiter.isInLine = true;
    waiter.previous = this.#last;
    if (this.#last === undefined) this.#first = waiter;
    else this.#last.next = waiter;
    this.#last = waiter;
  }

  /** Takes a waiter out; false if it was not in line any more. */
  remove(waiter: W): boolean {
    if (!waiter.isInLine) return false;
    if (waiter.previous === undefined) this.#first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.#last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    waiter.previous = undefined;
    waiter.next = undefined;
    waiter.isInLine = false;
    return true;
  }
}

/** A value before the door of a full channel. */
export class WaitingSender<T> implements Waiting {
  previous: this | undefined = undefined;
  next: this | undefined = undefined;
  isInLine = false;
  readonly value: T;
  readonly bytes: number;
  readonly records: number;
  readonly tag: Tag | undefined;
  /** Monotonic milliseconds at which it began to wait. */
  readonly sinceMs: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
  signal: AbortSignal | undefined = undefined;
  onAbort: (() => void) | undefined = undefined;
  timer: { cancel(): void } | undefined = undefined;

  constructor(
    value: T,
    bytes: number,
    records: number,
    tag: Tag | undefined,
    sinceMs: number,
    resolve: () => void,
    reject: (reason: unknown) => void,
  ) {
    this.value = value;
    this.bytes = bytes;
    this.records = records;
    this.tag = tag;
    this.sinceMs = sinceMs;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** Leaves nothing behind on the signal or the clock. */
  release(): void {
    if (this.onAbort !== undefined) this.signal?.removeEventListener("abort", this.onAbort);
    this.timer?.cancel();
  }
}

/** What a waiting receiver wants: the next value, that as an iterator's result, or just to hear that one arrived. */
export type Want = "value" | "step" | "arrival";

/** A receiver before an empty channel. */
export class WaitingReceiver<T> implements Waiting {
  previous: this | undefined = undefined;
  next: this | undefined = undefined;
  isInLine = false;
  readonly want: Want;
  readonly #resolve: (result: unknown) => void;
  signal: AbortSignal | undefined = undefined;
  onAbort: (() => void) | undefined = undefined;

  constructor(want: Want, resolve: (result: unknown) => void) {
    this.want = want;
    this.#resolve = resolve;
  }

  /** The next value is here (for `arrival`: it lies in the channel). */
  deliver(value: T | undefined): void {
    this.#release();
    if (this.want === "step") this.#resolve({ done: false, value });
    else this.#resolve(value);
  }

  /** Nothing came: the end, or an abort. */
  end(): void {
    this.#release();
    this.#resolve(this.want === "step" ? { done: true, value: undefined } : undefined);
  }

  #release(): void {
    if (this.onAbort !== undefined) this.signal?.removeEventListener("abort", this.onAbort);
  }
}

const unlimited = new WeakSet<AbortSignal>();

/** Adds a listener. Any number of waits may share a signal; Node would suspect a leak from the eleventh on. */
export function listenForAbort(signal: AbortSignal, onAbort: () => void): void {
  if (!unlimited.has(signal)) {
    unlimited.add(signal);
    setMaxListeners(0, signal);
  }
  signal.addEventListener("abort", onAbort);
}
