import type { MessageQueue, Tag } from "./queue.ts";
import { Ring } from "./ring.ts";
import { type Waiting, WaitingLine } from "./waiting.ts";

/**
 * Two lanes in one channel, for messages of which some count more.
 *
 *   critical  [ c3 | c2 | c1 ]  --up to `burst` in a row-->  .
 *                                                            |--> receiver
 *   normal    [ n4 | n3 | n2 | n1 ]  --then one of these-->  '
 *
 * - Critical messages leave first, but after `burst` of them in a row one normal message leaves: nobody starves.
 * - Each lane is first in, first out. Senders that wait are let in by the same turns.
 * - Both share the capacity. Under a drop policy a critical message that finds no room displaces a normal one (the newest
 *   or the oldest, as the policy says); it is dropped only where the channel is full of critical ones. A normal message
 *   never displaces a critical one.
 */
export interface PriorityLanes<T> {
  /** Asked as the message comes. */
  isCritical(value: T): boolean;
  /** Critical messages that may leave in a row while a normal one waits; default 8. */
  readonly burst?: number;
}

const DEFAULT_BURST = 8;

/** Whose turn it is. */
class Turns {
  readonly #burst: number;
  #inRow = 0;

  constructor(burst: number | undefined) {
    this.#burst = burst ?? DEFAULT_BURST;
  }

  isCriticalNext(hasCritical: boolean, hasNormal: boolean): boolean {
    return hasCritical && (!hasNormal || this.#inRow < this.#burst);
  }

  /** One has left; only while a normal one waits does it count as overtaking. */
  left(wasCritical: boolean, hasNormal: boolean): void {
    this.#inRow = wasCritical && hasNormal ? this.#inRow + 1 : 0;
  }
}

/** The storage of a channel with lanes. */
export class LaneRing<T> implements MessageQueue<T> {
  readonly #critical: Ring<T>;
  readonly #normal: Ring<T>;
  readonly #turns: Turns;

  constructor(capacity: number, lanes: PriorityLanes<unknown>) {
    this.#critical = new Ring(capacity, false);
    this.#normal = new Ring(capacity, false);
    this.#turns = new Turns(lanes.burst);
  }

  get length(): number {
    return this.#critical.length + this.#normal.length;
  }

  get bytes(): number {
    return 0;
  }

  get records(): number {
    return this.length;
  }

  push(value: T, tag?: Tag): void {
    (tag?.isCritical ? this.#critical : this.#normal).push(value);
  }

  pushWeighed(value: T): void {
    this.push(value);
  }

  shift(): T {
    const isCritical = this.#turns.isCriticalNext(this.#critical.length > 0, this.#normal.length > 0);
    this.#turns.left(isCritical, this.#normal.length > 0);
    return (isCritical ? this.#critical : this.#normal).shift();
  }

  shiftMany(count: number): T[] {
    return Array.from({ length: count }, () => this.shift());
  }

  evict(which: "oldest" | "newest", tag: Tag, into: T[]): boolean {
    if (this.#normal.length === 0) return tag.isCritical && this.#critical.evict(which, tag, into);
    if (which === "oldest") into.push(this.#normal.shift());
    else if (tag.isCritical) into.push(this.#normal.pop());
    else return false;
    return true;
  }

  fit(capacity: number): void {
    this.#critical.fit(Math.max(1, capacity - this.#normal.length));
    this.#normal.fit(Math.max(1, capacity - this.#critical.length));
  }
}

/** Senders before a full channel with lanes; `first` is the one whose turn it is. */
export class LaneLine<W extends Waiting & { readonly tag: Tag | undefined }> extends WaitingLine<W> {
  readonly #critical = new WaitingLine<W>();
  readonly #turns: Turns;

  constructor(lanes: PriorityLanes<unknown>) {
    super();
    this.#turns = new Turns(lanes.burst);
  }

  override get first(): W | undefined {
    const critical = this.#critical.first;
    const normal = super.first;
    return this.#turns.isCriticalNext(critical !== undefined, normal !== undefined) ? critical : normal;
  }

  override append(waiter: W): void {
    if (waiter.tag?.isCritical) this.#critical.append(waiter);
    else super.append(waiter);
  }

  override remove(waiter: W): boolean {
    const wasCritical = waiter.tag?.isCritical ?? false;
    const wasInLine = wasCritical ? this.#critical.remove(waiter) : super.remove(waiter);
    // One that gave up counts as served: the turn of those behind it comes sooner, never later.
    if (wasInLine) this.#turns.left(wasCritical, super.first !== undefined);
    return wasInLine;
  }
}
