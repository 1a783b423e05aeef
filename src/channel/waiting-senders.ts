import { ChannelClosedError, ChannelFullError } from "../errors.ts";
import type { ChannelClock } from "./clock.ts";
import type { Tag } from "./queue.ts";
import { SendDurationRecorder, type SendDurations } from "./send-durations.ts";
import { listenForAbort, type Waiting, type WaitingLine } from "./waiting.ts";

/** What its owner said of a message as it came. */
interface Weight {
  readonly bytes: number;
  readonly records: number;
  readonly tag: Tag | undefined;
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

export interface WaitingSendersOptions<T> {
  /** In which order they come in. */
  readonly line: WaitingLine<WaitingSender<T>>;
  readonly clock: ChannelClock;
  /** Milliseconds that a plain send waits at most. */
  readonly patienceMs: number;
  /** Where it is given, a plain send that lost its patience says so and goes on waiting. */
  readonly onSlowSend: ((waitedMs: number) => void) | undefined;
  /** Messages; asked when somebody is told that the channel is full. */
  readonly capacity: () => number;
  /** One has given up: it may have stood, too large for the room there is, before others that fit. */
  readonly onGone: () => void;
}

/**
 * Senders before a full channel, how long each has the patience to wait, and how long those waited that came in:
 *
 *     wait --> in line --> admit: its value is in the channel by now
 *                 |------> leave: it is in one that was there
 *                 |------> gives up: the signal aborts, the patience ends
 *                 '------> refuseAll: nobody will receive it
 */
export class WaitingSenders<T> {
  readonly #options: WaitingSendersOptions<T>;
  readonly #line: WaitingLine<WaitingSender<T>>;
  readonly #durations = new SendDurationRecorder();

  constructor(options: WaitingSendersOptions<T>) {
    this.#options = options;
    this.#line = options.line;
  }

  /** Milliseconds for which a send waits at most that was given `timeoutMs`, or nothing. */
  patience(timeoutMs: number | undefined): number {
    return timeoutMs ?? this.#options.patienceMs;
  }

  /** Resolves once the value is in; see `Sender.send` for how it may fail. */
  wait(
    value: T,
    { bytes, records, tag }: Weight,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
  ): Promise<void> {
    const { clock, onSlowSend } = this.#options;
    const patienceMs = this.patience(timeoutMs);
    return new Promise((resolve, reject) => {
      const waiter = new WaitingSender(value, bytes, records, tag, clock.monotonic(), resolve, reject);
      this.#line.append(waiter);
      if (signal !== undefined) {
        waiter.signal = signal;
        waiter.onAbort = () => this.#giveUp(waiter, signal.reason);
        listenForAbort(signal, waiter.onAbort);
      }
      if (patienceMs === Number.POSITIVE_INFINITY) return;
      if (onSlowSend !== undefined && timeoutMs === undefined) this.#tellWhileWaiting(waiter, patienceMs, onSlowSend);
      else waiter.timer = clock.after(patienceMs, () => this.#giveUp(waiter, this.fullError(value, patienceMs)));
    });
  }

  /** Takes one out of the line that comes in now; it is to be resolved once its value is there. */
  admit(waiter: WaitingSender<T>): void {
    this.leave(waiter);
    this.#durations.add(this.#options.clock.monotonic() - waiter.sinceMs);
  }

  /** Takes one out of the line that does not come in on its own. */
  leave(waiter: WaitingSender<T>): void {
    this.#line.remove(waiter);
    waiter.release();
  }

  /** Nobody will receive their values. */
  refuseAll(): void {
    for (let waiter = this.#line.first; waiter !== undefined; waiter = this.#line.first) {
      this.leave(waiter);
      waiter.reject(closedError(waiter.value));
    }
  }

  /** Sends that waited since the beginning, and milliseconds that they waited together: those who still do included. */
  waited(): { readonly sends: number; readonly ms: number } {
    const waiting = this.#line.first;
    if (waiting === undefined) return { sends: this.#durations.waited, ms: this.#durations.waitedMs };
    const stillMs = this.#options.clock.monotonic() - waiting.sinceMs;
    return { sends: this.#durations.waited + 1, ms: this.#durations.waitedMs + stillMs };
  }

  /** `sent`: all messages sent so far, waited for or not. */
  durations(sent: number): SendDurations {
    return this.#durations.snapshot(sent);
  }

  #tellWhileWaiting(waiter: WaitingSender<T>, everyMs: number, onSlowSend: (waitedMs: number) => void): void {
    const { clock } = this.#options;
    waiter.timer = clock.after(everyMs, () => {
      this.#tellWhileWaiting(waiter, everyMs, onSlowSend);
      onSlowSend(Math.round(clock.monotonic() - waiter.sinceMs));
    });
  }

  #giveUp(waiter: WaitingSender<T>, reason: unknown): void {
    if (!waiter.isInLine) return;
    this.leave(waiter);
    waiter.reject(reason);
    this.#options.onGone();
  }

  fullError(value: T, waitedMs: number): ChannelFullError<T> {
    const waited = waitedMs > 0 ? ` and had no room for ${waitedMs} ms` : "";
    return new ChannelFullError(
      value,
      `the channel is full (capacity ${this.#options.capacity()})${waited}; send the value again, or give the channel more room`,
    );
  }
}

/** For a value that nobody will take any more. */
export function closedError<T>(value: T): ChannelClosedError<T> {
  return new ChannelClosedError(value, "the channel is closed; nobody will receive the value");
}
