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
import { makePositionTables } from "./claim.ts";
import { ClaimedSession, type ClaimedSessionOptions, type PreparedTarget } from "./claimed-session.ts";
import { loadDrivers } from "./driver.ts";
import { PgFailure } from "./failure.ts";
import { probePostgres } from "./reader.ts";
import type { PgSession } from "./session.ts";
import type { Body } from "./transaction.ts";

/** Batches in `write` at once; those that wait for one transaction go together into the next. */
export const CONCURRENCY = 256;
/** Source bytes of one transaction, some thousand lines: its own cost no longer counts. A single larger batch is alone. */
export const MAX_TRANSACTION_BYTES = 1_048_576;

/** What differs between the sinks of Postgres: where the rows go, and how. */
export interface Target<Rows> extends PreparedTarget {
  /** What the batches of one transaction become; may be made only while it is carried out. */
  encode(batches: readonly { readonly batch: Batch; readonly way: string }[]): Rows;
  /** What stores the rows. */
  body(rows: Rows): Body;
  /**
   * Something else to try with rows that were refused, after a rollback; undefined: there is none. Only asked where each
   * source of them reaches the sink by one way: two ways bring different events under the same record ids.
   */
  otherwise?(failure: PgFailure): ((rows: Rows) => Body) | undefined;
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
  readonly #target: Target<Rows>;
  readonly #claimed: ClaimedSession;
  readonly #waiting: Waiting[] = [];
  /** One thing at a time on the session: a transaction, a recovery. */
  #turn: Promise<unknown> = Promise.resolve();
  #isRunning = false;
  readonly #stop = new AbortController();

  private constructor(target: Target<Rows>, claimed: ClaimedSession) {
    this.#target = target;
    this.#claimed = claimed;
  }

  /** Gives the sink its name in the target for good, before anything is written; does not connect. */
  static async open<Rows>(
    options: ClaimedSessionOptions,
    context: SinkContext,
    target: Target<Rows>,
  ): Promise<TransactionalSink<Rows>> {
    await loadDrivers(options.url);
    return new TransactionalSink(target, await ClaimedSession.create(options, context, target));
  }

  /** Connects, makes and checks what the target needs, and rolls all of it back. @throws StageError */
  static async probe<Rows>(
    options: ClaimedSessionOptions,
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
    return this.#exclusively(() => this.#claimed.recover(this.#stop.signal));
  }

  write(batch: Batch, { signal, way = "" }: { signal: AbortSignal; way?: string }): Promise<Outcome> {
    return new Promise((done, failed) => {
      this.#waiting.push({ batch, way, signal, done, failed });
      if (!this.#isRunning) void this.#run();
    });
  }

  committed(): Promise<void> {
    return this.#claimed.committed();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#turn;
    await this.#claimed.close();
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
      this.#claimed.giveUp();
    };
    const signals = new Set([...group.map(({ signal }) => signal), this.#stop.signal]);
    for (const signal of signals) signal.addEventListener("abort", giveUp, { once: true });
    try {
      if ([...signals].some(({ aborted }) => aborted)) return all(retry("given up"));
      const claimed = this.#claimed;
      if (claimed.mustRecover !== undefined) return all(retry(claimed.mustRecover, { isOutcomeUnknown: true }));
      const hadSession = claimed.isConnected;
      const session = await claimed.connect(abort.signal);
      if (session === undefined) return all(retry(claimed.mustRecover!, { isOutcomeUnknown: true }));
      if (!hadSession) {
        // A new session has read the positions: what an unknown outcome left there is delivered.
        const there = group.map(({ batch, way }) => claimed.positions.covers(batch, way));
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
    for (const { batch } of group) batch.memory.keep?.();
    const outcome = await this.#claimed.attempt(session, group, this.#target.body(rows));
    if (!(outcome instanceof PgFailure)) return outcome;
    const isOneWay = group.every(({ batch }) => this.#claimed.positions.isOneWay(batch.origin.source));
    const otherwise = isOneWay ? this.#target.otherwise?.(outcome) : undefined;
    if (otherwise === undefined) return outcomeOf(outcome);
    const second = await this.#claimed.attempt(session, group, otherwise(rows));
    return second instanceof PgFailure ? outcomeOf(second) : second;
  }
}

function outcomeOf(failure: PgFailure): Outcome {
  return failure.kind === "data" ? rejected(failure.message) : retry(failure.message);
}
