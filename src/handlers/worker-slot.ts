import type { Clock, Timer } from "../runtime/clock.ts";
import type { Answer, Task } from "./task.ts";
import type { Ending, StartWorker, WorkerLink } from "./worker-link.ts";

/** A thread may load for so long, or for as long as one message may take. */
const LONGEST_START_MS = 30_000;
/** Between the end of a worker's input and SIGTERM. */
const FINISH_MS = 1000;
/** Answers that came last, by which a second answer is told from one to a message that was never given. */
const REMEMBERED_ANSWERS = 64;

/** How a worker ended. */
export interface Death {
  readonly reason: string;
  /** What it held and had not answered. */
  readonly tasks: readonly Task[];
  /** Of them, the one whose fault it certainly is: its time was over. */
  readonly culprit: Task | undefined;
  readonly how: Ending;
  /** It had answered something before. */
  readonly hadAnswered: boolean;
  /** Monotonic time of its start. */
  readonly startedAtMs: number;
  readonly livedMs: number;
  /** How long it had lived when it got its first message; its whole life where it never got one. */
  readonly quietMs: number;
}

export interface SlotOwner {
  /** It has room for a message now. */
  free(slot: WorkerSlot): void;
  answered(slot: WorkerSlot, task: Task, answer: Answer): void;
  /** An answer came twice. */
  repeated(slot: WorkerSlot): void;
  /** It has shown that it starts: it answered, or lived long enough without a message. */
  proven(slot: WorkerSlot): void;
  died(slot: WorkerSlot, death: Death): void;
}

export interface SlotOptions {
  readonly number: number;
  readonly start: StartWorker;
  readonly maxInFlight: number;
  readonly timeoutMs: number;
  /** After SIGTERM, before SIGKILL. */
  readonly graceMs: number;
  readonly clock: Clock;
  readonly owner: SlotOwner;
}

/**
 * One place in a pool, with one worker after the other:
 *
 * ```
 *           start()            ready             lived quietly for quietMs
 *   down ----------> starting -------> (quiet) --------------------------> up: holds 0 to maxInFlight messages
 *    ^                   |                |                                 |  |
 *    |                   |                |        fault, time-out: kill    |  | stop(): input ends, answers still count
 *    '----- ended -------+----------------+------------ ending <------------'  '--> finishing --> ended
 * ```
 */
export class WorkerSlot {
  readonly number: number;
  readonly #options: SlotOptions;
  #link: WorkerLink | undefined;
  #state: "down" | "starting" | "quiet" | "up" | "ending" | "finishing" = "down";
  readonly #running = new Map<string, { readonly task: Task; readonly sinceMs: number }>();
  readonly #answered = new Set<string>();
  #startedAtMs = 0;
  #quietMs = 0;
  #firstGivenAtMs: number | undefined;
  #hasAnswered = false;
  #fault: string | undefined;
  #culprit: Task | undefined;
  #timers: Timer[] = [];
  #onEnded: (() => void)[] = [];

  constructor(options: SlotOptions) {
    this.number = options.number;
    this.#options = options;
  }

  get isDown(): boolean {
    return this.#state === "down";
  }

  /** Up, and not about to go. */
  get isUp(): boolean {
    return this.#state === "up";
  }

  /** How long it has been up without ever having had a message. */
  get idleMs(): number {
    if (this.#state !== "up" || this.#firstGivenAtMs !== undefined) return 0;
    return this.#options.clock.monotonic() - this.#startedAtMs;
  }

  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** It gets no message before it has lived for a while. */
  get isOnProbation(): boolean {
    return this.#quietMs > 0 && (this.#state === "starting" || this.#state === "quiet");
  }

  get isEmpty(): boolean {
    return this.#running.size === 0;
  }

  get startedAtMs(): number {
    return this.#startedAtMs;
  }

  /** Whether it can be given this message now. */
  canTake(task: Task): boolean {
    if (this.#state !== "up") return false;
    if (this.isEmpty) return true;
    return !task.isSuspect && this.hasRoom && !this.#running.has(task.id);
  }

  get hasRoom(): boolean {
    if (this.#state !== "up" || this.#running.size >= this.#options.maxInFlight) return false;
    for (const { task } of this.#running.values()) if (task.isSuspect) return false;
    return true;
  }

  /** Starts a worker that gets no message for `quietMs`. Only while it is down. */
  start(quietMs: number): void {
    const { clock, start, owner } = this.#options;
    this.#state = "starting";
    this.#startedAtMs = clock.monotonic();
    this.#quietMs = quietMs;
    this.#firstGivenAtMs = undefined;
    this.#hasAnswered = false;
    this.#fault = undefined;
    this.#culprit = undefined;
    this.#answered.clear();
    // What an earlier worker still says is about the earlier worker.
    let isOver = false;
    this.#link = start({
      ready: () => {
        if (isOver || this.#state !== "starting") return;
        const open = () => {
          if (isOver || this.#state !== "quiet") return;
          this.#state = "up";
          if (quietMs > 0) owner.proven(this);
          owner.free(this);
        };
        this.#state = "quiet";
        if (quietMs === 0) open();
        else this.#timers.push(clock.after(quietMs, open));
      },
      answer: (answer) => {
        if (!isOver) this.#answer(answer);
      },
      broken: (reason) => {
        if (!isOver) this.#break(reason);
      },
      ended: (reason, how) => {
        if (isOver) return;
        isOver = true;
        this.#ended(reason, how);
      },
    });
  }

  /** Hands a message over; only where `canTake` says so. */
  give(task: Task): void {
    const nowMs = this.#options.clock.monotonic();
    this.#firstGivenAtMs ??= nowMs;
    this.#running.set(task.id, { task, sinceMs: nowMs });
    task.isRunning = true;
    this.#link!.give(task.message);
  }

  /** Looks for what hangs: a message whose time is over, a worker that never becomes ready. */
  check(): void {
    const { clock, timeoutMs } = this.#options;
    const nowMs = clock.monotonic();
    if (this.#state === "starting" && nowMs - this.#startedAtMs > Math.max(timeoutMs, LONGEST_START_MS)) {
      this.#fault = `it was not ready after ${Math.round(nowMs - this.#startedAtMs)} ms`;
      this.#end();
    }
    if (this.#state !== "up") return;
    for (const { task, sinceMs } of this.#running.values()) {
      if (nowMs - sinceMs < timeoutMs) continue;
      this.#fault = `it did not answer within ${timeoutMs} ms`;
      this.#culprit = task;
      this.#end();
      return;
    }
  }

  /** Lets the worker finish and ends it, in the end by force; resolves when it is gone. */
  stop(): Promise<void> {
    if (this.#state === "down") return Promise.resolve();
    return new Promise((resolve) => {
      this.#onEnded.push(resolve);
      if (this.#state === "ending" || this.#state === "finishing") return;
      this.#state = "finishing";
      this.#later(FINISH_MS, () => this.#terminate());
      this.#link!.finish();
    });
  }

  #answer(answer: Answer): void {
    if (this.#state !== "up" && this.#state !== "finishing") return;
    const { owner } = this.#options;
    const given = this.#running.get(answer.id);
    if (given === undefined) {
      // The message has had its ending; a second answer changes nothing.
      if (this.#answered.has(answer.id)) owner.repeated(this);
      else this.#break(`it answered a message that it was not given: ${JSON.stringify(answer.id.slice(0, 100))}`);
      return;
    }
    this.#running.delete(answer.id);
    given.task.isRunning = false;
    this.#answered.add(answer.id);
    if (this.#answered.size > REMEMBERED_ANSWERS) this.#answered.delete(this.#answered.values().next().value!);
    if (!this.#hasAnswered) {
      this.#hasAnswered = true;
      owner.proven(this);
    }
    owner.answered(this, given.task, answer);
    if (this.#state === "up") owner.free(this);
  }

  #break(reason: string): void {
    if (this.#state === "ending" || this.#state === "down") return;
    this.#fault = reason;
    this.#state = "ending";
    this.#link!.kill();
  }

  /** What hangs may still be able to tidy up. */
  #end(): void {
    this.#state = "ending";
    this.#terminate();
  }

  #terminate(): void {
    // First the timer: a worker may end in the middle of this, which cancels it.
    this.#later(this.#options.graceMs, () => this.#link!.kill());
    this.#link!.terminate();
  }

  #later(ms: number, run: () => void): void {
    this.#timers.push(this.#options.clock.after(ms, run));
  }

  #ended(reason: string, how: Ending): void {
    const { clock, owner } = this.#options;
    const nowMs = clock.monotonic();
    for (const timer of this.#timers.splice(0)) timer.cancel();
    const tasks = [...this.#running.values()].map(({ task }) => task);
    for (const task of tasks) task.isRunning = false;
    this.#running.clear();
    this.#state = "down";
    this.#link = undefined;
    const livedMs = nowMs - this.#startedAtMs;
    owner.died(this, {
      reason: this.#fault ?? reason,
      tasks,
      culprit: this.#culprit,
      how: this.#fault === undefined ? how : "failed",
      hadAnswered: this.#hasAnswered,
      startedAtMs: this.#startedAtMs,
      livedMs,
      quietMs: this.#firstGivenAtMs === undefined ? livedMs : this.#firstGivenAtMs - this.#startedAtMs,
    });
    for (const done of this.#onEnded.splice(0)) done();
  }
}
