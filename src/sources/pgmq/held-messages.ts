/** Messages read and not yet acknowledged, at most: a second of more than any Postgres gives. */
const MAX_HELD = 50_000;
/** The past that says how many may be held. */
const WINDOW_MS = 1000;

/**
 * The messages that this agent has read and not yet given back.
 *
 * ```
 *             read                 every sink has it, committed          archived or deleted
 *   (queue) ------> in work ------------------------------------> done ---------------------> (gone)
 *                      | extended while it lasts; at the end of the agent made visible again
 * ```
 *
 * How many it may hold follows from how many it finishes: no more than it finished within the last second (twice that, so
 * that it can grow), and always one read. So a fast sink is never short of messages, whatever the way to the database
 * takes, and an agent with a slow one leaves the rest to its neighbours.
 */
export class HeldMessages {
  readonly #batch: number;
  readonly #now: () => number;
  /** Message id -> when it becomes visible to others, monotonic milliseconds. */
  readonly #visibleAtMs = new Map<number, number>();
  readonly #done = new Set<number>();
  #windowStartMs: number;
  #inWindow = 0;
  #inLastWindow = 0;

  /** @param now monotonic milliseconds */
  constructor(batch: number, now: () => number) {
    this.#batch = batch;
    this.#now = now;
    this.#windowStartMs = now();
  }

  /** In work, or done and not yet archived. */
  get count(): number {
    return this.#visibleAtMs.size;
  }

  /** Done and not yet archived. */
  get doneCount(): number {
    return this.#done.size;
  }

  /** How many more may be read now. */
  get room(): number {
    this.#turnWindow();
    const finished = Math.max(this.#inWindow, this.#inLastWindow);
    const limit = Math.min(MAX_HELD, Math.max(this.#batch, finished * 2));
    return Math.max(0, limit - this.count);
  }

  /** False: it is held already (its time-out ran out while we could not extend it), and is not to be worked on twice. */
  hold(id: number, visibleAtMs: number): boolean {
    const isNew = !this.#visibleAtMs.has(id);
    this.#visibleAtMs.set(id, visibleAtMs);
    return isNew;
  }

  done(id: number): void {
    this.#done.add(id);
  }

  /** Some that are done, to be archived; they stay done until `forget`. */
  takeDone(max: number): number[] {
    const ids: number[] = [];
    for (const id of this.#done) {
      if (ids.length >= max) break;
      ids.push(id);
    }
    return ids;
  }

  /** They are no longer ours. */
  forget(ids: readonly number[]): void {
    this.#turnWindow();
    for (const id of ids) {
      this.#visibleAtMs.delete(id);
      if (this.#done.delete(id)) this.#inWindow += 1;
    }
  }

  /** Those in work that others will see before `atMs`. */
  endingBefore(atMs: number): number[] {
    const ids: number[] = [];
    for (const [id, visibleAtMs] of this.#visibleAtMs) if (visibleAtMs < atMs && !this.#done.has(id)) ids.push(id);
    return ids;
  }

  extended(ids: readonly number[], visibleAtMs: number): void {
    for (const id of ids) if (this.#visibleAtMs.has(id)) this.#visibleAtMs.set(id, visibleAtMs);
  }

  /** Those that nobody has finished. */
  unfinished(): number[] {
    return [...this.#visibleAtMs.keys()].filter((id) => !this.#done.has(id));
  }

  #turnWindow(): void {
    const nowMs = this.#now();
    const passedMs = nowMs - this.#windowStartMs;
    if (passedMs < WINDOW_MS) return;
    this.#inLastWindow = passedMs < 2 * WINDOW_MS ? this.#inWindow : 0;
    this.#inWindow = 0;
    this.#windowStartMs = nowMs;
  }
}
