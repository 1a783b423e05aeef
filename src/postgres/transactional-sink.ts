import { randomUUID } from "node:crypto";
import { StageError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import {
  delivered,
  type Outcome,
  type Recovered,
  rejected,
  retry,
  type Sink,
  type SinkContext,
} from "../stage/index.ts";
import { placeOf } from "./address.ts";
import {
  type Claim,
  forgetOldPositions,
  judge,
  lookAtClaim,
  makePositionTables,
  raiseGeneration,
  readClaim,
  TargetPositions,
  writeClaim,
} from "./claim.ts";
import { loadDrivers } from "./driver.ts";
import { type FailureKind, failureOf, PgFailure } from "./failure.ts";
import { probePostgres } from "./reader.ts";
import { PgSession } from "./session.ts";

/** Batches in `write` at once; those that wait for one transaction go together into the next. */
export const CONCURRENCY = 256;
/** Source bytes of one transaction, some thousand lines: its own cost no longer counts. A single larger batch is alone. */
const MAX_TRANSACTION_BYTES = 1_048_576;
/** While transactions go on, the mark that tells a restored database from the present one is renewed this often. */
const MARK_MS = 1000;

/** What differs between the sinks of Postgres: where the rows go, and how. */
export interface Target<Rows> {
  /** Names the target for people: a table, a queue. */
  readonly name: string;
  /** On each new session, in a transaction: makes or checks what the rows go into. @throws StageError, PgFailure */
  prepare(session: PgSession): Promise<void>;
  /** What the batches of one transaction become. */
  encode(batches: readonly { readonly batch: Batch; readonly way: string }[]): Rows;
  /** Hands the rows over, in a transaction. @throws PgFailure */
  send(session: PgSession, rows: Rows): Promise<void>;
  /**
   * Something else to try with rows that were refused, after a rollback; undefined: there is none. Only asked where each
   * source of them reaches the sink by one way: two ways bring different events under the same record ids.
   */
  otherwise?(failure: PgFailure): ((session: PgSession, rows: Rows) => Promise<void>) | undefined;
}

export interface TransactionalSinkOptions {
  readonly url: string;
  readonly timeoutMs: number;
}

interface Waiting {
  readonly batch: Batch;
  readonly way: string;
  readonly signal: AbortSignal;
  readonly done: (outcome: Outcome) => void;
  readonly failed: (error: unknown) => void;
}

/**
 * Rows and positions in one transaction, one transaction at a time:
 *
 * ```
 *            .--------------------- waiting: all that came meanwhile, up to 1 MiB ----------------------.
 *            v                                                                                          |
 *   BEGIN; generation + 1 where it is as we left it; positions -> rows -> COMMIT -> every batch of it is delivered
 *            | no row                                               | refused          | no answer
 *            v                                                      v                  v
 *   fenced (fatal) or recover                        halves of the group        outcome unknown: recover
 * ```
 *
 * Exactly once, since positions and rows are there together or not at all. `recover` waits on a fresh connection for what
 * the old one may still be doing: both lock the sink's row.
 */
export class TransactionalSink<Rows> implements Sink {
  readonly #options: TransactionalSinkOptions;
  readonly #context: SinkContext;
  readonly #target: Target<Rows>;
  readonly #uuid: string;
  /** What this process knows to have left there; undefined before the first claim. */
  #claim: Claim | undefined;
  #positions = new TargetPositions();
  #session: PgSession | undefined;
  /** The target knows less than we do; until `recover` has told the pipeline, nothing is written. */
  #mustRecover: string | undefined;
  readonly #storedGeneration: number;
  /** Kept as a mark until the pipeline has committed what the restored target holds. */
  #isRewound: boolean;
  #commitsUntilSettled = 0;
  #markedAtMs = 0;
  readonly #waiting: Waiting[] = [];
  /** One thing at a time on the session: a transaction, a recovery. */
  #turn: Promise<unknown> = Promise.resolve();
  #isRunning = false;
  readonly #stop = new AbortController();

  private constructor(options: TransactionalSinkOptions, context: SinkContext, target: Target<Rows>, uuid: string) {
    this.#options = options;
    this.#context = context;
    this.#target = target;
    this.#uuid = uuid;
    this.#storedGeneration = Number(context.marks.get(GENERATION) ?? -1);
    this.#isRewound = context.marks.get(REWOUND) === true;
  }

  /** Gives the sink its name in the target for good, before anything is written; does not connect. */
  static async open<Rows>(
    options: TransactionalSinkOptions,
    context: SinkContext,
    target: Target<Rows>,
  ): Promise<TransactionalSink<Rows>> {
    await loadDrivers(options.url);
    const known = context.marks.get(UUID);
    const uuid = typeof known === "string" ? known : randomUUID();
    if (uuid !== known) await context.saveMarks({ [UUID]: uuid });
    return new TransactionalSink(options, context, target, uuid);
  }

  /** Connects, makes and checks what the target needs, and rolls all of it back. @throws StageError */
  static async probe<Rows>(
    options: TransactionalSinkOptions,
    context: { readonly name: string; readonly clock: SinkContext["clock"] },
    target: Target<Rows>,
  ): Promise<void> {
    await probePostgres(options, context, {
      what: target.name,
      async find(session) {
        await session.batch(["BEGIN"]);
        await makePositionTables(session);
        await target.prepare(session);
        await session.batch(["ROLLBACK"]);
      },
    });
  }

  recover(): Promise<Recovered> {
    return this.#exclusively(async () => {
      // Whatever the old connection was doing, a fresh one finds it done or undone.
      this.#session?.destroy("a fresh connection is made");
      this.#session = undefined;
      this.#mustRecover = undefined;
      await this.#connected(this.#stop.signal, true);
      return { positions: this.#positions.recovered(), standsAlone: this.#isRewound };
    });
  }

  write(batch: Batch, { signal, way = "" }: { signal: AbortSignal; way?: string }): Promise<Outcome> {
    return new Promise((done, failed) => {
      this.#waiting.push({ batch, way, signal, done, failed });
      if (!this.#isRunning) void this.#run();
    });
  }

  async committed(): Promise<void> {
    if (!this.#isRewound || this.#commitsUntilSettled === 0) return;
    this.#commitsUntilSettled -= 1;
    if (this.#commitsUntilSettled > 0) return;
    this.#isRewound = false;
    await this.#context.saveMarks({ [REWOUND]: undefined, [GENERATION]: this.#claim?.generation ?? null });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#turn;
    await this.#session?.close();
  }

  /** Takes turns with `recover`; ends when nothing waits. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    // What is sent in the same instant goes together from the first transaction on.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#nextGroup();
      try {
        const outcomes = await this.#exclusively(() => this.#deliver(group));
        for (const [index, { done }] of group.entries()) done(outcomes[index]!);
      } catch (error) {
        for (const { failed } of group) failed(error);
      }
    }
    this.#isRunning = false;
  }

  #nextGroup(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { batch } of this.#waiting) {
      bytes += batch.byteLength;
      if (count > 0 && bytes > MAX_TRANSACTION_BYTES) break;
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** @throws StageError: fenced, or nothing that waiting could mend. */
  async #deliver(group: readonly Waiting[]): Promise<Outcome[]> {
    const outcomes = await this.#tryTogether(group);
    // One bad row refuses all that came with it: halves, until the batch that it is in stands alone.
    if (group.length === 1 || outcomes[0]?.kind !== "rejected") return outcomes;
    const middle = group.length >> 1;
    return [...(await this.#deliver(group.slice(0, middle))), ...(await this.#deliver(group.slice(middle)))];
  }

  async #tryTogether(group: readonly Waiting[]): Promise<Outcome[]> {
    const all = (outcome: Outcome) => group.map(() => outcome);
    const abort = new AbortController();
    const giveUp = () => {
      abort.abort();
      this.#session?.destroy("given up");
    };
    const signals = new Set([...group.map(({ signal }) => signal), this.#stop.signal]);
    for (const signal of signals) signal.addEventListener("abort", giveUp, { once: true });
    try {
      if ([...signals].some(({ aborted }) => aborted)) return all(retry("given up"));
      if (this.#mustRecover !== undefined) return all(retry(this.#mustRecover, { isOutcomeUnknown: true }));
      const hadSession = this.#session !== undefined;
      const session = await this.#connected(abort.signal, false);
      if (session === undefined) return all(retry(this.#mustRecover!, { isOutcomeUnknown: true }));
      if (!hadSession) {
        // A new session has read the positions: what an unknown outcome left there is delivered.
        const there = group.map(({ batch, way }) => this.#positions.covers(batch, way));
        if (there.includes(true)) {
          return group.map((_, index) => (there[index] === true ? delivered() : retry("the connection is new")));
        }
      }
      return all(await this.#transaction(session, group));
    } catch (thrown) {
      if (thrown instanceof StageError || !(thrown instanceof PgFailure)) throw thrown;
      return all(retry(thrown.message));
    } finally {
      for (const signal of signals) signal.removeEventListener("abort", giveUp);
    }
  }

  async #transaction(session: PgSession, group: readonly Waiting[]): Promise<Outcome> {
    const rows = this.#target.encode(group);
    const outcome = await this.#attempt(session, group, (on) => this.#target.send(on, rows));
    if (!(outcome instanceof PgFailure)) return outcome;
    const isOneWay = group.every(({ batch }) => this.#positions.isOneWay(batch.origin.source));
    const otherwise = isOneWay ? this.#target.otherwise?.(outcome) : undefined;
    if (otherwise === undefined) return outcomeOf(outcome);
    const second = await this.#attempt(session, group, (on) => otherwise(on, rows));
    return second instanceof PgFailure ? outcomeOf(second) : second;
  }

  /** The transaction once; a PgFailure: nothing of it counts. */
  async #attempt(
    session: PgSession,
    group: readonly Waiting[],
    send: (session: PgSession) => Promise<void>,
  ): Promise<Outcome | PgFailure> {
    const claim = this.#claim!;
    const changes = this.#positions.with(group);
    const statement = changes.statement(session, this.#uuid);
    let isCommitting = false;
    try {
      const begin = [
        "BEGIN",
        raiseGeneration(session, this.#uuid, claim),
        ...(statement === undefined ? [] : [statement]),
      ];
      const [, raised] = await session.batch(begin);
      if (raised !== 1) return await this.#beaten(session);
      await send(session);
      isCommitting = true;
      await session.batch(["COMMIT"]);
    } catch (thrown) {
      if (thrown instanceof StageError) throw thrown;
      const failure = failureOf(thrown, String);
      // To a COMMIT only a refusal of the rows (a deferred constraint) is a clear no: a server that is being shut down says
      // something too.
      if (session.trouble !== undefined || (isCommitting && failure.kind !== "data")) {
        session.destroy("a transaction was cut off");
        this.#session = undefined;
        return retry(failure.message, { isOutcomeUnknown: isCommitting });
      }
      await this.#rollback(session);
      return failure;
    }
    this.#claim = { ...claim, generation: claim.generation + 1 };
    changes.apply();
    this.#renewMark();
    return delivered();
  }

  /** The sink's row is not as this writer left it. */
  async #beaten(session: PgSession): Promise<Outcome> {
    const found = await lookAtClaim(session, this.#uuid);
    const judgement = judge(found, this.#claim!);
    await this.#rollback(session);
    if (judgement === "fenced") throw this.#fenced();
    this.#mustRecover = `${this.#target.name} is not as it was left: what it holds is asked`;
    return retry(this.#mustRecover, { isOutcomeUnknown: true });
  }

  async #rollback(session: PgSession): Promise<void> {
    try {
      await session.batch(["ROLLBACK"]);
    } catch {
      session.destroy("a transaction could not be rolled back");
    }
    if (session.trouble !== undefined) this.#session = undefined;
  }

  /**
   * The session, made anew where there is none: the target is looked after, the sink claimed, its positions read.
   * @param mayRewind false: undefined if the target has lost something, which only `recover` may tell the pipeline.
   */
  async #connected(signal: AbortSignal, mayRewind: false): Promise<PgSession | undefined>;
  async #connected(signal: AbortSignal, mayRewind: true): Promise<PgSession>;
  async #connected(signal: AbortSignal, mayRewind: boolean): Promise<PgSession | undefined> {
    if (this.#session?.trouble === undefined && this.#session !== undefined) return this.#session;
    this.#session = undefined;
    const session = await this.#openSession(signal);
    await this.#endOldSessions(session);
    const onAbort = () => session.destroy("given up");
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await session.batch(["BEGIN"]);
      await makePositionTables(session);
      await this.#target.prepare(session);
      if (!(await this.#claimOn(session, mayRewind))) {
        await session.close();
        return undefined;
      }
    } catch (thrown) {
      session.destroy("not ready");
      if (thrown instanceof StageError) throw thrown;
      throw this.#lastingIs(failureOf(thrown, String));
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
    this.#session = session;
    return session;
  }

  /** True once the claim is committed; false: the target was rewound and that may not be told now. */
  async #claimOn(session: PgSession, mayRewind: boolean): Promise<boolean> {
    const found = await readClaim(session, this.#uuid);
    const isFirst = this.#claim === undefined;
    const known = this.#claim ?? { epoch: 0, generation: this.#storedGeneration };
    // The first claim of a process is a new epoch, whoever was there before.
    const judgement = isFirst ? judge(found && { ...found, epoch: 0 }, known) : judge(found, known);
    if (judgement === "fenced") throw this.#fenced();
    // A sink that was never there has lost nothing.
    const isRewound = judgement === "rewound" && known.generation >= 0;
    if (isRewound && !mayRewind) {
      this.#mustRecover = `${this.#target.name} was restored or recreated: it knows less than it did`;
      return false;
    }
    if (isRewound) {
      // Durable before the target's row says otherwise: dying behind that must not make it look as if nothing was lost.
      this.#isRewound = true;
      // The cycle under way may have taken its snapshot before this; the one after it has not.
      this.#commitsUntilSettled = 2;
      await this.#context.saveMarks({ [REWOUND]: true });
    }
    const claim =
      isFirst || isRewound
        ? {
            epoch: Math.max(found?.epoch ?? 0, known.epoch) + 1,
            generation: Math.max(found?.generation ?? 0, known.generation) + 1,
          }
        : found!;
    if (claim !== found)
      await writeClaim(
        session,
        { uuid: this.#uuid, name: this.#context.name, target: `${placeOf(this.#options.url)} ${this.#target.name}` },
        claim,
      );
    if (isFirst) await forgetOldPositions(session, this.#uuid);
    const positions = await TargetPositions.read(session, this.#uuid);
    await session.batch(["COMMIT"]);
    this.#claim = claim;
    this.#positions = positions;
    if (isFirst && this.#isRewound) this.#commitsUntilSettled = 2;
    if (!this.#isRewound) this.#renewMark();
    return true;
  }

  /**
   * A connection of ours that broke on the way may still be open at the server, in the middle of a transaction that holds
   * the lock. Nobody else's has this sink's name. Where it is not allowed, `readClaim` waits until the server gives it up.
   */
  async #endOldSessions(session: PgSession): Promise<void> {
    await session
      .query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user " +
          "AND datname = current_database() AND application_name = $1",
        [this.#sessionName],
      )
      .catch(() => {});
  }

  get #sessionName(): string {
    return sessionNameOf(`${this.#context.name} ${this.#uuid.slice(0, 8)}`);
  }

  async #openSession(signal: AbortSignal): Promise<PgSession> {
    const { url, timeoutMs } = this.#options;
    try {
      return await PgSession.open(
        { url, applicationName: this.#sessionName, timeoutMs, clock: this.#context.clock },
        signal,
      );
    } catch (thrown) {
      if (thrown instanceof PgFailure) throw this.#lastingIs(thrown);
      throw thrown;
    }
  }

  /** At the start what is configured wrongly ends the agent; later it was right once, and whoever broke it can mend it. */
  #lastingIs(failure: PgFailure): Error {
    if (this.#claim !== undefined || !isLasting(failure.kind)) return failure;
    return new StageError("TR_STAGE_OPEN", this.#context.name, `${this.#target.name}: ${failure.message}`);
  }

  #fenced(): StageError {
    return new StageError(
      "TR_SINK_FENCED",
      this.#context.name,
      `another agent has opened this sink (${this.#target.name}) since; two agents must not share a state directory or a copy of one`,
    );
  }

  /** What a later start compares the target with. It may lag: a target that was put back by less than that looks whole. */
  #renewMark(): void {
    const { clock } = this.#context;
    const nowMs = clock.monotonic();
    if (this.#isRewound || (this.#markedAtMs > 0 && nowMs - this.#markedAtMs < MARK_MS)) return;
    this.#markedAtMs = nowMs;
    // A store that cannot be written says so itself; the next mark is a second away.
    this.#context.saveMarks({ [GENERATION]: this.#claim!.generation }).catch(() => {});
  }
}

/** Names of marks. */
const UUID = "uuid";
const GENERATION = "generation";
const REWOUND = "rewound";

const isLasting = (kind: FailureKind) => kind !== "passing";

function outcomeOf(failure: PgFailure): Outcome {
  return failure.kind === "data" ? rejected(failure.message) : retry(failure.message);
}

/** The server cuts longer names (NAMEDATALEN). */
function sessionNameOf(name: string): string {
  return Buffer.from(`tailrace ${name}`)
    .subarray(-63)
    .toString("latin1")
    .replace(/[^ -~]/g, "?");
}
