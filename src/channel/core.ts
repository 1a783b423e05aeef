import { TailraceError } from "../errors.ts";
import { machineClock } from "./clock.ts";
import { CoalescingQueue } from "./coalescing.ts";
import type { ChannelCounters } from "./counters.ts";
import { LaneLine, LaneRing } from "./lanes.ts";
import { type ChannelOptions, checkChannelOptions, type OverflowPolicy } from "./options.ts";
import type { MessageQueue, Tag } from "./queue.ts";
import { Ring } from "./ring.ts";
import type { SendDurations } from "./send-durations.ts";
import { WaitingLine } from "./waiting.ts";
import { endAll, type WaitingReceiver, type Want, waitForValue } from "./waiting-receivers.ts";
import { type WaitingSender, WaitingSenders } from "./waiting-senders.ts";

/** A fill that no channel reaches; a small integer, because those are compared fastest. */
const NEVER = 2 ** 30;

/** What passed through a channel and how full it was, of one stretch of time; for dynamic sizing. */
export interface ChannelPressure {
  /** Most messages that were inside at once since the last time it was asked. */
  readonly peakMessages: number;
  /** Since the beginning: sends that waited, and milliseconds that they waited together (those who still do included). */
  readonly waitedSends: number;
  readonly waitedMs: number;
  /** Since the beginning: messages entered or dropped, and bytes of those that entered. */
  readonly sent: number;
  readonly enteredBytes: number;
  readonly droppedByPolicy: number;
}

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
 * - sent = received + dropped + in the ring: a value that a waiting sender holds was not sent yet;
 * - never more than `capacity` are inside, also after it was made smaller.
 *
 * Nobody's code runs in the middle of a change: `sizeOf` and its like are asked before, `onDrop` is told after.
 *
 * How senders and receivers wait is in files of their own. Fill, counts and what is asked of each value stay here: behind
 * objects of their own they cost every message 5 to 10 % (bench/channel).
 *
 * A channel is one of three kinds, so that no message pays for what its channel does not do: plain, weighed (bytes and
 * records), or tagged (priority lanes, coalescing). Who watches costs nothing either: the comparison with the
 * capacity is one with `#limit`, which lies at the fill at which somebody wants to be told.
 */
export class ChannelCore<T> {
  readonly overflow: OverflowPolicy;
  #capacity: number;
  readonly #capacityBytes: number;
  readonly #sizeOf: ((value: T) => number) | undefined;
  readonly #recordsOf: ((value: T) => number) | undefined;
  readonly #onDrop: ((value: T, reason: "policy" | "closed") => void) | undefined;
  /** False: every message is one record of no bytes, and nothing needs to be weighed. */
  readonly #isWeighed: boolean;
  /** Neither weighed nor tagged. */
  readonly #isPlain: boolean;
  readonly #tagOf: ((value: T) => Tag) | undefined;

  readonly #ring: MessageQueue<T>;
  /** The same queue, where messages of one key are merged. */
  readonly #coalescing: CoalescingQueue<T> | undefined;
  /** The line alone, of which every message asks whether anybody is in it. */
  readonly #senders: WaitingLine<WaitingSender<T>>;
  readonly #waitingSenders: WaitingSenders<T>;
  readonly #receivers = new WaitingLine<WaitingReceiver<T>>();
  #openSenders = 0;
  #isReceiverClosed = false;
  #isMerging = false;

  #sent = 0;
  #received = 0;
  #droppedByPolicy = 0;
  #droppedByClose = 0;
  #coalesced = 0;
  /** Bytes of messages that entered; kept only where messages are weighed. */
  #enteredBytes = 0;
  // The same in records; kept only where messages are weighed, elsewhere both are equal.
  #sentRecords = 0;
  #receivedRecords = 0;
  #droppedByPolicyRecords = 0;
  #droppedByCloseRecords = 0;

  /** Messages and bytes from which a message that enters has somebody told. */
  #watermark = NEVER;
  /** Messages inside from which one more needs a closer look: the capacity, or one short of the watermark. */
  #limit: number;
  #watermarkBytes = Number.POSITIVE_INFINITY;
  #alarm: { readonly percent: number; readonly sound: (usagePercent: number) => void } | undefined;
  /** Most messages since `pressure` was asked; undefined until it is for the first time. */
  #peakMessages: number | undefined;

  constructor(options: ChannelOptions<T>) {
    checkChannelOptions(options);
    this.overflow = options.overflow ?? "block";
    this.#capacity = options.capacity;
    this.#limit = options.capacity;
    this.#capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.#sizeOf = options.sizeOf;
    this.#recordsOf = options.recordsOf;
    this.#onDrop = options.onDrop;
    this.#isWeighed = options.sizeOf !== undefined || options.recordsOf !== undefined;
    const { priorityLanes, coalesce } = options;
    this.#isPlain = !this.#isWeighed && priorityLanes === undefined && coalesce === undefined;
    this.#tagOf =
      priorityLanes === undefined && coalesce === undefined
        ? undefined
        : (value) => ({ isCritical: priorityLanes?.isCritical(value) ?? false, key: coalesce?.keyOf(value) });
    const queueOf = <Q>(): MessageQueue<Q> =>
      priorityLanes === undefined
        ? new Ring<Q>(options.capacity, this.#isWeighed)
        : new LaneRing<Q>(options.capacity, priorityLanes);
    this.#coalescing = coalesce === undefined ? undefined : new CoalescingQueue<T>(queueOf(), coalesce);
    this.#ring = this.#coalescing ?? queueOf();
    this.#senders = priorityLanes === undefined ? new WaitingLine() : new LaneLine(priorityLanes);
    const timeoutMs = options.sendTimeoutMs ?? 0;
    this.#waitingSenders = new WaitingSenders({
      line: this.#senders,
      clock: options.clock ?? machineClock,
      patienceMs: this.overflow !== "error" && timeoutMs === 0 ? Number.POSITIVE_INFINITY : timeoutMs,
      onSlowSend: options.onSlowSend,
      capacity: () => this.#capacity,
      onGone: () => {
        this.#admit();
        this.passOn();
      },
    });
  }

  // ---------------------------------------------------------------- state

  get length(): number {
    return this.#ring.length;
  }

  get capacity(): number {
    return this.#capacity;
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
      coalesced: this.#coalesced,
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
    return this.#waitingSenders.durations(this.#sent);
  }

  // ---------------------------------------------------------------- watched and resized

  /**
   * Calls `sound` once, with the usage of that moment, as soon as a message that enters (and is not taken at once) brings
   * the usage to `percent`; a later alarm replaces it. It is called outside of the channel's own work.
   */
  alarmAt(percent: number, sound: (usagePercent: number) => void): void {
    this.#alarm = { percent, sound };
    this.#setWatermarks();
  }

  disarm(): void {
    this.#alarm = undefined;
    this.#setWatermarks();
  }

  /** Measured from the first time it is asked. */
  pressure(): ChannelPressure {
    const inside = this.#ring.length;
    const peakMessages = Math.max(this.#peakMessages ?? 0, inside);
    this.#peakMessages = inside;
    this.#setWatermarks();
    const waited = this.#waitingSenders.waited();
    return {
      peakMessages,
      waitedSends: waited.sends,
      waitedMs: waited.ms,
      sent: this.#sent,
      enteredBytes: this.#enteredBytes,
      droppedByPolicy: this.#droppedByPolicy,
    };
  }

  /**
   * Gives the channel another capacity, or, where more messages are inside, as many: nothing is dropped by it. Lets
   * waiting senders in where there is more room. Returns what it is now.
   */
  resize(capacity: number): number {
    this.#capacity = Math.max(capacity, this.#ring.length);
    this.#ring.fit(this.#capacity);
    this.#setWatermarks();
    this.#admit();
    if (this.#receivers.first !== undefined) this.#serve();
    return this.#capacity;
  }

  #setWatermarks(): void {
    const share = this.#alarm === undefined ? Number.POSITIVE_INFINITY : this.#alarm.percent / 100;
    const abovePeak = this.#peakMessages === undefined ? Number.POSITIVE_INFINITY : this.#peakMessages + 1;
    this.#watermark = Math.min(Math.ceil(share * this.#capacity), abovePeak, NEVER);
    this.#limit = Math.min(this.#capacity, this.#watermark - 1);
    this.#watermarkBytes = share * this.#capacityBytes;
  }

  #rise(): void {
    const inside = this.#ring.length;
    if (this.#peakMessages !== undefined && inside > this.#peakMessages) this.#peakMessages = inside;
    const alarm = this.#alarm;
    const usagePercent = this.usagePercent;
    if (alarm !== undefined && usagePercent >= alarm.percent) {
      this.#alarm = undefined;
      queueMicrotask(() => alarm.sound(usagePercent));
    }
    this.#setWatermarks();
  }

  // ---------------------------------------------------------------- in

  /** Puts a value in, or does with it what a drop policy says, without ever waiting. */
  offer(value: T): "sent" | "full" | "closed" {
    if (this.#isReceiverClosed) return "closed";
    if (!this.#isPlain) return this.#isWeighed ? this.#offerWeighed(value) : this.#offerTagged(value);
    const receiver = this.#receivers.first;
    if (receiver !== undefined) return this.#handOver(value, receiver);
    // Where senders wait, the ring is full: nobody is overtaken.
    if (this.#ring.length >= this.#limit) return this.#offerAtLimit(value);
    this.#ring.push(value);
    this.#sent += 1;
    return "sent";
  }

  /** Does with a value what the policy does with the newest one while the channel is full. */
  drop(value: T): void {
    this.#sent += 1;
    this.#droppedByPolicy += 1;
    if (this.#isWeighed) {
      const records = this.#recordsIn(value);
      this.#sentRecords += records;
      this.#droppedByPolicyRecords += records;
    }
    this.#tellDropped(value, "policy");
  }

  /** Past the ring, where nothing is in it and the receiver takes a single value. */
  #handOver(value: T, receiver: WaitingReceiver<T>): "sent" | "full" {
    if (receiver.want === "arrival" || this.#ring.length > 0) return this.#offerAtLimit(value);
    this.#receivers.remove(receiver);
    this.#sent += 1;
    this.#received += 1;
    receiver.deliver(value);
    return "sent";
  }

  /** Full, or about to reach the watermark, or somebody waits for it. */
  #offerAtLimit(value: T): "sent" | "full" {
    if (this.#ring.length >= this.#capacity) return this.#overflowed(value, 0, 1, undefined);
    this.#ring.push(value);
    this.#sent += 1;
    if (this.#receivers.first !== undefined) this.#serve();
    if (this.#ring.length >= this.#watermark) this.#rise();
    return "sent";
  }

  #offerWeighed(value: T): "sent" | "full" | "closed" {
    const bytes = this.#bytesOf(value);
    const records = this.#recordsIn(value);
    // Asking the value may have run anybody's code.
    if (this.#isReceiverClosed) return "closed";
    // A small value must not slip in before a large one that waits.
    if (this.#senders.first !== undefined || !this.#hasRoom(bytes)) {
      return this.#overflowed(value, bytes, records, undefined);
    }
    this.#enter(value, bytes, records, undefined);
    if (this.#receivers.first !== undefined) this.#serve();
    if (this.#ring.length >= this.#watermark || this.#ring.bytes >= this.#watermarkBytes) this.#rise();
    return "sent";
  }

  #offerTagged(value: T): "sent" | "full" | "closed" {
    const tag = this.#tagOf!(value);
    // Asking the value may have run anybody's code, and so may merging it.
    if (this.#isReceiverClosed) return "closed";
    const isMerged = this.#joins(value, tag);
    if (this.#senders.first !== undefined) {
      this.#admit();
      if (this.#receivers.first !== undefined) this.#serve();
    }
    if (isMerged) return "sent";
    if (this.#isReceiverClosed) return "closed";
    if (this.#ring.length >= this.#capacity) return this.#overflowed(value, 0, 1, tag);
    this.#enter(value, 0, 1, tag);
    if (this.#receivers.first !== undefined) this.#serve();
    if (this.#ring.length >= this.#watermark) this.#rise();
    return "sent";
  }

  /** Merges a message into a waiting one of its key, where there is one; that takes no room. */
  #joins(value: T, tag: Tag | undefined): boolean {
    if (tag === undefined || this.#coalescing === undefined) return false;
    this.#isMerging = true;
    try {
      if (!this.#coalescing.join(value, tag)) return false;
    } finally {
      this.#isMerging = false;
    }
    this.#coalesced += 1;
    return true;
  }

  #overflowed(value: T, bytes: number, records: number, tag: Tag | undefined): "sent" | "full" {
    if (tag !== undefined && (this.overflow === "drop_newest" || this.overflow === "drop_oldest")) {
      return this.#displace(value, tag, this.overflow === "drop_newest" ? "newest" : "oldest");
    }
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
        this.#enter(value, bytes, records, undefined);
        if (this.#ring.length >= this.#watermark || this.#ring.bytes >= this.#watermarkBytes) this.#rise();
        this.#tellDropped(victim, "policy");
        if (others !== undefined) for (const other of others) this.#tellDropped(other, "policy");
        return "sent";
      }
    }
  }

  /** A drop policy where not all messages count the same. */
  #displace(value: T, tag: Tag, which: "oldest" | "newest"): "sent" {
    const victims: T[] = [];
    if (this.#ring.evict(which, tag, victims)) this.#enter(value, 0, 1, tag);
    else {
      this.#sent += 1;
      victims.push(value);
    }
    this.#droppedByPolicy += 1;
    for (const victim of victims) this.#tellDropped(victim, "policy");
    return "sent";
  }

  /** Resolves once the value is in; see `Sender.send` for how it may fail. Call it only after `offer` said "full". */
  waitToSend(value: T, signal: AbortSignal | undefined, timeoutMs: number | undefined): Promise<void> {
    const waiting = this.#waitingSenders;
    const patienceMs = waiting.patience(timeoutMs);
    if (!(patienceMs > 0)) return Promise.reject(waiting.fullError(value, patienceMs));
    const weight = { bytes: this.#bytesOf(value), records: this.#recordsIn(value), tag: this.#tagOf?.(value) };
    return waiting.wait(value, weight, signal, timeoutMs);
  }

  /** Lets waiting senders in, in order, while they fit. */
  #admit(): void {
    // A merge that uses the channel must not let the same sender in twice.
    if (this.#isMerging) return;
    for (let waiter = this.#senders.first; waiter !== undefined; waiter = this.#senders.first) {
      if (waiter.tag !== undefined && this.#admitIntoWaiting(waiter)) continue;
      if (!this.#hasRoom(waiter.bytes)) break;
      this.#waitingSenders.admit(waiter);
      this.#enter(waiter.value, waiter.bytes, waiter.records, waiter.tag);
      waiter.resolve();
    }
    if (this.#ring.length >= this.#watermark || this.#ring.bytes >= this.#watermarkBytes) this.#rise();
  }

  /** One of its key may have entered since it began to wait. */
  #admitIntoWaiting(waiter: WaitingSender<T>): boolean {
    try {
      if (!this.#joins(waiter.value, waiter.tag)) return false;
      waiter.resolve();
    } catch (error) {
      waiter.reject(error);
    }
    this.#waitingSenders.leave(waiter);
    return true;
  }

  #hasRoom(bytes: number): boolean {
    const ring = this.#ring;
    if (ring.length === 0) return true;
    return ring.length < this.#capacity && ring.bytes + bytes <= this.#capacityBytes;
  }

  #enter(value: T, bytes: number, records: number, tag: Tag | undefined): void {
    this.#sent += 1;
    if (this.#isWeighed) {
      this.#sentRecords += records;
      this.#enteredBytes += bytes;
      this.#ring.pushWeighed(value, bytes, records);
    } else {
      this.#ring.push(value, tag);
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
    const values = this.#takeUpTo(max);
    while (values.length < max && this.#ring.length > 0) {
      for (const value of this.#takeUpTo(max - values.length)) values.push(value);
    }
    if (this.#receivers.first !== undefined) this.#serve();
    return values;
  }

  #takeUpTo(max: number): T[] {
    const recordsBefore = this.#ring.records;
    const values = this.#ring.shiftMany(Math.min(max, this.#ring.length));
    this.#received += values.length;
    this.#receivedRecords += recordsBefore - this.#ring.records;
    if (this.#senders.first !== undefined) this.#admit();
    return values;
  }

  /** Waits for what `want` says; resolves as `WaitingReceiver` does. Call it only while the channel is empty and not over. */
  waitToReceive(want: Want, signal: AbortSignal | undefined): Promise<unknown> {
    return waitForValue(this.#receivers, want, signal);
  }

  /** One that was told of an arrival does not take it after all: the next in line may. */
  passOn(): void {
    if (this.#receivers.first !== undefined) this.#serve();
  }

  /** Hands values to waiting receivers, in order; tells all of them when it is over. */
  #serve(): void {
    for (let waiter = this.#receivers.first; waiter !== undefined; waiter = this.#receivers.first) {
      if (this.#ring.length === 0) {
        if (this.isOver) endAll(this.#receivers);
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
    if (this.isOver) endAll(this.#receivers);
  }

  closeReceiver(): void {
    if (this.#isReceiverClosed) return;
    this.#isReceiverClosed = true;
    this.#waitingSenders.refuseAll();
    endAll(this.#receivers);
    this.#droppedByClose += this.#ring.length;
    this.#droppedByCloseRecords += this.#ring.records;
    for (const value of this.#ring.shiftMany(this.#ring.length)) this.#tellDropped(value, "closed");
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
}

function wholeNumber(given: number, from: string): number {
  if (Number.isSafeInteger(given) && given >= 0) return given;
  throw new TailraceError("TR_INTERNAL", `${from} of a channel gave ${given}; it must give a whole number, 0 or more`);
}
