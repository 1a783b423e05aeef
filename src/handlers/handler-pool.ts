import { Backoff, type BackoffOptions } from "../runtime/backoff.ts";
import type { Clock, Timer } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Dispatch } from "./dispatch.ts";
import type { HandlerEvent } from "./lifecycle.ts";
import { Pace } from "./pace.ts";
import type { Answer, Task } from "./task.ts";
import type { StartWorker } from "./worker-link.ts";
import { type Death, type SlotOwner, WorkerSlot } from "./worker-slot.ts";

/** Between two starts of a worker that dies again and again. */
const RESTART: BackoffOptions = { initialMs: 100, maxMs: 30_000, jitter: 0.5 };
/**
 * How long a worker must live without a message before one that died early is blamed on its message: so many times that
 * life, as where others want the processors too the same start takes now so long and now thrice as long, and no less than
 * a slow start takes.
 */
const QUIET_LIVES = 4;
const SHORTEST_QUIET_MS = 1000;
const LONGEST_QUIET_MS = 30_000;
/** A program that ends by itself before this, without a message, is taken for one that cannot start. */
const LONGEST_LOADING_MS = 60_000;

export interface HandlerPoolOptions {
  /** The sink's name. */
  readonly name: string;
  readonly start: StartWorker;
  readonly maxInFlight: number;
  readonly timeoutMs: number;
  readonly maxAttempts: number;
  /** Between two attempts of one message. */
  readonly backoff: BackoffOptions;
  readonly graceMs: number;
  readonly dispatch: Dispatch;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly events: EventSink;
  /** Looked at, and all is well: called at each health check. */
  readonly onAlive: () => void;
  /** No worker can be started; undefined: it can again. */
  readonly onTrouble: (reason: string | undefined) => void;
}

/**
 * The workers of one handler, and what becomes of the messages that they hold.
 *
 * **Whose fault is a death?** A worker that dies with one message is blamed on the message, once it is known that the
 * worker starts at all. It is known when it has answered before, or has lived for a while without a message. Until then:
 *
 * ```
 * dies early, with a message     the message is accused and held; one of the next workers gets none for four times that life
 *   that one lives, or          the program starts: the accusation counts as an attempt
 *   another one answers
 *   that one dies as well       the program does not start: the message is cleared, and waits until a worker lives; until
 *                               then no message is accused
 * ```
 *
 * So a program that cannot start costs no message an attempt, and a message that kills each worker is found out. A worker
 * that dies with several messages says nothing about any of them: each is tried alone before a death counts.
 */
export class HandlerPool implements SlotOwner {
  readonly name: string;
  readonly #options: HandlerPoolOptions;
  #slots: WorkerSlot[] = [];
  readonly #restarts = new Map<WorkerSlot, { readonly backoff: Backoff; timer: Timer | undefined }>();
  /** Taken out of the dispatch channel before their turn, so that they are in nobody's way. */
  readonly #parked: Task[] = [];
  /** To be tried with a worker that holds nothing else. */
  readonly #alone: Task[] = [];
  /** Accused, until it is known whether the program starts. */
  readonly #held = new Set<Task>();
  /** Of `#parked`, `#alone` and the dispatch channel. */
  waiting = 0;
  /** Since when (monotonic) it is in doubt whether the program starts; undefined: it is not. */
  #doubtSinceMs: number | undefined;
  #quietMs = 0;
  #trouble: string | undefined;
  readonly #stop = new AbortController();
  readonly #pace: Pace;
  repeatedAnswers = 0;
  restarts = 0;

  /** Resolves when a worker is up for the first time, or none can be started. */
  readonly firstNews: Promise<void>;
  #tellFirstNews: () => void = () => {};

  constructor(options: HandlerPoolOptions) {
    this.firstNews = new Promise((resolve) => {
      this.#tellFirstNews = resolve;
    });
    this.name = options.name;
    this.#options = options;
    this.#pace = new Pace(options.clock);
  }

  get #isClosed(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Why no worker can be started, while that is so. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** A worker could take a message, and none is parked for it. */
  get isHungry(): boolean {
    return this.#parked.length === 0 && this.#slots.some((slot) => slot.hasRoom);
  }

  /** After so many milliseconds half of what waits is probably done. */
  get suggestedWaitMs(): number {
    return this.#pace.timeFor(Math.ceil(this.waiting / 2));
  }

  // ------------------------------------------------------------ commands, by the command processor only

  /** Has so many workers from now on; those that are too many finish what they hold. */
  scale(workers: number): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    const { start, maxInFlight, timeoutMs, graceMs, clock } = this.#options;
    while (this.#slots.length < workers) {
      const number = this.#slots.length + 1;
      const slot = new WorkerSlot({ number, start, maxInFlight, timeoutMs, graceMs, clock, owner: this });
      this.#slots.push(slot);
      this.#startWorker(slot);
    }
    const tooMany = this.#slots.splice(workers);
    return this.#stopAll(tooMany);
  }

  /** Ends all workers; nothing is taken any more. */
  stop(): Promise<void> {
    this.#stop.abort();
    return this.#stopAll(this.#slots.splice(0));
  }

  /** Ends what hangs, and says that the rest is alive. */
  check(): void {
    for (const slot of this.#slots) slot.check();
    // One that has had nothing to do for long enough shows as much as one that was kept from it.
    for (const slot of this.#slots)
      if (this.#doubtSinceMs !== undefined && slot.idleMs >= this.#quietMs) this.proven(slot);
    this.#pace.look();
    if (this.#trouble === undefined) this.#options.onAlive();
  }

  async #stopAll(slots: readonly WorkerSlot[]): Promise<void> {
    await Promise.all(
      slots.map(async (slot) => {
        this.#restarts.get(slot)?.timer?.cancel();
        this.#restarts.delete(slot);
        const wasDown = slot.isDown;
        await slot.stop();
        if (!wasDown) this.#tell({ event: "worker_stopped", worker: slot.number });
      }),
    );
  }

  // ------------------------------------------------------------ messages

  /** Takes a message from the dispatch channel. */
  place(task: Task): void {
    if (task.isSuspect) this.#alone.push(task);
    else this.#parked.push(task);
    this.#fill();
  }

  /** Nobody waits for it any more. A worker that has it goes on, and its answer is let go. */
  cancel(task: Task): void {
    task.isOver = true;
    this.#options.dispatch.readiness.forget(task);
  }

  /** It found no room where it could not be refused: tried again a moment later. */
  displaced(task: Task): void {
    this.waiting -= 1;
    this.#after(task, this.suggestedWaitMs);
  }

  #fill(): void {
    if (this.#isClosed) return;
    this.#give(this.#alone);
    this.#give(this.#parked);
  }

  #give(tasks: Task[]): void {
    // While somebody waits to be alone one worker gets nothing else, or none would ever be empty.
    const reserved = this.#alone.length > 0 ? this.#slots.find((each) => each.isUp) : undefined;
    while (tasks.length > 0) {
      const task = tasks[0]!;
      const slot = this.#slots.find((each) => each.canTake(task) && each !== (task.isSuspect ? undefined : reserved));
      if (slot === undefined && !task.isOver) return;
      tasks.shift();
      this.waiting -= 1;
      if (!task.isOver) slot!.give(task);
    }
  }

  #after(task: Task, delayMs: number): void {
    task.onReady = () => this.#redeliver(task);
    this.#options.dispatch.readiness.after(task, delayMs);
  }

  /** A message that was claimed before: it waits for room, and never for the threshold of new ones. */
  async #redeliver(task: Task): Promise<void> {
    const { dispatch, clock } = this.#options;
    while (!task.isOver && !this.#isClosed) {
      const refused = dispatch.offerAgain(this, task);
      if (refused === undefined) return;
      await clock.sleep(refused.suggestedWaitMs, { signal: this.#stop.signal });
    }
  }

  #done(task: Task, events: number): void {
    if (task.isOver) return;
    task.isOver = true;
    this.#tell({ event: "task_done", id: task.id, attempt: task.attempt });
    task.owner.done(task, events);
  }

  #failed(task: Task, reason: string, mayRetry: boolean): void {
    if (task.isOver) return;
    const { maxAttempts, backoff, random } = this.#options;
    const { id, attempt } = task;
    if (!mayRetry || attempt >= maxAttempts) {
      task.isOver = true;
      const given = mayRetry ? ` (given up after attempt ${attempt})` : "";
      this.#tell({ event: "task_refused", id, attempt, reason });
      task.owner.refused(task, `${reason}${given}`);
      return;
    }
    this.#tell({ event: "task_failed", id, attempt, reason });
    task.failures += 1;
    task.owner.failed(task);
    task.backoff ??= new Backoff(backoff, random);
    this.#after(task, task.backoff.next());
  }

  // ------------------------------------------------------------ what workers tell

  free(): void {
    this.#tellFirstNews();
    this.#fill();
    this.#options.dispatch.pump();
  }

  answered(slot: WorkerSlot, task: Task, answer: Answer): void {
    this.#restarts.get(slot)?.backoff.reset();
    this.#pace.count();
    // It was alone, and the worker lives.
    task.isSuspect = false;
    if (answer.ok) this.#done(task, answer.events);
    else this.#failed(task, answer.error, answer.retry);
  }

  repeated(slot: WorkerSlot): void {
    this.repeatedAnswers += 1;
    if (this.repeatedAnswers === 1)
      this.#options.log.warn({ worker: slot.number }, "a worker answered a message twice; the first answer counts");
  }

  proven(slot: WorkerSlot): void {
    if (this.#doubtSinceMs === undefined || slot.startedAtMs < this.#doubtSinceMs) return;
    this.#doubtSinceMs = undefined;
    this.#quietMs = 0;
    this.#setTrouble(undefined);
    this.#options.dispatch.readiness.finish(this);
  }

  died(slot: WorkerSlot, death: Death): void {
    const { events, clock } = this.#options;
    const isWanted = this.#slots.includes(slot);
    if (isWanted) {
      this.restarts += 1;
      this.#tell({ event: "worker_died", worker: slot.number, reason: death.reason });
    }
    const isIdleExit = death.tasks.length === 0;
    const isProven = death.hadAnswered || (isIdleExit ? hasStarted(death) : hasLivedQuietly(death));
    if (!isWanted) for (const task of death.tasks) this.#after(task, 0);
    else if (death.culprit !== undefined) this.#judge(death);
    else if (isProven) this.#judge(death);
    else {
      // Died before it showed that it starts.
      this.#doubtSinceMs ??= clock.monotonic();
      this.#quietMs = Math.min(
        LONGEST_QUIET_MS,
        Math.max(SHORTEST_QUIET_MS, this.#quietMs, QUIET_LIVES * death.livedMs),
      );
      for (const task of death.tasks) this.#accuse(task, death.reason);
      if (isIdleExit) this.#cannotStart(slot, death.reason);
    }
    if (!isWanted || this.#isClosed) return;
    const delayMs = this.#restartDelay(slot, death);
    // A worker may end by itself between two messages; one that cannot start was told of.
    if (!isIdleExit || (isProven && death.how !== "finished"))
      events.emit("handler_worker_died", `worker ${slot.number} is started again: ${death.reason}`, {
        worker: slot.number,
        reason: death.reason,
      });
    this.#startLater(slot, delayMs);
  }

  #judge({ tasks, culprit, reason }: Death): void {
    for (const task of tasks) {
      if (task === culprit || (culprit === undefined && tasks.length === 1)) {
        task.isSuspect = true;
        this.#failed(task, `its worker was ended: ${reason}`, true);
        continue;
      }
      // One of several: innocent until it was alone.
      if (culprit === undefined) task.isSuspect = true;
      this.#after(task, 0);
    }
  }

  #accuse(task: Task, reason: string): void {
    if (task.isOver) return;
    task.isSuspect = true;
    // While it is known that no worker can be started, a death with a message says nothing about the message.
    task.accusation = this.#trouble === undefined ? reason : undefined;
    task.onReady = () => {
      const { accusation } = task;
      task.accusation = undefined;
      this.#held.delete(task);
      if (accusation === undefined) return this.#redeliver(task);
      this.#failed(task, `its worker was ended: ${accusation}`, true);
    };
    this.#held.add(task);
    this.#options.dispatch.readiness.afterFinish(task, this);
  }

  /** A worker that had no message died as well: it is not the messages' fault. */
  #cannotStart(slot: WorkerSlot, reason: string): void {
    for (const task of this.#held) task.accusation = undefined;
    this.#held.clear();
    if (this.#slots.some((other) => other.isUp && other.hasAnswered)) {
      // What was started in better times goes on.
      this.#options.dispatch.readiness.finish(this);
      return;
    }
    const isFirst = this.#trouble === undefined;
    this.#setTrouble(`its workers cannot be started: ${reason}`);
    if (isFirst)
      this.#options.events.emit(
        "handler_failing",
        `the workers of ${this.name} die as they start, and are started again and again, later each time: ${reason}`,
        { reason },
      );
    else this.#options.log.debug({ worker: slot.number, reason }, "a worker died again as it started");
  }

  #setTrouble(reason: string | undefined): void {
    if (this.#trouble === reason) return;
    if (reason === undefined)
      this.#options.events.emit("handler_recovered", `the workers of ${this.name} start again`, {});
    this.#trouble = reason;
    this.#tellFirstNews();
    this.#options.onTrouble(reason);
  }

  /** None after a life in which it answered; else longer each time. */
  #restartDelay(slot: WorkerSlot, death: Death): number {
    let restart = this.#restarts.get(slot);
    if (restart === undefined) {
      restart = { backoff: new Backoff(RESTART, this.#options.random), timer: undefined };
      this.#restarts.set(slot, restart);
    }
    return death.hadAnswered ? 0 : restart.backoff.next();
  }

  #startLater(slot: WorkerSlot, delayMs: number): void {
    if (delayMs === 0) this.#startWorker(slot);
    else this.#restarts.get(slot)!.timer = this.#options.clock.after(delayMs, () => this.#startWorker(slot));
  }

  #startWorker(slot: WorkerSlot): void {
    if (this.#isClosed || !this.#slots.includes(slot)) return;
    // One finds out whether the program starts; the others need not wait for that.
    slot.start(this.#slots.some((other) => other.isOnProbation) ? 0 : this.#quietMs);
    this.#tell({ event: "worker_started", worker: slot.number });
  }

  #tell(event: WithoutHandler<HandlerEvent>): void {
    const { events } = this.#options.dispatch;
    if (events.receivers > 0) events.send({ handler: this.name, ...event } as HandlerEvent);
  }
}

/** It lived on for a while without a message, longer than it then had one: dying early is not its way. */
function hasLivedQuietly({ livedMs, quietMs }: Death): boolean {
  return quietMs >= Math.max(SHORTEST_QUIET_MS, QUIET_LIVES * (livedMs - quietMs));
}

/** It ended without ever having had a message, and that was probably not because it cannot start. */
function hasStarted({ livedMs, how }: Death): boolean {
  return livedMs >= LONGEST_LOADING_MS || (how === "signalled" && livedMs >= SHORTEST_QUIET_MS);
}

type WithoutHandler<Event> = Event extends unknown ? Omit<Event, "handler"> : never;
