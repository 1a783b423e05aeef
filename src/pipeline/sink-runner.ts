import type { Receiver } from "../channel/index.ts";
import type { Change } from "../checkpoint/checkpoint-store.ts";
import type { RetryPlan } from "../config/plan.ts";
import { StageError, toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Ending } from "../record/ending.ts";
import { Backoff } from "../runtime/backoff.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import {
  type Marks,
  type Outcome,
  REPLACED,
  type Rejection,
  type Sink,
  type WriteProgress,
} from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import { BatchEnds } from "./batch-ends.ts";
import type { DeadLetterBox } from "./dead-letter-box.ts";
import { isCovered, type Lane } from "./lane.ts";
import type { Routed } from "./route.ts";
import type { Tap } from "./tap.ts";
import { Hold, type Written, WrittenBatches } from "./written-batches.ts";

/** How often it is looked whether anything is left for a target that was never there. */
const LOOK_MS = 100;

/**
 * Drives one sink: takes batches from its input, skips what the sink has already, writes, retries, bisects, settles, and
 * makes barriers.
 *
 * ```
 * receive -> covered? -> write --delivered--> settle ------> barrier: snapshot sets | prepare() -> commit -> committed()
 *              |skip       ^  |--retry----> wait (backoff) ---'
 *                          |  `--rejected-> halves, left first ... single record -> dead letter -> settle
 *                          `--- rewind: prepare() failed, the batches since the last commit are written again first
 * ```
 *
 * A sink may say of single records that they have ended while its write goes on (`WriteProgress`): those settle at once, and
 * the outcome of the write is about the rest.
 *
 * A sink with `prepare` keeps its batches (and their memory) until the commit that covers them: if the barrier fails,
 * they are all there is to write again. For the others an answer is the acknowledgement.
 */
export interface SinkRunnerOptions {
  readonly name: string;
  readonly sink: Sink;
  readonly input: Receiver<Routed>;
  readonly concurrency: number;
  /** `none`: several batches of one origin may be in `write` at once. Default `file`. */
  readonly order?: "file" | "none";
  readonly retry: RetryPlan;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly deadLetters: DeadLetterBox;
  /** A barrier and its commit at once, for a sink that cannot go on before; resolves behind them, or on abort. */
  readonly commitNow: (runner: SinkRunner, signal: AbortSignal) => Promise<void>;
  /** Ended bytes that wait for a commit: grew by `bytes` (negative: committed). */
  readonly onUncommitted: (bytes: number) => void;
}

export interface Prepared {
  readonly changes: readonly Change[];
  /** To be called once the changes are durable. */
  done(): Promise<void>;
}

export class SinkRunner {
  readonly name: string;
  /** Every way into this sink. */
  lanes: readonly Lane[] = [];
  readonly #options: SinkRunnerOptions;
  readonly #keepsMarks: boolean;
  #sink: Sink;
  #retry: RetryPlan;
  /** Set while another sink takes the place: nothing is written until it has. */
  #replacing: Promise<void> | undefined;
  /** Aborts the writes into the present sink, and only those. */
  #writing = new AbortController();
  readonly #written: WrittenBatches;
  /** Writes whose outcome is not settled yet. */
  #writes = 0;
  /** A barrier that waits for the instant between two writes. */
  #pendingBarrier: (() => void) | undefined;
  #rewriting: Promise<void> | undefined;
  readonly #busyOrigins = new Set<string>();
  #wakers: (() => void)[] = [];
  #inFlight = 0;
  #failure: Error | undefined;
  /** The target did not answer at the start. */
  #isUnrecovered = false;
  readonly #abort = new AbortController();
  /** `run` is through: nothing is written any more. */
  hasEnded = false;
  /** Why the sink does not take anything, while it does not. */
  trouble: string | undefined;
  acknowledgedRecords = 0;
  errors = 0;
  deadLetters = 0;
  tap: Tap | undefined;
  /** Monotonic time of the last sign of life: a write that began with none under way, or one that came back. */
  progressAtMs: number;

  constructor(options: SinkRunnerOptions) {
    this.name = options.name;
    this.#options = options;
    this.#sink = options.sink;
    this.#retry = options.retry;
    this.#keepsMarks = options.sink.prepare !== undefined;
    this.#written = new WrittenBatches(options.onUncommitted);
    this.progressAtMs = options.clock.monotonic();
  }

  /** Batches taken from the input and not settled yet. */
  get unsettledBatches(): number {
    return this.#inFlight;
  }

  /** Nothing waits for it, and nothing that it took is unsettled. */
  get isIdle(): boolean {
    return this.#inFlight === 0 && this.#options.input.counters().messages === 0;
  }

  /** A write is under way. */
  get isWriting(): boolean {
    return this.#writes > 0;
  }

  /** Something ended that no commit covers, or is being written again. */
  get isDirty(): boolean {
    return this.#rewriting !== undefined || this.#written.isDirty || this.lanes.some((lane) => lane.isDirty);
  }

  /** Runs until the input has ended and everything taken from it has settled, or until `abandon`. */
  async run(): Promise<void> {
    try {
      if (this.#isUnrecovered) await this.#recoverWhileNeeded();
      await this.#receive();
    } finally {
      this.hasEnded = true;
    }
  }

  /** A target that was never there holds up the end only as long as something is for it. */
  async #recoverWhileNeeded(): Promise<void> {
    const { clock, input } = this.#options;
    const recovering = this.recover();
    let isOver = false;
    const over = recovering.finally(() => {
      isOver = true;
    });
    over.catch(() => {});
    while (!isOver && !input.closed) await Promise.race([over, clock.sleep(LOOK_MS)]).catch(() => {});
    if (input.closed && !isOver) this.#writing.abort();
    await recovering;
  }

  async #receive(): Promise<void> {
    const { input, concurrency } = this.#options;
    for (;;) {
      const routed = await input.recv({ signal: this.#abort.signal });
      if (routed === undefined) break;
      const { batch } = routed;
      const lane = routed.route.lanes[0]!;
      if (isCovered(lane, batch)) {
        batch.memory.release();
        continue;
      }
      await this.#slot(batch.origin.key, concurrency);
      if (this.#abort.signal.aborted) break;
      const delivery = this.#deliver(withoutCovered(batch, lane), lane);
      if (concurrency === 1) await delivery;
    }
    while (this.#inFlight > 0) await this.#woken();
    while (this.#rewriting !== undefined) await this.#rewriting;
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Stops at once: what has not settled stays unsettled and is read again at the next start. */
  abandon(): void {
    this.#abort.abort();
    this.#writing.abort();
    this.#wake();
    this.#options.input.close();
  }

  /** It failed for good: what it wrote since the last commit is left to the next start. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Calls the sink's own `rotate`. */
  rotate(): void {
    this.#sink.rotate?.();
  }

  /**
   * Puts another sink of the same type in the place of the present one, and goes on with every batch that has not settled.
   * What is under way is broken off; what is written and can be committed, is. `replace` closes the old sink and gives the
   * one that is open now: the new one, or the old one again with the error that says why not, with which this rejects.
   */
  async replaceSink(
    retry: RetryPlan,
    replace: (old: Sink) => Promise<{ readonly sink: Sink; readonly error?: Error }>,
  ): Promise<void> {
    const before = this.#replacing;
    const opened = (async () => {
      this.#writing.abort(REPLACED);
      await before;
      while (this.#writes > 0) await this.#options.clock.sleep(1);
      if (this.isDirty && this.#rewriting === undefined) await this.#options.commitNow(this, this.#abort.signal);
      const { sink, error } = await replace(this.#sink);
      this.#sink = sink;
      if (!this.#abort.signal.aborted) this.#writing = new AbortController();
      if (error !== undefined) throw error;
      this.#retry = retry;
    })();
    const ready = opened
      .catch(() => {})
      .then(() => this.recover())
      .catch((thrown: unknown) => this.#fail(thrown))
      .finally(() => {
        if (this.#replacing === ready) this.#replacing = undefined;
      });
    this.#replacing = ready;
    await opened;
  }

  #fail(thrown: unknown): void {
    this.#failure ??= toError(thrown);
    this.abandon();
  }

  async #slot(origin: string, concurrency: number): Promise<void> {
    // order = "file": at most one unsettled request per file, so that retry and bisection keep its order.
    const isOrdered = this.#options.order !== "none";
    while (
      !this.#abort.signal.aborted &&
      (this.#inFlight >= concurrency || (isOrdered && this.#busyOrigins.has(origin)))
    )
      await this.#woken();
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => this.#wakers.push(resolve));
  }

  #wake(): void {
    for (const wake of this.#wakers.splice(0)) wake();
  }

  async #deliver(batch: Batch, lane: Lane): Promise<void> {
    this.#inFlight += 1;
    this.#busyOrigins.add(batch.origin.key);
    const hold = this.#keepsMarks ? new Hold(batch) : undefined;
    try {
      if (batch.count === 0) this.#settle(batch, lane, "filtered");
      else await this.#deliverPart(batch, lane, hold);
    } catch (error) {
      this.#fail(error);
    } finally {
      if (hold === undefined) batch.memory.release();
      else hold.release();
      this.#inFlight -= 1;
      this.#busyOrigins.delete(batch.origin.key);
      this.#wake();
    }
  }

  async #deliverPart(batch: Batch, lane: Lane, hold: Hold | undefined): Promise<void> {
    const verdict = await this.#writeUntilDecided(batch, lane, hold);
    if (verdict === "settled" || verdict === "aborted") return;
    const { rest } = verdict;
    const halves = rest.halves();
    if (halves !== undefined) {
      await this.#deliverPart(halves[0], lane, hold);
      if (!this.#abort.signal.aborted) await this.#deliverPart(halves[1], lane, hold);
      return;
    }
    await this.#deadLetter({ record: rest.records[0]!, reason: verdict.rejected }, verdict.attempts, () => rest, lane);
  }

  /** `single` gives the part that the record is, to be settled once its dead letter is durable. False: abandoned before. */
  async #deadLetter(rejection: Rejection, attempts: number, single: () => Batch, lane: Lane): Promise<boolean> {
    if (!(await this.#options.deadLetters.put(this.name, [rejection], attempts, this.#abort.signal))) return false;
    this.deadLetters += 1;
    this.#settle(single(), lane, "dead_lettered");
    return true;
  }

  /** Writes until the sink has taken the batch (then it is settled), has refused it, or the runner is abandoned. */
  async #writeUntilDecided(
    whole: Batch,
    lane: Lane,
    hold: Hold | undefined,
  ): Promise<"settled" | "aborted" | { rejected: string; attempts: number; rest: Batch }> {
    const { clock, random, concurrency } = this.#options;
    const signal = this.#abort.signal;
    let batch = whole;
    let backoff: Backoff | undefined;
    for (let attempts = 1; ; attempts += 1) {
      while (this.#rewriting !== undefined || this.#replacing !== undefined) {
        await this.#replacing;
        await this.#rewriting;
      }
      while (concurrency > 1 && this.#pendingBarrier !== undefined) await this.#woken();
      if (signal.aborted) return "aborted";
      this.#writes += 1;
      const retry = this.#retry;
      const { outcome, rest } = await this.#writeInParts(batch, lane);
      if (rest !== undefined) batch = rest;
      if (outcome.kind === "delivered" || rest === undefined) {
        if (rest !== undefined) this.#settleDelivered(rest, lane, hold);
        this.#writeDone();
        this.#isUp();
        return "settled";
      }
      this.#writeDone();
      if (outcome.kind === "retry" && outcome.needsBarrier) {
        await this.#options.commitNow(this, signal);
        attempts -= 1;
        continue;
      }
      if (outcome.kind === "retry" && this.#replacing !== undefined) {
        // The write was broken off for its sake; whether it arrived nobody knows.
        await this.#replacing;
        if (isCovered(lane, batch)) {
          this.#settleFound(batch, lane);
          return "settled";
        }
        attempts -= 1;
        continue;
      }
      this.errors += 1;
      if (outcome.kind === "rejected") return { rejected: outcome.reason, attempts, rest: batch };
      if (signal.aborted) return "aborted";
      this.#isDown(outcome.reason);
      if (retry.maxAttempts > 0 && attempts >= retry.maxAttempts) {
        return { rejected: `${outcome.reason} (given up after ${attempts} attempts)`, attempts, rest: batch };
      }
      backoff ??= new Backoff({ initialMs: retry.initialMs, maxMs: retry.maxMs }, random);
      await clock.sleep(Math.max(outcome.afterMs ?? 0, backoff.next()), { signal: this.#writing.signal });
      if (outcome.isOutcomeUnknown) {
        await this.recover();
        if (isCovered(lane, batch)) {
          this.#settleFound(batch, lane);
          return "settled";
        }
      }
    }
  }

  /** `rest`: what did not end while the write went on; undefined where nothing is left. */
  async #writeInParts(batch: Batch, lane: Lane): Promise<{ outcome: Outcome; rest: Batch | undefined }> {
    if (this.#keepsMarks) return { outcome: await this.#write(batch, lane), rest: batch };
    let ends: BatchEnds | undefined;
    const openEnds = () => {
      ends ??= new BatchEnds(batch);
      return ends;
    };
    const refusals = new Set<Promise<boolean>>();
    const isAlive = () => {
      this.progressAtMs = this.#options.clock.monotonic();
    };
    const outcome = await this.#write(batch, lane, {
      delivered: (record) => {
        isAlive();
        this.#settleDelivered(openEnds().end(record), lane, undefined);
        this.#isUp();
      },
      rejected: (record, reason, attempts) => {
        this.errors += 1;
        const refusal = this.#deadLetter({ record, reason }, attempts, () => openEnds().end(record), lane);
        refusals.add(refusal);
        return refusal;
      },
      failed: () => {
        isAlive();
        this.errors += 1;
      },
      alive: isAlive,
      stalled: (reason) => this.#isDown(reason),
    });
    await Promise.all(refusals);
    return { outcome, rest: ends === undefined ? batch : ends.rest() };
  }

  async #write(batch: Batch, lane: Lane, progress?: WriteProgress): Promise<Outcome> {
    if (this.#writes === 1) this.progressAtMs = this.#options.clock.monotonic();
    try {
      return await this.#sink.write(batch, {
        signal: this.#writing.signal,
        way: lane.way,
        ...(progress === undefined ? {} : { progress }),
      });
    } catch (error) {
      this.#writeDone();
      throw error;
    } finally {
      this.progressAtMs = this.#options.clock.monotonic();
    }
  }

  #writeDone(): void {
    this.#writes -= 1;
    if (this.#writes > 0 || this.#pendingBarrier === undefined) return;
    const take = this.#pendingBarrier;
    this.#pendingBarrier = undefined;
    take();
    this.#wake();
  }

  /** Synchronous, and before the write counts as done: a barrier must never see the bytes without their ranges. */
  #settleDelivered(batch: Batch, lane: Lane, hold: Hold | undefined): void {
    this.tap?.(batch);
    lane.end(batch.origin, batch.ranges, this.#keepsMarks);
    lane.count("delivered", batch.count);
    if (hold === undefined) this.acknowledgedRecords += batch.count;
    this.#written.add(batch, lane, hold);
  }

  /** A write whose answer was lost: the target, when asked, said that it holds it, which no barrier need make true. */
  #settleFound(batch: Batch, lane: Lane): void {
    lane.count("delivered", batch.count);
    this.acknowledgedRecords += batch.count;
  }

  #settle(batch: Batch, lane: Lane, ending: Ending): void {
    lane.end(batch.origin, batch.ranges);
    lane.count(ending, batch.count);
  }

  #isUp(): void {
    if (this.trouble === undefined) return;
    this.trouble = undefined;
    this.#options.events.emit("sink_up", `${this.name} takes records again`, {});
  }

  #isDown(reason: string): void {
    if (this.trouble === undefined)
      this.#options.events.emit("sink_down", `${this.name} does not take records: ${reason}`, { reason });
    this.trouble = reason;
  }

  /**
   * Before any source starts: asks the target what it holds, once. A target that does not answer holds up nobody but its own
   * sink, which asks again as it begins to run.
   * @throws StageError if the sink failed for good.
   */
  async recoverAtStart(): Promise<void> {
    try {
      await this.#ask(true);
    } catch (error) {
      if (error instanceof StageError) throw error;
      this.#isDown(toError(error).message);
      this.#isUnrecovered = true;
    }
  }

  /**
   * Asks the target what it holds (also after an unknown outcome) and unites it with what is known, however long it takes.
   * @throws StageError if the sink failed for good; also if the target was restored: what it lost is behind the sources, and
   * they read it again at the next start.
   */
  async recover(): Promise<void> {
    const { clock, random } = this.#options;
    const backoff = new Backoff({ initialMs: 250, maxMs: 30_000 }, random);
    const { signal } = this.#writing;
    while (!signal.aborted) {
      try {
        await this.#ask(false);
        // A write will tell whether it takes records; that it answers, it has told now.
        if (backoff.attempts > 0 || this.#isUnrecovered) this.#isUp();
        this.#isUnrecovered = false;
        return;
      } catch (error) {
        if (error instanceof StageError) throw error;
        this.#isDown(toError(error).message);
        await clock.sleep(backoff.next(), { signal });
      }
    }
  }

  async #ask(isAtStart: boolean): Promise<void> {
    const recovered = await this.#sink.recover?.();
    if (recovered === undefined) return;
    const standsAlone = recovered.standsAlone ?? false;
    if (standsAlone) {
      this.#options.events.emit(
        "sink_rewound",
        `${this.name}: the target knows less than the store; it was restored or recreated`,
        {},
      );
      if (!isAtStart)
        throw new StageError(
          "TR_STAGE_FAILED",
          this.name,
          "its target was restored or recreated while the agent ran; start again: what it lost is read again from there",
        );
      for (const lane of this.lanes) lane.forgetAll();
    }
    for (const { source, file, way, value } of recovered.positions) {
      for (const lane of this.lanes) {
        if (lane.source === source && lane.way === way) lane.recovered(file, value, standsAlone);
      }
    }
  }

  /**
   * The barrier: at one instant between two writes, notes the settled sets and calls `prepare`, which notes what they
   * describe. Undefined if the barrier failed; everything since the last commit is then written again.
   * @throws StageError if the sink failed for good.
   */
  async barrier(): Promise<Prepared | undefined> {
    while (this.#rewriting !== undefined) await this.#rewriting;
    const noted = await this.#atBarrier();
    let marks: Marks;
    try {
      marks = await noted.marks;
    } catch (error) {
      if (error instanceof StageError) {
        this.#fail(error);
        throw error;
      }
      this.#rewind(toError(error));
      return undefined;
    }
    const changes: Change[] = [...noted.changes];
    for (const [name, value] of Object.entries(marks)) changes.push({ table: "mark", sink: this.name, name, value });
    return { changes, done: () => this.#committed() };
  }

  /** Sets and lengths must describe the same instant, so nothing in `take` may await. */
  #atBarrier(): Promise<{ changes: Change[]; marks: Promise<Marks> }> {
    return new Promise((resolve) => {
      const take = () => {
        const changes = this.#positionChanges();
        for (const lane of this.lanes) lane.beginBarrier();
        this.#written.beginBarrier();
        const marks = this.#sink.prepare?.() ?? Promise.resolve({});
        // It is awaited a microtask later; a rejection until then is not an unhandled one.
        marks.catch(() => {});
        resolve({ changes, marks });
      };
      if (this.#writes === 0 || !this.#keepsMarks) take();
      else this.#pendingBarrier = take;
    });
  }

  /** Sets of the files that changed, as they are now. */
  #positionChanges(): Change[] {
    const changes: Change[] = [];
    for (const lane of this.lanes) {
      for (const file of lane.takeDirty()) {
        changes.push({ table: "position", sink: lane.id, source: lane.source, file, value: lane.set(file).snapshot() });
      }
    }
    return changes;
  }

  async #committed(): Promise<void> {
    for (const lane of this.lanes) lane.committed();
    this.acknowledgedRecords += this.#written.committed();
    await this.#sink.committed?.();
  }

  /** The barrier failed and the sink is back at its committed marks: so are the sets, and the batches go out again. */
  #rewind(error: Error): void {
    const again = this.#written.takeBack();
    this.errors += 1;
    this.#isDown(`what was written since the last commit is in doubt and is written again: ${error.message}`);
    for (const lane of this.lanes) lane.rewind();
    for (const { batch, lane } of again) lane.count("delivered", -batch.count);
    this.#rewriting = this.#rewrite(again)
      .catch((thrown: unknown) => this.#fail(thrown))
      .finally(() => {
        this.#rewriting = undefined;
      });
  }

  async #rewrite(again: readonly Written[]): Promise<void> {
    const { clock, random } = this.#options;
    const backoff = new Backoff({ initialMs: this.#retry.initialMs, maxMs: this.#retry.maxMs }, random);
    for (const written of again) {
      for (;;) {
        while (this.#replacing !== undefined) await this.#replacing;
        if (this.#abort.signal.aborted) return;
        this.#writes += 1;
        const outcome = await this.#write(written.batch, written.lane);
        if (outcome.kind === "delivered") {
          this.#settleDelivered(written.batch, written.lane, written.hold);
          written.hold.release();
          this.#writeDone();
          break;
        }
        this.#writeDone();
        this.#isDown(outcome.reason);
        await clock.sleep(backoff.next(), { signal: this.#writing.signal });
      }
      backoff.reset();
    }
    this.#isUp();
  }
}

/** Leaves out the records that the set covers: a replayed batch need not be cut where the first run's was. */
function withoutCovered(batch: Batch, lane: Lane): Batch {
  if (batch.origin.kind !== "replayable") return batch;
  const set = lane.set(batch.origin.key);
  if (batch.ranges.every((range) => set.isAfter(range.start))) return batch;
  return batch.filter((record) => record.range.start === record.range.end || !set.covers(record.range));
}
