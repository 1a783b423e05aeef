import { setMaxListeners } from "node:events";

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

const unlimited = new WeakSet<AbortSignal>();

/** Adds a listener. Any number of waits may share a signal; Node would suspect a leak from the eleventh on. */
export function listenForAbort(signal: AbortSignal, onAbort: () => void): void {
  if (!unlimited.has(signal)) {
    unlimited.add(signal);
    setMaxListeners(0, signal);
  }
  signal.addEventListener("abort", onAbort);
}
