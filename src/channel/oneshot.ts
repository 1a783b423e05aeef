/** The end that answers, once. */
export interface OneshotSender<T> {
  /** "closed": nobody waits for it, or it was answered before; the value stays with the caller. */
  send(value: T): "sent" | "closed";
  /** Gives up without an answer. */
  close(): void;
  readonly isClosed: boolean;
  /** Aborts when the receiver closes without an answer: the work for it may stop. */
  readonly unwanted: AbortSignal;
  [Symbol.dispose](): void;
}

/** The end that waits for the answer. */
export interface OneshotReceiver<T> {
  /** The value; undefined when the sender gave up, after the value was taken, or when `signal` aborts (it stays inside). */
  recv(options?: { signal?: AbortSignal }): Promise<T | undefined>;
  tryRecv(): T | undefined;
  close(): void;
  /** True once nothing will ever come again. */
  readonly closed: boolean;
  [Symbol.dispose](): void;
}

export interface OneshotOptions<T> {
  /** Gets a value that was sent but not taken when the receiver closed. */
  readonly onDrop?: (value: T, reason: "closed") => void;
}

/**
 * A channel for exactly one value, such as the answer to a command.
 *
 * @example
 *   const { sender, receiver } = oneshot<number>();
 *   sender.send(42); // => "sent"
 *   await receiver.recv(); // => 42
 */
export function oneshot<T>(options: OneshotOptions<T> = {}): {
  sender: OneshotSender<T>;
  receiver: OneshotReceiver<T>;
} {
  const cell = new OneshotCell<T>(options.onDrop);
  return { sender: new Answering(cell), receiver: new Awaiting(cell) };
}

/**
 *   open --send--> filled --recv--> over
 *     |              `--receiver.close()--> over (onDrop)
 *     `--either close()--> over
 */
class OneshotCell<T> {
  state: "open" | "filled" | "over" = "open";
  readonly unwanted = new AbortController();
  readonly #onDrop: ((value: T, reason: "closed") => void) | undefined;
  readonly #waiting = new Set<(value: T | undefined) => void>();
  #value: T | undefined;

  constructor(onDrop: ((value: T, reason: "closed") => void) | undefined) {
    this.#onDrop = onDrop;
  }

  fill(value: T): "sent" | "closed" {
    if (this.state !== "open") return "closed";
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#value = value;
      this.state = "filled";
      return "sent";
    }
    this.#waiting.delete(first);
    this.state = "over";
    first(value);
    this.#endWaiting();
    return "sent";
  }

  take(): T | undefined {
    if (this.state !== "filled") return undefined;
    const value = this.#value;
    this.#value = undefined;
    this.state = "over";
    return value;
  }

  wait(signal: AbortSignal | undefined): Promise<T | undefined> {
    return new Promise((resolve) => {
      const settle = (value: T | undefined) => {
        signal?.removeEventListener("abort", onAbort);
        resolve(value);
      };
      const onAbort = () => {
        this.#waiting.delete(settle);
        settle(undefined);
      };
      this.#waiting.add(settle);
      signal?.addEventListener("abort", onAbort);
    });
  }

  abandon(): void {
    if (this.state !== "open") return;
    this.state = "over";
    this.#endWaiting();
  }

  reject(): void {
    if (this.state === "open") {
      this.abandon();
      this.unwanted.abort();
    } else if (this.state === "filled") {
      this.#onDrop?.(this.take() as T, "closed");
    }
  }

  #endWaiting(): void {
    for (const settle of this.#waiting) settle(undefined);
    this.#waiting.clear();
  }
}

class Answering<T> implements OneshotSender<T> {
  readonly #cell: OneshotCell<T>;

  constructor(cell: OneshotCell<T>) {
    this.#cell = cell;
  }

  send(value: T): "sent" | "closed" {
    return this.#cell.fill(value);
  }

  close(): void {
    this.#cell.abandon();
  }

  get isClosed(): boolean {
    return this.#cell.state !== "open";
  }

  get unwanted(): AbortSignal {
    return this.#cell.unwanted.signal;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class Awaiting<T> implements OneshotReceiver<T> {
  readonly #cell: OneshotCell<T>;

  constructor(cell: OneshotCell<T>) {
    this.#cell = cell;
  }

  async recv(options?: { signal?: AbortSignal }): Promise<T | undefined> {
    if (options?.signal?.aborted) return undefined;
    return this.#cell.state === "open" ? this.#cell.wait(options?.signal) : this.#cell.take();
  }

  tryRecv(): T | undefined {
    return this.#cell.take();
  }

  close(): void {
    this.#cell.reject();
  }

  get closed(): boolean {
    return this.#cell.state === "over";
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
