import { listenForAbort, type Waiting, type WaitingLine } from "./waiting.ts";

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

/** Lets one wait in line until it is given a value, the end comes, or `signal` aborts; resolves as `WaitingReceiver` does. */
export function waitForValue<T>(
  line: WaitingLine<WaitingReceiver<T>>,
  want: Want,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const promise = new Promise(keepResolve);
  const waiter = new WaitingReceiver<T>(want, keptResolve);
  line.append(waiter);
  if (signal !== undefined) endOnAbort(line, waiter, signal);
  return promise;
}

/** Nothing will come any more. */
export function endAll<T>(line: WaitingLine<WaitingReceiver<T>>): void {
  for (let waiter = line.first; waiter !== undefined; waiter = line.first) {
    line.remove(waiter);
    waiter.end();
  }
}

function endOnAbort<T>(line: WaitingLine<WaitingReceiver<T>>, waiter: WaitingReceiver<T>, signal: AbortSignal): void {
  waiter.signal = signal;
  waiter.onAbort = () => {
    if (line.remove(waiter)) waiter.end();
  };
  listenForAbort(signal, waiter.onAbort);
}

/** The resolve function of the promise made last: one function for all is cheaper than a closure for each wait. */
let keptResolve: (result: unknown) => void = () => {};
function keepResolve(resolve: (result: unknown) => void): void {
  keptResolve = resolve;
}
