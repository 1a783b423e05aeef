/** What the owner of a message said of it as it came; only where a channel has lanes or coalesces. */
export interface Tag {
  readonly isCritical: boolean;
  /** Undefined: it is not merged with any other. */
  readonly key: unknown;
}

/** Where a channel keeps its messages: a `Ring`, two of them (`LaneRing`), or one that merges (`CoalescingQueue`). */
export interface MessageQueue<T> {
  readonly length: number;
  /** Sum over what is inside. */
  readonly bytes: number;
  /** Sum over what is inside. */
  readonly records: number;
  push(value: T, tag?: Tag): void;
  pushWeighed(value: T, bytes: number, records: number): void;
  /** Takes the next value; only call it when there is one. */
  shift(): T;
  /** Takes the next `count` values; only call it when there are so many. */
  shiftMany(count: number): T[];
  /**
   * Takes out what makes room for an arriving message: the oldest or the newest of those that count less. False: none
   * does, so that the arriving one is the victim.
   */
  evict(which: "oldest" | "newest", tag: Tag, into: T[]): boolean;
  /** Gives storage back that a capacity of `capacity` messages does not need. */
  fit(capacity: number): void;
}
