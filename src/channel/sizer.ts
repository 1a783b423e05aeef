import type { ChannelMonitorLog } from "./monitor.ts";
import type { RegisteredChannel, ResizableChannel } from "./registry.ts";

/**
 * Dynamic sizing: moves the capacity of each channel that has bounds, from what was measured since the last look.
 *
 *             pressed: it was 80 % full, and senders waited or messages were dropped
 *            .-------------------------- twice the size --------------------------.
 *        capacity                                                              capacity
 *            '------------------------- half the size <---------------------------'
 *             quiet: for `patience` never more than a quarter full, nobody waited
 *
 * Why it does not oscillate: growing is quick and shrinking is slow, the two thresholds lie a factor of three apart, and
 * **each time a channel has to grow again after it shrank, its patience doubles** (first 60 s, then 120 s, ...). A load
 * that comes and goes thus turns the size around at most log2(time / 60 s) times, and then keeps the larger size.
 *
 * All resizable channels together stay under one budget of bytes: capacity times the size of a message. That size is
 * measured, rounded up to a power of two and never comes down again, so that the budget does not swing either.
 */
export class ChannelSizer {
  readonly #log: ChannelMonitorLog;
  readonly #budgetBytes: number;
  readonly #sizes = new Map<RegisteredChannel, Size>();

  constructor(log: ChannelMonitorLog, budgetBytes: number) {
    this.#log = log;
    this.#budgetBytes = budgetBytes;
  }

  add(channel: RegisteredChannel, nowMs: number): void {
    if (channel.sizing !== undefined) this.#sizes.set(channel, new Size(channel, channel.sizing, nowMs));
  }

  remove(channel: RegisteredChannel): void {
    this.#sizes.delete(channel);
  }

  /** Looks at every channel; call it about once a second. */
  look(nowMs: number): void {
    for (const size of this.#sizes.values()) size.measure(nowMs);
    this.#keepBudget(nowMs);
    for (const size of this.#sizes.values()) {
      if (size.isQuiet(nowMs)) {
        const quiet = `in ${Math.round(size.quietMs(nowMs) / 1000)} s there were never more than ${size.quietPeak} inside`;
        this.#resize(size, Math.max(size.min, Math.ceil(size.capacity / 2)), nowMs, quiet);
      } else if (size.pressure !== undefined && size.capacity < size.max) {
        this.#grow(size, size.pressure, nowMs);
      }
    }
  }

  #grow(size: Size, pressure: string, nowMs: number): void {
    const leftBytes = this.#budgetBytes - this.#heldBytes() + size.heldBytes;
    const fitting = leftBytes >= size.capacityBytes ? size.max : Math.floor(leftBytes / size.messageBytes);
    const wanted = Math.min(size.max, size.capacity * 2, fitting);
    // A step of a few messages would only make another one necessary.
    if (wanted >= Math.min(size.max, size.capacity * 1.25)) this.#resize(size, wanted, nowMs, pressure);
    else if (!size.isHeldBack) {
      size.isHeldBack = true;
      this.#log.info(
        { ...size.names, capacity: size.capacity, total_bytes: this.#budgetBytes },
        `Channel stays at ${size.capacity} messages though ${pressure}: resizable channels may hold ${this.#budgetBytes} bytes together (total_bytes)`,
      );
    }
  }

  /** Messages turned out to be larger than they seemed: the largest channels give way, down to their lower bounds. */
  #keepBudget(nowMs: number): void {
    let excess = this.#heldBytes() - this.#budgetBytes;
    const largestFirst = [...this.#sizes.values()].toSorted((one, other) => other.heldBytes - one.heldBytes);
    for (const size of largestFirst) {
      if (!(excess > 0)) return;
      const before = size.heldBytes;
      const wanted = Math.max(size.min, Math.floor((before - excess) / size.messageBytes));
      if (wanted >= size.capacity) continue;
      const why = `messages of ${size.messageBytes} bytes would exceed the ${this.#budgetBytes} bytes of all resizable channels (total_bytes)`;
      this.#resize(size, wanted, nowMs, why);
      excess -= before - size.heldBytes;
    }
  }

  #heldBytes(): number {
    let sum = 0;
    for (const size of this.#sizes.values()) sum += size.heldBytes;
    return sum;
  }

  #resize(size: Size, wanted: number, nowMs: number, reason: string): void {
    const was = size.capacity;
    const capacity = size.resize(wanted, nowMs);
    if (capacity === was) return;
    this.#log.info(
      { ...size.names, capacity, capacity_before: was, reason },
      `Channel ${capacity > was ? "grown" : "shrunk"} from ${was} to ${capacity} messages: ${reason}`,
    );
  }
}

/** Milliseconds for which a channel must be quiet before it shrinks for the first time. */
export const FIRST_PATIENCE_MS = 60_000;

/** What a message without a size of its own is taken to weigh: an event with a few short texts. */
export const EVENT_BYTES = 512;

/** A mean over fewer messages says little. */
const ENOUGH_MESSAGES = 16;

/** One channel and what was measured of it. */
class Size {
  readonly names: { readonly component: string; readonly channel: string };
  readonly #channel: RegisteredChannel;
  readonly #sizing: ResizableChannel;
  messageBytes = EVENT_BYTES;
  /** Why it should grow; undefined while it need not. */
  pressure: string | undefined;
  /** Most messages inside since it has been quiet. */
  quietPeak = 0;
  /** It was told that there is no budget for it. */
  isHeldBack = false;
  #quietSinceMs: number;
  #patienceMs = FIRST_PATIENCE_MS;
  #hasShrunk = false;
  #seenAtMs: number;
  #seen: ReturnType<ResizableChannel["pressure"]>;
  #weighed = { messages: 0, bytes: 0 };

  constructor(channel: RegisteredChannel, sizing: ResizableChannel, nowMs: number) {
    this.names = { component: channel.component, channel: channel.channel };
    this.#channel = channel;
    this.#sizing = sizing;
    this.#quietSinceMs = nowMs;
    this.#seenAtMs = nowMs;
    this.#seen = sizing.pressure();
    this.#weighed = { messages: this.#seen.sent, bytes: this.#seen.enteredBytes };
  }

  get capacity(): number {
    return this.#channel.capacity;
  }

  get min(): number {
    return this.#sizing.min;
  }

  get max(): number {
    return this.#sizing.max;
  }

  get capacityBytes(): number {
    return this.#sizing.capacityBytes;
  }

  /** The most it can hold. */
  get heldBytes(): number {
    return Math.min(this.capacity * this.messageBytes, this.#sizing.capacityBytes);
  }

  quietMs(nowMs: number): number {
    return nowMs - this.#quietSinceMs;
  }

  isQuiet(nowMs: number): boolean {
    return this.capacity > this.min && this.quietMs(nowMs) >= this.#patienceMs;
  }

  measure(nowMs: number): void {
    const [before, now] = [this.#seen, this.#sizing.pressure()];
    const elapsedMs = nowMs - this.#seenAtMs;
    this.#seen = now;
    this.#seenAtMs = nowMs;
    this.#weigh(now.sent - now.droppedByPolicy, now.enteredBytes);
    const dropped = now.droppedByPolicy - before.droppedByPolicy;
    // Whoever still waited at the last look may have given up since.
    const waitedMs = Math.max(0, now.waitedMs - before.waitedMs);
    this.pressure = this.#judge(now.peakMessages, dropped, waitedMs, elapsedMs);
    const isQuiet = this.pressure === undefined && now.peakMessages <= this.capacity / 4 && waitedMs === 0;
    if (!isQuiet) {
      this.#quietSinceMs = nowMs;
      this.quietPeak = 0;
    } else {
      this.quietPeak = Math.max(this.quietPeak, now.peakMessages);
      if (this.quietMs(nowMs) >= FIRST_PATIENCE_MS) this.isHeldBack = false;
    }
  }

  resize(wanted: number, nowMs: number): number {
    const was = this.capacity;
    const capacity = this.#sizing.resize(wanted);
    this.#quietSinceMs = nowMs;
    this.quietPeak = 0;
    this.isHeldBack = false;
    if (capacity > was && this.#hasShrunk) this.#patienceMs *= 2;
    this.#hasShrunk = capacity < was;
    return capacity;
  }

  #judge(peakMessages: number, dropped: number, waitedMs: number, elapsedMs: number): string | undefined {
    if (peakMessages < this.capacity * 0.8) return undefined;
    const full = Math.round(Math.min(1, peakMessages / this.capacity) * 100);
    const seconds = Math.round(elapsedMs / 100) / 10;
    if (dropped > 0) return `${dropped} messages were dropped in ${seconds} s`;
    // One hundredth of the time.
    if (waitedMs > elapsedMs / 100)
      return `senders waited ${Math.round(waitedMs)} ms in ${seconds} s while it was ${full}% full`;
    // What was refused, its senders know; it counts nowhere.
    if (this.#channel.policy === "error" && peakMessages >= this.capacity) return `it was full within ${seconds} s`;
    return undefined;
  }

  #weigh(entered: number, enteredBytes: number): void {
    const messages = entered - this.#weighed.messages;
    const bytes = enteredBytes - this.#weighed.bytes;
    if (messages < ENOUGH_MESSAGES) return;
    this.#weighed = { messages: entered, bytes: enteredBytes };
    while (this.messageBytes < bytes / messages) this.messageBytes *= 2;
  }
}
