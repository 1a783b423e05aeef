import type { MessageQueue, Tag } from "./queue.ts";

/**
 * Messages of the same key wait once: while one waits in the channel, further ones of its key are merged into it, in its
 * place. For notifications, of which ten alike say no more than one that says "ten times".
 *
 * A merged message takes no place, also of a full channel, and counts in `coalesced`, not in `sent`: it has become a part
 * of one that was counted.
 */
export interface Coalescing<T> {
  /** Compared as the keys of a Map are; undefined: never merged. Asked as the message comes. */
  keyOf(value: T): unknown;
  /**
   * What waits from now on, where `waiting` (which stands for `count - 1` messages) waits and `arrived` is the `count`th.
   * If it throws, so does the send, and the channel is as it was. It should leave the channel alone.
   */
  merge(waiting: T, arrived: T, count: number): T;
}

/** One place in the queue. */
interface Box<T> {
  value: T;
  readonly tag: Tag | undefined;
  /** Messages that it stands for. */
  count: number;
  isWaiting: boolean;
}

/** A queue whose messages can be found by their keys. */
export class CoalescingQueue<T> implements MessageQueue<T> {
  readonly #boxes: MessageQueue<Box<T>>;
  readonly #merge: Coalescing<T>["merge"];
  // One map a lane: a critical message must not end up in the place of a normal one.
  readonly #normal = new Map<unknown, Box<T>>();
  readonly #critical = new Map<unknown, Box<T>>();

  constructor(boxes: MessageQueue<Box<T>>, coalescing: Coalescing<T>) {
    this.#boxes = boxes;
    this.#merge = (waiting, arrived, count) => coalescing.merge(waiting, arrived, count);
  }

  get length(): number {
    return this.#boxes.length;
  }

  get bytes(): number {
    return 0;
  }

  get records(): number {
    return this.#boxes.length;
  }

  /** Merges a message into the waiting one of its key; false if there is none. */
  join(value: T, tag: Tag): boolean {
    const box = tag.key === undefined ? undefined : this.#waitingOf(tag).get(tag.key);
    if (box === undefined) return false;
    const merged = this.#merge(box.value, value, box.count + 1);
    // Merging ran other people's code, which may have received it meanwhile.
    if (!box.isWaiting) return false;
    box.value = merged;
    box.count += 1;
    return true;
  }

  push(value: T, tag?: Tag): void {
    const box: Box<T> = { value, tag, count: 1, isWaiting: true };
    if (tag?.key !== undefined) this.#waitingOf(tag).set(tag.key, box);
    this.#boxes.push(box, tag);
  }

  pushWeighed(value: T): void {
    this.push(value);
  }

  shift(): T {
    return this.#opened(this.#boxes.shift());
  }

  shiftMany(count: number): T[] {
    return Array.from({ length: count }, () => this.shift());
  }

  evict(which: "oldest" | "newest", tag: Tag, into: T[]): boolean {
    const victims: Box<T>[] = [];
    if (!this.#boxes.evict(which, tag, victims)) return false;
    for (const victim of victims) into.push(this.#opened(victim));
    return true;
  }

  fit(capacity: number): void {
    this.#boxes.fit(capacity);
  }

  #opened(box: Box<T>): T {
    box.isWaiting = false;
    if (box.tag?.key !== undefined) {
      const waiting = this.#waitingOf(box.tag);
      // A message that was pushed while another of its key was merged stands there in its own right.
      if (waiting.get(box.tag.key) === box) waiting.delete(box.tag.key);
    }
    return box.value;
  }

  #waitingOf(tag: Tag): Map<unknown, Box<T>> {
    return tag.isCritical ? this.#critical : this.#normal;
  }
}
