import type { Receiver, Sender } from "../channel/index.ts";
import { ChannelClosedError, ChannelFullError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import type { Clock, Timer } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import type { StageChannels } from "../stage/index.ts";
import type { Logger } from "../telemetry/log.ts";

/** Something that waits until it may run; told of on `task_readiness/event_channel`. */
export interface WaitingTask {
  /** It is due: called by the one who reads the channel, one task after the other, each awaited. */
  ready(): void | Promise<void>;
}

/** Overdue tasks are looked for this often. */
const SCAN_MS = 1000;

export interface TaskReadinessOptions {
  readonly channels: StageChannels;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/**
 * Tasks that become due: after a delay (a retry, the end of a visibility timeout), or when what they depend on has
 * finished. There is one for all stages of a process.
 *
 * ```
 * after(ms) ------timer------.
 * afterFinish(key) --finish--+--> due --announce--> event_channel --> ready()
 *                                  ^      |full for send_timeout_ms: again after the backoff, max_retries times
 *                     next scan    |      v
 *                                 overdue (counted)
 * ```
 *
 * A due task is never given up: when the retries of its announcement are spent it stays due, is counted, and the next scan
 * finds it. Announcements are made one after the other, so that one at most waits before the channel.
 */
export class TaskReadiness {
  /** Announcements whose retries were spent; the task stayed due. */
  spent = 0;
  /** Announcements made. */
  announced = 0;
  readonly #options: TaskReadinessOptions;
  readonly #sender: Sender<WaitingTask>;
  readonly #receiver: Receiver<WaitingTask>;
  readonly #sendTimeoutMs: number;
  /** Waiting for their time, by their timers. */
  readonly #delayed = new Map<WaitingTask, Timer>();
  readonly #dependent = new Map<WaitingTask, object>();
  /** In order; announced from the front. */
  readonly #due = new Set<WaitingTask>();
  /** Due, with their retries spent, until the next scan. */
  readonly #overdue = new Set<WaitingTask>();
  readonly #stop = new AbortController();
  #isAnnouncing = false;
  #announcing: Promise<void> | undefined;
  #scan: Timer | undefined;
  readonly #reading: Promise<void>;

  private constructor(options: TaskReadinessOptions) {
    this.#options = options;
    const { sender, receiver, size } = options.channels.create<WaitingTask>("task_readiness.event_channel", {
      why: "tasks that became due, on their way to who runs them",
      // What a policy drops stays due: the next scan finds it.
      onDrop: (task, reason) => {
        if (reason === "policy") this.#setOverdue(task);
      },
    });
    this.#sender = sender;
    this.#receiver = receiver;
    this.#sendTimeoutMs = size.sendTimeoutMs;
    this.#reading = this.#read();
  }

  static readonly #shared = new WeakMap<StageChannels, { readonly readiness: TaskReadiness; users: number }>();

  /** The one of this process, made for its first user. Each user closes it once, by `release`. */
  static shared(options: TaskReadinessOptions): TaskReadiness {
    let entry = TaskReadiness.#shared.get(options.channels);
    if (entry === undefined) {
      entry = { readiness: new TaskReadiness(options), users: 0 };
      TaskReadiness.#shared.set(options.channels, entry);
    }
    entry.users += 1;
    return entry.readiness;
  }

  /** A user less; with the last one everything that waits is forgotten and the channel closed. */
  async release(): Promise<void> {
    const { channels } = this.#options;
    const entry = TaskReadiness.#shared.get(channels)!;
    entry.users -= 1;
    if (entry.users > 0) return;
    TaskReadiness.#shared.delete(channels);
    this.#stop.abort();
    for (const timer of this.#delayed.values()) timer.cancel();
    this.#scan?.cancel();
    for (const tasks of [this.#delayed, this.#dependent, this.#due, this.#overdue]) tasks.clear();
    // At once, so that the next user can make the channel again.
    this.#sender.close();
    this.#receiver.close();
    await Promise.all([this.#announcing, this.#reading]);
  }

  /** Tasks that wait, are due, or are overdue. */
  get waiting(): {
    readonly delayed: number;
    readonly dependent: number;
    readonly due: number;
    readonly overdue: number;
  } {
    return {
      delayed: this.#delayed.size,
      dependent: this.#dependent.size,
      due: this.#due.size,
      overdue: this.#overdue.size,
    };
  }

  /** The task becomes due in `delayMs`. */
  after(task: WaitingTask, delayMs: number): void {
    this.forget(task);
    const timer = this.#options.clock.after(delayMs, () => {
      this.#delayed.delete(task);
      this.#setDue(task);
    });
    this.#delayed.set(task, timer);
  }

  /** The task becomes due with `finish(dependency)`. */
  afterFinish(task: WaitingTask, dependency: object): void {
    this.forget(task);
    this.#dependent.set(task, dependency);
  }

  /** Makes everything due that depends on `dependency`. */
  finish(dependency: object): void {
    for (const [task, other] of this.#dependent) {
      if (other !== dependency) continue;
      this.#dependent.delete(task);
      this.#setDue(task);
    }
  }

  /** The task is not wanted any more; one that is announced already still gets its `ready`. */
  forget(task: WaitingTask): void {
    this.#delayed.get(task)?.cancel();
    this.#delayed.delete(task);
    this.#dependent.delete(task);
    this.#due.delete(task);
    this.#overdue.delete(task);
  }

  #setDue(task: WaitingTask): void {
    if (this.#stop.signal.aborted) return;
    // The common case: nobody is in front, and there is room.
    if (!this.#isAnnouncing && this.#sender.trySend(task) === "sent") {
      this.announced += 1;
      return;
    }
    this.#due.add(task);
    if (this.#isAnnouncing) return;
    this.#isAnnouncing = true;
    this.#announcing = this.#announceAll();
  }

  async #announceAll(): Promise<void> {
    // What becomes due meanwhile joins at the end.
    for (const task of this.#due) {
      const isAnnounced = await this.#announce(task);
      if (this.#stop.signal.aborted) break;
      // Forgotten meanwhile: nobody waits for it.
      if (!this.#due.delete(task) || isAnnounced) continue;
      this.spent += 1;
      this.#setOverdue(task);
    }
    this.#isAnnouncing = false;
  }

  async #announce(task: WaitingTask): Promise<boolean> {
    const { clock, random, channels } = this.#options;
    const { maxRetries, backoff: backoffOptions } = channels.taskReadiness;
    const { signal } = this.#stop;
    const backoff = new Backoff(backoffOptions, random);
    for (;;) {
      try {
        await this.#sender.send(task, { signal, timeoutMs: this.#sendTimeoutMs });
        this.announced += 1;
        return true;
      } catch (error) {
        if (signal.aborted || error instanceof ChannelClosedError) return false;
        if (!(error instanceof ChannelFullError)) throw error;
      }
      if (backoff.attempts >= maxRetries) return false;
      await clock.sleep(backoff.next(), { signal });
      if (signal.aborted || !this.#due.has(task)) return false;
    }
  }

  #setOverdue(task: WaitingTask): void {
    if (this.#stop.signal.aborted) return;
    this.#overdue.add(task);
    this.#scan ??= this.#options.clock.after(SCAN_MS, () => {
      this.#scan = undefined;
      const found = [...this.#overdue];
      this.#overdue.clear();
      this.#options.log.warn(
        { component: "task_readiness", channel: "event_channel", overdue: found.length, spent: this.spent },
        `${found.length} tasks are due and could not be announced for want of room; they are announced again`,
      );
      for (const task of found) this.#setDue(task);
    });
  }

  async #read(): Promise<void> {
    const { signal } = this.#stop;
    for (;;) {
      const task = await this.#receiver.recv({ signal });
      if (task === undefined) return;
      await task.ready();
    }
  }
}
