import { randomUUID } from "node:crypto";
import { StageError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import { delivered, type Outcome, type Recovered, retry, type SinkContext } from "../stage/index.ts";
import { placeOf } from "./address.ts";
import {
  type Claim,
  forgetOldPositions,
  isBeaten,
  judge,
  lookAtClaim,
  makePositionTables,
  raiseGeneration,
  readClaim,
  TargetPositions,
  writeClaim,
} from "./claim.ts";
import { type FailureKind, failureOf, PgFailure } from "./failure.ts";
import { PgSession } from "./session.ts";
import { type Body, Chain, type Query, Script, type Transaction } from "./transaction.ts";

/** While transactions go on, the mark that tells a restored database from the present one is renewed this often. */
const MARK_MS = 1000;

export interface ClaimedSessionOptions {
  readonly url: string;
  readonly timeoutMs: number;
}

/** Where the rows go: looked after before anything is written. */
export interface PreparedTarget {
  /** Names the target for people: a table, a queue. */
  readonly name: string;
  /** On each new session, in a transaction: makes or checks what the rows go into. @throws StageError, PgFailure */
  prepare(session: PgSession): Promise<void>;
}

/**
 * The one session in which a sink writes, its name claimed in the database and its positions read:
 *
 * ```
 *   connect: BEGIN; tables, target, claim, positions; COMMIT --> attempt: BEGIN; generation + 1; positions; ...; COMMIT
 *      ^          | the target knows less than we do                 | no row               | no answer, unknown outcome
 *      |          v                                                  v                      |
 *      |     mustRecover <---------------------------- rewound, or fenced (fatal)           |
 *      '--------- recover: a fresh connection <---------------------------------------------'
 * ```
 *
 * Nothing here may overlap: its owner does one thing at a time.
 */
export class ClaimedSession {
  readonly #options: ClaimedSessionOptions;
  readonly #context: SinkContext;
  readonly #target: PreparedTarget;
  readonly #uuid: string;
  /** What this process knows to have left there; undefined before the first claim. */
  #claim: Claim | undefined;
  #positions = new TargetPositions();
  #session: PgSession | undefined;
  #mustRecover: string | undefined;
  readonly #storedGeneration: number;
  /** Kept as a mark until the pipeline has committed what the restored target holds. */
  #isRewound: boolean;
  #commitsUntilSettled = 0;
  #markedAtMs = 0;

  private constructor(options: ClaimedSessionOptions, context: SinkContext, target: PreparedTarget, uuid: string) {
    this.#options = options;
    this.#context = context;
    this.#target = target;
    this.#uuid = uuid;
    this.#storedGeneration = Number(context.marks.get(GENERATION) ?? -1);
    this.#isRewound = context.marks.get(REWOUND) === true;
  }

  /** Gives the sink its name in the target for good, before anything is written; does not connect. */
  static async create(
    options: ClaimedSessionOptions,
    context: SinkContext,
    target: PreparedTarget,
  ): Promise<ClaimedSession> {
    const known = context.marks.get(UUID);
    const uuid = typeof known === "string" ? known : randomUUID();
    if (uuid !== known) await context.saveMarks({ [UUID]: uuid });
    return new ClaimedSession(options, context, target, uuid);
  }

  get isConnected(): boolean {
    return this.#session !== undefined;
  }

  /** Why nothing is written: the target knows less than we do, until `recover` has told the pipeline. */
  get mustRecover(): string | undefined {
    return this.#mustRecover;
  }

  /** What the target holds, as of the last transaction. */
  get positions(): TargetPositions {
    return this.#positions;
  }

  /** What the target holds, after anything that an earlier transaction may still be doing. @throws StageError, PgFailure */
  async recover(signal: AbortSignal): Promise<Recovered> {
    // Whatever the old connection was doing, a fresh one finds it done or undone.
    this.#session?.destroy("a fresh connection is made");
    this.#session = undefined;
    this.#mustRecover = undefined;
    await this.#connected(signal, true);
    return { positions: this.#positions.recovered(), standsAlone: this.#isRewound };
  }

  /** The session; undefined: see `mustRecover`. @throws StageError, PgFailure */
  connect(signal: AbortSignal): Promise<PgSession | undefined> {
    return this.#connected(signal, false);
  }

  /** At once; what is under way fails. */
  giveUp(): void {
    this.#session?.destroy("given up");
  }

  async close(): Promise<void> {
    await this.#session?.close();
  }

  /** The pipeline has committed. */
  async committed(): Promise<void> {
    if (!this.#isRewound || this.#commitsUntilSettled === 0) return;
    this.#commitsUntilSettled -= 1;
    if (this.#commitsUntilSettled > 0) return;
    this.#isRewound = false;
    await this.#context.saveMarks({ [REWOUND]: undefined, [GENERATION]: this.#claim?.generation ?? null });
  }

  /** The transaction once; a PgFailure: nothing of it counts. */
  async attempt(
    session: PgSession,
    group: readonly { readonly batch: Batch; readonly way: string }[],
    body: Body,
  ): Promise<Outcome | PgFailure> {
    const claim = this.#claim!;
    const changes = this.#positions.with(group);
    const statement = changes.statement(session, this.#uuid);
    const first = [raiseGeneration(session, this.#uuid, claim), ...(statement === undefined ? [] : [statement])];
    const transaction =
      "queries" in body ? new Chain(chain(first, body.queries)) : new Script([...first, ...body.statements], body.rows);
    try {
      await session.carryOut(transaction);
    } catch (thrown) {
      // Rows that could not be made: a mistake of ours, or of a transform.
      if (!(thrown instanceof PgFailure)) throw thrown;
      if (session.trouble === undefined && transaction.completed === 0 && isBeaten(thrown))
        return await this.#beaten(session, transaction);
      // To a COMMIT only a refusal of the rows (a deferred constraint) is a clear no: a server that is being shut down says
      // something too.
      const isOutcomeUnknown =
        session.trouble === undefined ? transaction.isCommitting && thrown.kind !== "data" : transaction.isCommitSent;
      if (session.trouble !== undefined || isOutcomeUnknown) {
        session.destroy("a transaction was cut off");
        this.#session = undefined;
        return retry(thrown.message, { isOutcomeUnknown });
      }
      if (transaction.needsRollback) await this.#rollback(session);
      return thrown;
    }
    this.#claim = { ...claim, generation: claim.generation + 1 };
    changes.apply();
    this.#renewMark();
    return delivered();
  }

  /** The sink's row is not as this writer left it. */
  async #beaten(session: PgSession, { needsRollback }: Transaction): Promise<Outcome> {
    if (needsRollback) await this.#rollback(session);
    const found = await lookAtClaim(session, this.#uuid);
    const judgement = judge(found, this.#claim!);
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

function* chain(first: readonly string[], queries: Iterable<Query>): Generator<Query, void> {
  for (const text of first) yield { text, values: [] };
  yield* queries;
}

/** Names of marks. */
const UUID = "uuid";
const GENERATION = "generation";
const REWOUND = "rewound";

const isLasting = (kind: FailureKind) => kind !== "passing";

/** The server cuts longer names (NAMEDATALEN). */
function sessionNameOf(name: string): string {
  return Buffer.from(`tailrace ${name}`)
    .subarray(-63)
    .toString("latin1")
    .replace(/[^ -~]/g, "?");
}
