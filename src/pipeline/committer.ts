import type { GroupCommit } from "../checkpoint/group-commit.ts";
import { toError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import { untilWoken } from "../runtime/until-woken.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Prepared, SinkRunner } from "./sink-runner.ts";

export interface CommitterOptions {
  readonly groupCommit: GroupCommit;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly intervalMs: number;
  /** Ended bytes at which a commit does not wait for the interval. */
  readonly commitBytes: number;
  readonly maxUncommittedBytes: number;
  readonly maxUncommittedMs: number;
  /** A sink failed for good in its barrier. */
  readonly onFailure: (error: Error, component: string) => void;
}

/** Commits of a sink that comes to rest again and again are to take no more than a tenth of the time ... */
const PAUSE_FOR_EACH_MS = 10;
/** ... but leave at least, and at most, so many milliseconds between their beginnings. */
const MIN_PAUSE_MS = 10;
const MAX_PAUSE_MS = 100;

/**
 * Moves what has ended into the store: a barrier at every sink that has something new, then its changes into the next
 * transaction. Each sink has at most one barrier under way, so a slow fdatasync holds back its own sink only. When:
 *
 *     a sink with marks       an interval after something ended: a kill repeats nothing of it, and each costs an fdatasync
 *     any other, under load   an interval after its last one began, so that an ending waits no longer than that
 *     at rest                 at once, but for a pause after the last one: a kill would repeat what ended since
 *     any                     once `commitBytes` have ended
 *
 * Idle means no commits.
 */
export class Committer {
  readonly #options: CommitterOptions;
  readonly #runners = new Set<SinkRunner>();
  readonly #cycles = new Map<SinkRunner, Promise<void>>();
  /** Barriers whose commit has failed and that `finish` has to save. */
  readonly #unsaved: Prepared[] = [];
  /** When the barrier of a sink last began (monotonic), and how long it and its commit took. */
  readonly #last = new Map<SinkRunner, { readonly atMs: number; readonly tookMs: number }>();
  /** Since when (monotonic) a sink with marks has had something to commit. */
  readonly #waitingSince = new Map<SinkRunner, number>();
  /** Something ended, which is looked at in the next turn. */
  #isToLook = false;
  #later: { readonly atMs: number; readonly timer: { cancel(): void } } | undefined;
  #isStopped = false;
  #uncommittedBytes = 0;
  #dirtySinceMs: number | undefined;
  #gateWaiters: (() => void)[] = [];
  /** Commits that the store has not answered, and since when (monotonic) it has answered none of them. */
  #unanswered = 0;
  #unansweredSinceMs = 0;
  /** Monotonic time of the last successful commit. */
  lastCommitAtMs: number | undefined;
  /** Why commits fail, while they do. */
  trouble: string | undefined;

  constructor(options: CommitterOptions) {
    this.#options = options;
  }

  add(runner: SinkRunner): void {
    this.#runners.add(runner);
  }

  /** The sink is gone, with everything committed that it will ever have. */
  remove(runner: SinkRunner): void {
    this.#runners.delete(runner);
    this.#last.delete(runner);
    this.#waitingSince.delete(runner);
  }

  /** Commits until the sink has nothing left to commit, or `signal` aborts. */
  async settle(runner: SinkRunner, signal: AbortSignal): Promise<void> {
    while (runner.isDirty && !runner.hasFailed && !signal.aborted && !this.#isStopped)
      await this.commitNow(runner, signal);
  }

  get uncommittedBytes(): number {
    return this.#uncommittedBytes;
  }

  /** Monotonic time since which something has ended that is not committed. */
  get dirtySinceMs(): number | undefined {
    return this.#dirtySinceMs;
  }

  /** Something ended. */
  readonly onDirty = (): void => {
    this.#dirtySinceMs ??= this.#options.clock.monotonic();
    if (this.#isToLook || this.#isStopped) return;
    this.#isToLook = true;
    // What ends in one turn is committed together; and only behind it a sink knows that it is at rest.
    this.#options.clock.after(0, () => {
      this.#isToLook = false;
      this.#startDue();
    });
  };

  #startDue(): void {
    if (this.#isStopped) return;
    const nowMs = this.#options.clock.monotonic();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const runner of this.#runners) {
      if (!runner.isDirty || this.#cycles.has(runner)) continue;
      const dueMs = this.#dueMs(runner, nowMs);
      if (dueMs <= nowMs) void this.#startCycle(runner);
      else nextMs = Math.min(nextMs, dueMs);
    }
    if (nextMs === Number.POSITIVE_INFINITY || (this.#later !== undefined && this.#later.atMs <= nextMs)) return;
    this.#later?.timer.cancel();
    const timer = this.#options.clock.after(nextMs - nowMs, () => {
      this.#later = undefined;
      this.#startDue();
    });
    this.#later = { atMs: nextMs, timer };
  }

  #dueMs(runner: SinkRunner, nowMs: number): number {
    const { intervalMs } = this.#options;
    if (runner.keepsMarks) {
      const sinceMs = this.#waitingSince.get(runner) ?? nowMs;
      this.#waitingSince.set(runner, sinceMs);
      return sinceMs + intervalMs;
    }
    const last = this.#last.get(runner);
    if (last === undefined) return nowMs;
    if (!runner.isIdle) return last.atMs + intervalMs;
    const pauseMs = Math.max(MIN_PAUSE_MS, Math.min(MAX_PAUSE_MS, last.tookMs * PAUSE_FOR_EACH_MS));
    return last.atMs + Math.min(intervalMs, pauseMs);
  }

  readonly onUncommitted = (bytes: number): void => {
    this.#uncommittedBytes += bytes;
    if (bytes > 0 && this.#uncommittedBytes >= this.#options.commitBytes) this.#startCycles();
  };

  /** Somebody waits for what sinks hold until their commit. */
  readonly hurry = (): void => this.#startCycles();

  /** A cycle for one sink, now; resolves when it is through, or `signal` aborts. */
  readonly commitNow = async (runner: SinkRunner, signal: AbortSignal): Promise<void> => {
    const cycle = this.#cycles.get(runner) ?? this.#startCycle(runner);
    await untilWoken(signal, (wake) => void cycle.then(wake));
  };

  /** Makes durable what has ended until now, at every sink. */
  async flush(signal: AbortSignal): Promise<void> {
    await Promise.all(
      [...this.#runners].map(async (runner) => {
        // The one under way may have taken its snapshot before.
        await this.#cycles.get(runner);
        if (runner.isDirty && !this.#isStopped) await this.commitNow(runner, signal);
      }),
    );
  }

  /** False while too much is ended but not committed; sources wait then. */
  get hasRoom(): boolean {
    if (this.#uncommittedBytes >= this.#options.maxUncommittedBytes) return false;
    const { clock, maxUncommittedMs } = this.#options;
    const nowMs = clock.monotonic();
    // A disk that hangs says nothing at all.
    if (this.#unanswered > 0 && nowMs - this.#unansweredSinceMs >= maxUncommittedMs) return false;
    if (this.trouble === undefined || this.#dirtySinceMs === undefined) return true;
    return nowMs - this.#dirtySinceMs < maxUncommittedMs;
  }

  /** Resolves once there is room, or `signal` aborts. */
  async room(signal: AbortSignal): Promise<void> {
    while (!this.hasRoom && !signal.aborted) {
      await untilWoken(signal, (wake) => this.#gateWaiters.push(wake));
    }
  }

  /**
   * Commits until nothing is left to commit; for the end, when no sink writes any more. `onCommitFailed` may make room
   * for one more try of each commit; if that fails as well, it rejects, and what it did not save is read again.
   */
  async finish(onCommitFailed: (error: Error) => Promise<void>): Promise<void> {
    const { groupCommit } = this.#options;
    this.#isStopped = true;
    await Promise.all(this.#cycles.values());
    for (;;) {
      // What was prepared comes first: a sink must not go into a second barrier before the first is committed.
      for (let prepared = this.#unsaved[0]; prepared !== undefined; prepared = this.#unsaved[0]) {
        const { changes } = prepared;
        await groupCommit.submit(changes).catch(async (error: unknown) => {
          await onCommitFailed(toError(error));
          await groupCommit.submit(changes);
        });
        this.#unsaved.shift();
        await prepared.done();
      }
      const dirty = [...this.#runners].filter((runner) => runner.isDirty && !runner.hasFailed);
      if (dirty.length === 0) break;
      for (const runner of dirty) {
        const prepared = await runner.barrier();
        if (prepared !== undefined) this.#unsaved.push(prepared);
      }
    }
    // With nothing of a sink left, what the sources noted lazily goes last.
    await groupCommit.submit([]);
  }

  /** No more tries: what is not committed now is read again at the next start. */
  stop(): void {
    this.#isStopped = true;
    this.#later?.timer.cancel();
    this.#wakeGate();
  }

  #startCycles(): void {
    // One barrier at a time: at the end they are made by `finish`.
    if (this.#isStopped) return;
    for (const runner of this.#runners) {
      if (runner.isDirty && !this.#cycles.has(runner)) void this.#startCycle(runner);
    }
  }

  #startCycle(runner: SinkRunner): Promise<void> {
    const atMs = this.#options.clock.monotonic();
    this.#last.set(runner, { atMs, tookMs: 0 });
    this.#waitingSince.delete(runner);
    const cycle = this.#cycle(runner)
      .catch((error: unknown) => this.#options.onFailure(toError(error), runner.name))
      .finally(() => {
        this.#cycles.delete(runner);
        if (this.#runners.has(runner)) this.#last.set(runner, { atMs, tookMs: this.#options.clock.monotonic() - atMs });
        if (runner.isDirty) this.onDirty();
      });
    this.#cycles.set(runner, cycle);
    return cycle;
  }

  async #cycle(runner: SinkRunner): Promise<void> {
    const { groupCommit, clock, random, events } = this.#options;
    const startedAtMs = clock.monotonic();
    const prepared = await runner.barrier();
    if (prepared === undefined) return;
    const backoff = new Backoff({ initialMs: 100, maxMs: 5000 }, random);
    for (;;) {
      try {
        await this.#answered(groupCommit.submit(prepared.changes));
        break;
      } catch (error) {
        // Nothing in memory has moved: the same changes are committed again. Sources stop at max_uncommitted_*.
        const { message } = toError(error);
        if (this.trouble === undefined)
          events.emit("commit_failed", `the checkpoint cannot be written, trying on: ${message}`, { error: message });
        this.trouble = message;
        await clock.sleep(backoff.next());
        if (this.#isStopped) {
          // `finish` goes on with it.
          this.#unsaved.push(prepared);
          return;
        }
      }
    }
    await prepared.done();
    this.trouble = undefined;
    this.lastCommitAtMs = clock.monotonic();
    this.#dirtySinceMs = [...this.#runners].some((other) => other.isDirty) ? startedAtMs : undefined;
    this.#wakeGate();
  }

  async #answered(commit: Promise<void>): Promise<void> {
    if (this.#unanswered === 0) this.#unansweredSinceMs = this.#options.clock.monotonic();
    this.#unanswered += 1;
    try {
      await commit;
    } finally {
      this.#unanswered -= 1;
      this.#unansweredSinceMs = this.#options.clock.monotonic();
    }
  }

  #wakeGate(): void {
    for (const wake of this.#gateWaiters.splice(0)) wake();
  }
}
