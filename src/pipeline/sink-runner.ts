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
import { Gathering } from "./gathering.ts";
import { isCovered, type Lane } from "./lane.ts";
import type { Routed } from "./route.ts";
import { SinkHealth } from "./sink-health.ts";
import { type Asked, SinkRecovery } from "./sink-recovery.ts";
import type { Tap } from "./tap.ts";
import { WriteGate } from "./write-gate.ts";
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
  /** What waits of one origin goes into `write` as one batch, up to so many source bytes. Default: each alone. */
  readonly gatherBytes?: number;
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
  #lanes: readonly Lane[] = [];
  /** Of ways that are gone. */
  readonly #pastEndings: { [ending in Ending]: number } = { delivered: 0, filtered: 0, dropped: 0, dead_lettered: 0 };
  readonly #options: Omit<SinkRunnerOptions, "sink">;
  readonly #keepsMarks: boolean;
  #sink: Sink;
  #retry: RetryPlan;
  /** Set while another sink takes the place: nothing is written until it has. */
  #replacing: Promise<void> | undefined;
  /** Aborts the writes into the present sink, and only those. */
  #writing = new AbortController();
  readonly #input: Gathering;
  readonly #written: WrittenBatches;
  readonly #gate: WriteGate;
  readonly #health: SinkHealth;
  readonly #recovery: SinkRecovery;
  #rewriting: Promise<void> | undefined;
  readonly #busyOrigins = new Set<string>();
  #wakers: (() => void)[] = [];
  #inFlight = 0;
  #failure: Error | undefined;
  readonly #abort = new AbortController();
  /** `run` is through: nothing is written any more. */
  hasEnded = false;
  acknowledgedRecords = 0;
  errors = 0;
  deadLetters = 0;
  tap: Tap | undefined;

  constructor(options: SinkRunnerOptions) {
    this.name = options.name;
    const { sink, ...rest } = options;
    // Not the sink itself: another may take its place.
    this.#options = rest;
    this.#sink = sink;
    this.#retry = options.retry;
    this.#keepsMarks = sink.prepare !== undefined;
    this.#input = new Gathering(options.input, this.#keepsMarks ? 0 : (options.gatherBytes ?? 0));
    this.#written = new WrittenBatches(options.onUncommitted);
    this.#gate = new WriteGate(options.clock, () => this.#wake());
    this.#health = new SinkHealth(options.name, options.events);
    this.#recovery = new SinkRecovery({ ...rest, health: this.#health });
  }

  /** Every way into this sink. */
  get lanes(): readonly Lane[] {
    return this.#lanes;
  }

  /** Ways that are left out get nothing any more, and have nothing left to commit. */
  setLanes(lanes: readonly Lane[]): void {
    for (const lane of this.#lanes) if (!lanes.includes(lane)) addEndings(this.#pastEndings, lane.endings);
    this.#lanes = lanes;
  }

  /** Records since the start, by how they ended here. */
  get endings(): { readonly [ending in Ending]: number } {
    const sum = { ...this.#pastEndings };
    for (const lane of this.#lanes) addEndings(sum, lane.endings);
    return sum;
  }

  /** Batches taken from the input and not settled yet. */
  get unsettledBatches(): number {
    return this.#inFlight;
  }

  /** Its sink has marks: what it wrote counts once a barrier is through. */
  get keepsMarks(): boolean {
    return this.#keepsMarks;
  }

  /** Nothing waits for it, and nothing that it took is unsettled. */
  get isIdle(): boolean {
    return this.#inFlight === 0 && this.#input.isEmpty;
  }

  /** A write is under way. */
  get isWriting(): boolean {
    return this.#gate.isWriting;
  }

  /** Monotonic time of the last sign of life of a write. */
  get progressAtMs(): number {
    return this.#gate.progressAtMs;
  }

  /** Why the sink does not take anything, while it does not. */
  get trouble(): string | undefined {
    return this.#health.trouble;
  }

  /** Something ended that no commit covers, or is being written again. */
  get isDirty(): boolean {
    return this.#rewriting !== undefined || this.#written.isDirty || this.lanes.some((lane) => lane.isDirty);
  }

  /** Runs until the input has ended and everything taken from it has settled, or until `abandon`. */
  async run(): Promise<void> {
    try {
      if (this.#recovery.isOutstanding) await this.#recoverWhileNeeded();
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
    const { concurrency } = this.#options;
    for (;;) {
      const first = await this.#input.first(this.#abort.signal);
      if (first === undefined) break;
      await this.#slot(first.batch.origin.key, concurrency);
      if (this.#abort.signal.aborted) {
        first.batch.memory.release();
        break;
      }
      const delivery = this.#deliver(this.#input.withWaiting(first), first.route.lanes[0]!);
      if (concurrency === 1) await delivery;
    }
    this.#input.abandon();
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

  /** What has not settled is left to the next start. */
  get isAbandoned(): boolean {
    return this.#abort.signal.aborted;
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
      while (this.#gate.isWriting) await this.#options.clock.sleep(1);
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
      while (concurrency > 1 && this.#gate.isAwaited) await this.#woken();
      if (signal.aborted) return "aborted";
      this.#gate.begin();
      const retry = this.#retry;
      const { outcome, rest } = await this.#writeInParts(batch, lane);
      if (rest !== undefined) batch = rest;
      if (outcome.kind === "delivered" || rest === undefined) {
        if (rest !== undefined) this.#settleDelivered(rest, lane, hold);
        this.#gate.end();
        this.#health.isUp();
        return "settled";
      }
      this.#gate.end();
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
      this.#health.isDown(outcome.reason);
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
    const isAlive = () => this.#gate.isAlive();
    const outcome = await this.#write(batch, lane, {
      delivered: (record) => {
        isAlive();
        this.#settleDelivered(openEnds().end(record), lane, undefined);
        this.#health.isUp();
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
      stalled: (reason) => this.#health.isDown(reason),
    });
    await Promise.all(refusals);
    return { outcome, rest: ends === undefined ? batch : ends.rest() };
  }

  async #write(batch: Batch, lane: Lane, progress?: WriteProgress): Promise<Outcome> {
    try {
      return await this.#sink.write(batch, {
        signal: this.#writing.signal,
        way: lane.way,
        ...(progress === undefined ? {} : { progress }),
      });
    } catch (error) {
      this.#gate.end();
      throw error;
    } finally {
      this.#gate.isAlive();
    }
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

  /**
   * Before any source starts: asks the target what it holds, once.
   * @throws StageError if the sink failed for good.
   */
  async recoverAtStart(): Promise<void> {
    await this.#recovery.atStart(this.#asked());
  }

  /**
   * Asks the target what it holds, also after an unknown outcome.
   * @throws StageError see `SinkRecovery.untilAnswered`
   */
  async recover(): Promise<void> {
    await this.#recovery.untilAnswered(this.#asked(), this.#writing.signal);
  }

  #asked(): Asked {
    return { sink: this.#sink, lanes: this.lanes, retry: this.#retry };
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
      if (this.#keepsMarks) this.#gate.atRest(take);
      else take();
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
    this.#health.isDown(`what was written since the last commit is in doubt and is written again: ${error.message}`);
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
        this.#gate.begin();
        const outcome = await this.#write(written.batch, written.lane);
        if (outcome.kind === "delivered") {
          this.#settleDelivered(written.batch, written.lane, written.hold);
          written.hold.release();
          this.#gate.end();
          break;
        }
        this.#gate.end();
        this.#health.isDown(outcome.reason);
        await clock.sleep(backoff.next(), { signal: this.#writing.signal });
      }
      backoff.reset();
    }
    this.#health.isUp();
  }
}

function addEndings(into: { [ending in Ending]: number }, more: { readonly [ending in Ending]: number }): void {
  for (const ending of Object.keys(into) as Ending[]) into[ending] += more[ending];
}
