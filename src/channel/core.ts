import { ChannelClosedError, ChannelFullError, TailraceError } from "../errors.ts";
import { type ChannelClock, machineClock } from "./clock.ts";
import type { ChannelCounters } from "./counters.ts";
import { type ChannelOptions, checkChannelOptions, type OverflowPolicy } from "./options.ts";
import { Ring } from "./ring.ts";
import { SendDurationRecorder, type SendDurations } from "./send-durations.ts";
import { listenForAbort, WaitingLine, WaitingReceiver, WaitingSender, type Want } from "./waiting.ts";

/**
 * The one engine behind all handles of a channel.
 *
 *   waiting senders       ring (capacity, capacityBytes)       waiting receivers
 *   [ s3 | s2 | s1 ]  ->  [ v4 | v3 | v2 | v1 ]            ->  [ r1 | r2 ]
 *        admit()                                                  serve()
 *
 * What always holds between two calls:
 * - senders wait only while the ring is not empty (an empty one takes anything, also a message above capacityBytes);
 * - receivers wait only while the ring is empty, or while one that was told of an arrival is about to come and take;
 * - sent = received + dropped + in the ring: a value that a waiting sender holds was not sent yet.
 *
 * Nobody's code runs in the middle of a change: `sizeOf` and `recordsOf` are asked before, `onDrop` is told after.
 */
export class ChannelCore<T> {
  readonly overflow: OverflowPolicy;
  readonly #capacity: number;
  readonly #capacityBytes: number;
  readonly #sizeOf: ((value: T) => number) | undefined;
  readonly #recordsOf: ((value: T) => number) | undefined;
  readonly #onDrop: ((value: T, reason: "policy" | "closed") => void) | undefined;
  readonly #clock: ChannelClock;
  /** Milliseconds that a plain send waits at most. */
  readonly #patienceMs: number;
  /** False: every message is one record of no bytes, and nothing needs to be weighed. */
  readonly #isWeighed: boolean;

  readonly #ring: Ring<T>;
  readonly #senders = new WaitingLine<WaitingSender<T>>();
  readonly #receivers = new WaitingLine<WaitingReceiver<T>>();
  readonly #durations = new SendDurationRecorder();
  #openSenders = 0;
  #isReceiverClosed = false;

  #sent = 0;
  #received = 0;
  #droppedByPolicy = 0;
  #droppedByClose = 0;
  // The same in records; kept only where messages are weighed, elsewhere both are equal.
  #sentRecords = 0;
  #receivedRecords = 0;
  #droppedByPolicyRecords = 0;
  #droppedByCloseRecords = 0;

  constructor(options: ChannelOptions<T>) {
    checkChannelOptions(options);
    this.overflow = options.overflow ?? "block";
    this.#capacity = options.capacity;
    this.#capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.#sizeOf = options.sizeOf;
    this.#recordsOf = options.recordsOf;
    this.#onDrop = options.onDrop;
    this.#clock = options.clock ?? machineClock;
    const timeoutMs = options.sendTimeoutMs ?? 0;
    this.#patienceMs = this.overflow !== "error" && timeoutMs === 0 ? Number.POSITIVE_INFINITY : timeoutMs;
    this.#isWeighed = options.sizeOf !== undefined || options.recordsOf !== undefined;
    this.#ring = new Ring(options.capacity, this.#isWeighed);
  }

  // ---------------------------------------------------------------- state

  get length(): number {
    return this.#ring.length;
  }

  get isReceiverClosed(): boolean {
    return this.#isReceiverClosed;
  }

  /** Nothing will ever come out again. */
  get isOver(): boolean {
    return this.#isReceiverClosed || (this.#openSenders === 0 && this.#ring.length === 0);
  }

  get usagePercent(): number {
    const messages = this.#ring.length / this.#capacity;
    const bytes = this.#ring.bytes / this.#capacityBytes;
    return Math.min(100, Math.max(messages, bytes) * 100);
  }

  /** Records that the policy dropped so far. */
  get policyDroppedRecords(): number {
    return this.#isWeighed ? this.#droppedByPolicyRecords : this.#droppedByPolicy;
  }

  counters(): ChannelCounters {
    const isWeighed = this.#isWeighed;
    return {
      capacity: this.#capacity,
      capacityBytes: this.#capacityBytes,
      messages: this.#ring.length,
      bytes: this.#ring.bytes,
      sent: this.#sent,
      received: this.#received,
      dropped: { policy: this.#droppedByPolicy, closed: this.#droppedByClose },
      records: {
        inChannel: this.#ring.records,
        sent: isWeighed ? this.#sentRecords : this.#sent,
        received: isWeighed ? this.#receivedRecords : this.#received,
        dropped: {
          policy: isWeighed ? this.#droppedByPolicyRecords : this.#droppedByPolicy,
          closed: isWeighed ? this.#droppedByCloseRecords : this.#droppedByClose,
        },
      },
      usagePercent: this.usagePercent,
    };
  }

  sendDurations(): SendDurations {
    return this.#durations.snapshot(this.#sent);
  }

  // ---------------------------------------------------------------- in

  /** Puts a value in, or does with it what a drop policy says, without ever waiting. */
  offer(value: T): "sent" | "full" | "closed" {
    if (this.#isReceiverClosed) return "closed";
    if (this.#isWeighed) return this.#offerWeighed(value);
    // Where senders wait, the ring is full: nobody is overtaken.
    if (this.#ring.length >= this.#capacity) return this.#overflowed(value, 0, 1);
    this.#ring.push(value);
    this.#sent += 1;
    if (this.#receivers.first !== undefined) this.#serve();
    return "sent";
  }

  #offerWeighed(value: T): "sent" | "full" | "closed" {
    const bytes = this.#bytesOf(value);
    const records = this.#recordsIn(value);
    // Asking the value may have run anybody's code.
    if (this.#isReceiverClosed) return "closed";
    // A small value must not slip in before a large one that waits.
    if (this.#senders.first !== undefined || !this.#hasRoom(bytes)) return this.#overflowed(value, bytes, records);
    this.#enter(value, bytes, records);
    if (this.#receivers.first !== undefined) this.#serve();
    return "sent";
  }

  #overflowed(value: T, bytes: number, records: number): "sent" | "full" {
    switch (this.overflow) {
      case "block":
      case "error":
        return "full";
      case "drop_newest":
        this.#sent += 1;
        this.#sentRecords += records;
        this.#droppedByPolicy += 1;
        this.#droppedByPolicyRecords += records;
        this.#tellDropped(value, "policy");
        return "sent";
      case "drop_oldest": {
        const victim = this.#evict();
        // More than one only where a large message displaces several small ones.
        let others: T[] | undefined;
        while (!this.#hasRoom(bytes)) {
          others ??= [];
          others.push(this.#evict());
        }
        this.#enter(value, bytes, records);
        this.#tellDropped(victim, "policy");
        if (others !== undefined) for (const other of others) this.#tellDropped(other, "policy");
        return "sent";
      }
    }
  }

  /** Resolves once the value is in; see `Sender.send` for how it may fail. Call it only after `offer` said "full". */
  waitToSend(value: T, signal: AbortSignal | undefined, timeoutMs: number | undefined): Promise<void> {
    const patienceMs = timeoutMs ?? this.#patienceMs;
    if (!(patienceMs > 0)) return Promise.reject(this.#fullError(value, patienceMs));
    const bytes = this.#bytesOf(value);
    const records = this.#recordsIn(value);
    return new Promise((resolve, reject) => {
      const waiter = new WaitingSender(value, bytes, records, this.#clock.monotonic(), resolve, reject);
      this.#senders.append(waiter);
      if (signal !== undefined) {
        waiter.signal = signal;
        waiter.onAbort = () => this.#giveUp(waiter, signal.reason);
        listenForAbort(signal, waiter.onAbort);
      }
      if (patienceMs !== Number.POSITIVE_INFINITY) {
        waiter.timer = this.#clock.after(patienceMs, () => this.#giveUp(waiter, this.#fullError(value, patienceMs)));
      }
    });
  }

  #giveUp(waiter: WaitingSender<T>, reason: unknown): void {
    if (!this.#senders.remove(waiter)) return;
    waiter.release();
    waiter.reject(reason);
    // It may have stood, too large for the room there is, before others that fit.
    this.#admit();
    if (this.#receivers.first !== undefined) this.#serve();
  }

  /** Lets waiting senders in, in order, while they fit. */
  #admit(): void {
    for (let waiter = this.#senders.first; waiter !== undefined; waiter = this.#senders.first) {
      if (!this.#hasRoom(waiter.bytes)) return;
      this.#senders.remove(waiter);
      waiter.release();
      this.#durations.add(this.#clock.monotonic() - waiter.sinceMs);
      this.#enter(waiter.value, waiter.bytes, waiter.records);
      waiter.resolve();
    }
  }

  #hasRoom(bytes: number): boolean {
    const ring = this.#ring;
    if (ring.length === 0) return true;
    return ring.length < this.#capacity && ring.bytes + bytes <= this.#capacityBytes;
  }

  #enter(value: T, bytes: number, records: number): void {
    this.#sent += 1;
    if (this.#isWeighed) {
      this.#sentRecords += records;
      this.#ring.pushWeighed(value, bytes, records);
    } else {
      this.#ring.push(value);
    }
  }

  #evict(): T {
    const recordsBefore = this.#ring.records;
    const victim = this.#ring.shift();
    this.#droppedByPolicy += 1;
    this.#droppedByPolicyRecords += recordsBefore - this.#ring.records;
    return victim;
  }

  // ---------------------------------------------------------------- out

  /** Takes the oldest value; only call it when there is one. */
  take(): T {
    const value = this.#takeOne();
    if (this.#receivers.first !== undefined) this.#serve();
    return value;
  }

  #takeOne(): T {
    let value: T;
    if (this.#isWeighed) {
      const recordsBefore = this.#ring.records;
      value = this.#ring.shift();
      this.#receivedRecords += recordsBefore - this.#ring.records;
    } else {
      value = this.#ring.shift();
    }
    this.#received += 1;
    if (this.#senders.first !== undefined) this.#admit();
    return value;
  }

  /** Takes up to `max` values, the freshly admitted ones of waiting senders among them. */
  takeMany(max: number): T[] {
    const values: T[] = [];
    while (values.length < max && this.#ring.length > 0) {
      const recordsBefore = this.#ring.records;
      const count = Math.min(max - values.length, this.#ring.length);
      this.#ring.shiftMany(count, values);
      this.#received += count;
      this.#receivedRecords += recordsBefore - this.#ring.records;
      if (this.#senders.first !== undefined) this.#admit();
    }
    if (this.#receivers.first !== undefined) this.#serve();
    return values;
  }

  /** Waits for what `want` says; resolves as `WaitingReceiver` does. Call it only while the channel is empty and not over. */
  waitToReceive(want: Want, signal: AbortSignal | undefined): Promise<unknown> {
    return new Promise((resolve) => {
      const waiter = new WaitingReceiver<T>(want, resolve);
      this.#receivers.append(waiter);
      if (signal !== undefined) {
        waiter.signal = signal;
        waiter.onAbort = () => {
          if (this.#receivers.remove(waiter)) waiter.end();
        };
        listenForAbort(signal, waiter.onAbort);
      }
    });
  }

  /** One that was told of an arrival does not take it after all: the next in line may. */
  passOn(): void {
    if (this.#receivers.first !== undefined) this.#serve();
  }

  /** Hands values to waiting receivers, in order; tells all of them when it is over. */
  #serve(): void {
    for (let waiter = this.#receivers.first; waiter !== undefined; waiter = this.#receivers.first) {
      if (this.#ring.length === 0) {
        if (this.isOver) this.#endReceivers();
        return;
      }
      this.#receivers.remove(waiter);
      if (waiter.want === "arrival") {
        // It comes and takes as many as have gathered by then; the rest is for those behind it.
        waiter.deliver(undefined);
        return;
      }
      waiter.deliver(this.#takeOne());
    }
  }

  // ---------------------------------------------------------------- ends

  openSender(): void {
    this.#openSenders += 1;
  }

  closeSender(): void {
    this.#openSenders -= 1;
    if (this.isOver) this.#endReceivers();
  }

  closeReceiver(): void {
    if (this.#isReceiverClosed) return;
    this.#isReceiverClosed = true;
    for (let waiter = this.#senders.first; waiter !== undefined; waiter = this.#senders.first) {
      this.#senders.remove(waiter);
      waiter.release();
      waiter.reject(closedError(waiter.value));
    }
    this.#endReceivers();
    const left: T[] = [];
    this.#droppedByClose += this.#ring.length;
    this.#droppedByCloseRecords += this.#ring.records;
    this.#ring.shiftMany(this.#ring.length, left);
    for (const value of left) this.#tellDropped(value, "closed");
  }

  #endReceivers(): void {
    for (let waiter = this.#receivers.first; waiter !== undefined; waiter = this.#receivers.first) {
      this.#receivers.remove(waiter);
      waiter.end();
    }
  }

  // ---------------------------------------------------------------- other people's code

  #tellDropped(value: T, reason: "policy" | "closed"): void {
    if (this.#onDrop === undefined) return;
    try {
      this.#onDrop(value, reason);
    } catch (error) {
      // The sender that happened to come by is not to blame, and the other victims must still be told.
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  #bytesOf(value: T): number {
    return this.#sizeOf === undefined ? 0 : wholeNumber(this.#sizeOf(value), "sizeOf");
  }

  #recordsIn(value: T): number {
    return this.#recordsOf === undefined ? 1 : wholeNumber(this.#recordsOf(value), "recordsOf");
  }

  #fullError(value: T, waitedMs: number): ChannelFullError<T> {
    const waited = waitedMs > 0 ? ` and had no room for ${waitedMs} ms` : "";
    return new ChannelFullError(
      value,
      `the channel is full (capacity ${this.#capacity})${waited}; send the value again, or give the channel more room`,
    );
  }
}

/** For a value that nobody will take any more. */
export function closedError<T>(value: T): ChannelClosedError<T> {
  return new ChannelClosedError(value, "the channel is closed; nobody will receive the value");
}

function wholeNumber(given: number, from: string): number {
  if (Number.isSafeInteger(given) && given >= 0) return given;
  throw new TailraceError("TR_INTERNAL", `${from} of a channel gave ${given}; it must give a whole number, 0 or more`);
}
