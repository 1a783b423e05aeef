import type { MessageQueue } from "./queue.ts";

/**
 * The storage of a channel: a first-in-first-out queue in a circle. Slots are a power of two, so that a place is found
 * by masking; the circle starts small and doubles up to what the capacity needs, so that a roomy channel that is mostly
 * empty costs little.
 *
 *   empty              three values         wrapped              full
 *   head               head                                head  head
 *   |                  |                                   |     |
 *   [ . . . . ]        [ a b c . ]          [ e . . d ]          [ a b c d ]
 *     length 0           length 3             length 2             length 4
 *
 * A weighed ring keeps beside each value its bytes and its records, as they were when it entered: the value may look
 * different when it leaves, and the sums must still come out even.
 *
 *   weights [ bytes 0 | records 0 | bytes 1 | records 1 | ... ]
 */
export class Ring<T> implements MessageQueue<T> {
  readonly #isWeighed: boolean;
  #values: (T | undefined)[];
  #weights: Float64Array;
  #mask: number;
  #head = 0;
  #length = 0;
  #bytes = 0;
  #records = 0;

  constructor(capacity: number, isWeighed: boolean) {
    // 16: grown rings are as fast as preallocated ones after a few thousand messages (bench/channel).
    const slots = slotsFor(Math.min(capacity, 16));
    this.#isWeighed = isWeighed;
    this.#values = emptySlots(slots);
    this.#weights = new Float64Array(isWeighed ? slots * 2 : 0);
    this.#mask = slots - 1;
  }

  get length(): number {
    return this.#length;
  }

  /** Sum over what is inside; 0 in a ring that is not weighed. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Sum over what is inside; in a ring that is not weighed each value is one record. */
  get records(): number {
    return this.#isWeighed ? this.#records : this.#length;
  }

  push(value: T): void {
    if (this.#length > this.#mask) this.#grow();
    this.#values[(this.#head + this.#length) & this.#mask] = value;
    this.#length += 1;
  }

  /** `push` for a weighed ring. */
  pushWeighed(value: T, bytes: number, records: number): void {
    if (this.#length > this.#mask) this.#grow();
    const slot = (this.#head + this.#length) & this.#mask;
    this.#values[slot] = value;
    this.#weights[slot * 2] = bytes;
    this.#weights[slot * 2 + 1] = records;
    this.#bytes += bytes;
    this.#records += records;
    this.#length += 1;
  }

  /** Takes the oldest value; only call it when there is one. */
  shift(): T {
    const head = this.#head;
    const value = this.#values[head];
    // An emptied slot must not keep its value alive until the circle comes round.
    this.#values[head] = undefined;
    if (this.#isWeighed) {
      this.#bytes -= this.#weights[head * 2]!;
      this.#records -= this.#weights[head * 2 + 1]!;
    }
    this.#head = (head + 1) & this.#mask;
    this.#length -= 1;
    return value as T;
  }

  /** Takes the oldest `count` values; only call it when there are so many. */
  shiftMany(count: number): T[] {
    const head = this.#head;
    const end = head + count;
    const slots = this.#mask + 1;
    // Copied and emptied in at most two stretches: a tenth of what taking them one by one costs.
    const values = this.#values.slice(head, end);
    this.#values.fill(undefined, head, end);
    if (end > slots) {
      for (let slot = 0; slot < end - slots; slot += 1) values.push(this.#values[slot]);
      this.#values.fill(undefined, 0, end - slots);
    }
    if (this.#isWeighed) {
      for (let place = head; place < end; place += 1) {
        const slot = place & this.#mask;
        this.#bytes -= this.#weights[slot * 2]!;
        this.#records -= this.#weights[slot * 2 + 1]!;
      }
    }
    this.#head = end & this.#mask;
    this.#length -= count;
    return values as T[];
  }

  /** Takes the newest value of a ring that is not weighed; only call it when there is one. */
  pop(): T {
    this.#length -= 1;
    const slot = (this.#head + this.#length) & this.#mask;
    const value = this.#values[slot];
    this.#values[slot] = undefined;
    return value as T;
  }

  evict(which: "oldest" | "newest", _: unknown, into: T[]): boolean {
    if (which === "newest") return false;
    into.push(this.shift());
    return true;
  }

  fit(capacity: number): void {
    const slots = slotsFor(Math.max(capacity, this.#length));
    if (slots <= this.#mask) this.#moveTo(slots);
  }

  #grow(): void {
    this.#moveTo((this.#mask + 1) * 2);
  }

  #moveTo(slots: number): void {
    const values = emptySlots<T>(slots);
    const weights = new Float64Array(this.#isWeighed ? slots * 2 : 0);
    for (let index = 0; index < this.#length; index += 1) {
      const slot = (this.#head + index) & this.#mask;
      values[index] = this.#values[slot];
      if (this.#isWeighed) {
        weights[index * 2] = this.#weights[slot * 2]!;
        weights[index * 2 + 1] = this.#weights[slot * 2 + 1]!;
      }
    }
    this.#values = values;
    this.#weights = weights;
    this.#mask = slots - 1;
    this.#head = 0;
  }
}

/** Filled, because a JavaScript array with holes is slower to read for as long as it lives. */
function emptySlots<T>(slots: number): (T | undefined)[] {
  return new Array<T | undefined>(slots).fill(undefined);
}

/** The next power of two. */
function slotsFor(capacity: number): number {
  let slots = 1;
  while (slots < capacity) slots *= 2;
  return slots;
}
