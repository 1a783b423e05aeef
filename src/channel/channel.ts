// Contract only; the implementation follows in this file.
export type OverflowPolicy = "block" | "drop_newest" | "drop_oldest" | "error";

export interface ChannelOptions<T> {
  /** Messages, a positive integer. */
  readonly capacity: number;
  /** Bytes; a larger message enters alone, when the channel is empty. Default: no bound by bytes. */
  readonly capacityBytes?: number;
  /** Bytes of one message; default 0. */
  readonly sizeOf?: (value: T) => number;
  /** Records in one message; default 1. */
  readonly recordsOf?: (value: T) => number;
  readonly overflow?: OverflowPolicy;
  /** Under `error` and `sendTimeout`: longest wait of a plain `send`, milliseconds; 0 refuses at once. */
  readonly sendTimeoutMs?: number;
  /** Gets each value that a policy drops, and (reason "closed") each that a closing receiver leaves behind. */
  readonly onDrop?: (value: T, reason: "policy" | "closed") => void;
}

/** One instant's counts; sent = received + dropped + in channel, always, in messages and in records. */
export interface ChannelCounters {
  readonly capacity: number;
  readonly capacityBytes: number;
  readonly messages: number;
  readonly bytes: number;
  readonly sent: number;
  readonly received: number;
  readonly dropped: { readonly policy: number; readonly closed: number };
  readonly records: {
    readonly inChannel: number;
    readonly sent: number;
    readonly received: number;
    readonly dropped: { readonly policy: number; readonly closed: number };
  };
  /** 0 to 100, the greater of messages and bytes. */
  readonly usagePercent: number;
}

export interface Sender<T> {
  /** Resolves once the value is in the channel (or dropped by its policy). See product contract for the errors. */
  send(value: T, options?: { signal?: AbortSignal; timeoutMs?: number }): Promise<void>;
  sendTimeout(value: T, timeoutMs: number): Promise<void>;
  trySend(value: T): "sent" | "full" | "closed";
  /** Another sender of the same channel; the channel ends when the last one is closed. */
  clone(): Sender<T>;
  close(): void;
  readonly isClosed: boolean;
  counters(): ChannelCounters;
  [Symbol.dispose](): void;
}

export interface Receiver<T> extends AsyncIterable<T> {
  /** The next value; undefined once the channel is closed and empty, or when `signal` aborts (nothing is lost). */
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

export declare function channel<T>(options: ChannelOptions<T>): { sender: Sender<T>; receiver: Receiver<T> };
