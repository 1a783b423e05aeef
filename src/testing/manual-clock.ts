import { setImmediate as nextTurn } from "node:timers";
import { type Clock, sleepWith, type Timer } from "../runtime/clock.ts";

/**
 * A clock that stands still until it is told to go on, so that a simulation of hours runs in milliseconds and in the
 * same order each time.
 *
 *     settle()   everything runs that can run without time passing
 *     advance()  time passes, each timer fires in order of its time, settling after each
 *     runUntil() time jumps from timer to timer until a condition holds; run() until a promise has settled
 *
 * Promises are real ones. The simulation is idle once a turn of the event loop has drained all microtasks and nobody
 * asked for another turn (setImmediate); work on other threads (zlib, files of the machine) must be announced with
 * `hold()`, or time would pass while it works.
 */
export class ManualClock implements Clock {
  readonly #startMs: number;
  readonly #timers: Alarm[] = [];
  #monotonicMs = 0;
  #wallShiftMs = 0;
  #alarms = 0;
  #held = 0;

  /** `startMs`: what `now()` says first, milliseconds since the epoch. */
  constructor(options: { startMs?: number } = {}) {
    this.#startMs = options.startMs ?? Date.UTC(2026, 0, 1);
  }

  now(): number {
    return this.#startMs + this.#monotonicMs + this.#wallShiftMs;
  }

  monotonic(): number {
    return this.#monotonicMs;
  }

  sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void> {
    return sleepWith(this, ms, options?.signal);
  }

  after(ms: number, run: () => void): Timer {
    const alarm: Alarm = { dueMs: this.#monotonicMs + Math.max(0, ms), order: this.#alarms, run };
    this.#alarms += 1;
    push(this.#timers, alarm);
    return {
      cancel: () => {
        alarm.run = undefined;
      },
    };
  }

  /** The wall clock jumps (also backwards); monotonic time and timers do not notice. */
  shiftWall(ms: number): void {
    this.#wallShiftMs += ms;
  }

  /** Announces work that this clock cannot see; time stands still until the returned function is called. */
  hold(): () => void {
    this.#held += 1;
    let isHeld = true;
    return () => {
      if (isHeld) this.#held -= 1;
      isHeld = false;
    };
  }

  /** A clock of the same time for one simulated process: `kill()` silences all its timers for good. */
  process(): ProcessClock {
    return new ProcessClock(this);
  }

  /** Milliseconds until the next timer; undefined if there is none. */
  get nextTimerMs(): number | undefined {
    const alarm = this.#peek();
    return alarm === undefined ? undefined : alarm.dueMs - this.#monotonicMs;
  }

  /** Lets everything run that needs no time. */
  async settle(): Promise<void> {
    // A turn drains all microtasks; another one is due while somebody yielded to the event loop during the last.
    do await turn();
    while (this.#held > 0 || process.getActiveResourcesInfo().includes("Immediate"));
  }

  /** Lets `ms` pass. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    await this.settle();
    for (let alarm = this.#peek(); alarm !== undefined && alarm.dueMs <= endMs; alarm = this.#peek()) {
      this.#fireNext();
      await this.settle();
    }
    this.#monotonicMs = endMs;
  }

  /**
   * Lets time jump from timer to timer until `condition` holds.
   * @throws Error if nothing is left that could make it hold, or if it does not hold within `limitMs` (default 1 hour).
   */
  async runUntil(condition: () => boolean, options: { limitMs?: number; what?: string } = {}): Promise<void> {
    const limitMs = options.limitMs ?? 3_600_000;
    const what = options.what ?? "the condition";
    const endMs = this.#monotonicMs + limitMs;
    for (;;) {
      await this.settle();
      if (condition()) return;
      const alarm = this.#peek();
      if (alarm === undefined) throw new Error(`${what} never came true: nothing is left that could run`);
      if (alarm.dueMs > endMs) throw new Error(`${what} did not come true within ${limitMs} ms of simulated time`);
      this.#fireNext();
    }
  }

  /** Lets time pass until `promise` has settled, and gives (or throws) what it settled with. */
  async run<T>(promise: Promise<T>, options: { limitMs?: number; what?: string } = {}): Promise<T> {
    let isSettled = false;
    const settled = promise.then(
      (value) => {
        isSettled = true;
        return { value };
      },
      (error: unknown) => {
        isSettled = true;
        return { error };
      },
    );
    await this.runUntil(() => isSettled, { what: "the awaited promise", ...options });
    const result = await settled;
    if ("error" in result) throw result.error;
    return result.value;
  }

  #peek(): Alarm | undefined {
    while (this.#timers.length > 0 && this.#timers[0]!.run === undefined) pop(this.#timers);
    return this.#timers[0];
  }

  #fireNext(): void {
    const alarm = pop(this.#timers);
    this.#monotonicMs = Math.max(this.#monotonicMs, alarm.dueMs);
    const run = alarm.run;
    alarm.run = undefined;
    run?.();
  }
}

/** The clock as one simulated process sees it. */
export class ProcessClock implements Clock {
  readonly #clock: ManualClock;
  #isKilled = false;

  constructor(clock: ManualClock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  sleep(ms: number, options?: { signal?: AbortSignal }): Promise<void> {
    return sleepWith(this, ms, options?.signal);
  }

  after(ms: number, run: () => void): Timer {
    if (this.#isKilled) return { cancel() {} };
    return this.#clock.after(ms, () => {
      if (!this.#isKilled) run();
    });
  }

  /** No timer of this process fires any more. */
  kill(): void {
    this.#isKilled = true;
  }
}

interface Alarm {
  readonly dueMs: number;
  /** Timers of one instant fire in the order in which they were set. */
  readonly order: number;
  run: (() => void) | undefined;
}

function turn(): Promise<void> {
  return new Promise((resolve) => nextTurn(resolve));
}

function isBefore(one: Alarm, other: Alarm): boolean {
  return one.dueMs < other.dueMs || (one.dueMs === other.dueMs && one.order < other.order);
}

/** Binary heap: the earliest alarm is at 0, children of `i` at `2i + 1` and `2i + 2`. */
function push(heap: Alarm[], alarm: Alarm): void {
  let at = heap.length;
  heap.push(alarm);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!isBefore(alarm, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = alarm;
}

function pop(heap: Alarm[]): Alarm {
  const first = heap[0]!;
  const last = heap.pop()!;
  if (heap.length > 0) {
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }
  return first;
}
