import { SettledSet } from "../checkpoint/settled-set.ts";
import type { Batch } from "../record/batch.ts";
import type { Position, Range } from "../record/position.ts";
import type { Recovered } from "../stage/contract.ts";
import type { PgFailure } from "./failure.ts";
import type { PgSession } from "./session.ts";

/**
 * What a sink keeps in its database, beside the rows: who writes, and what of each source has been written.
 *
 * ```
 * tailrace.sinks       sink (uuid) | name | target | epoch        rises at each open: of two writers the older one is out
 *                                                  | generation   rises with each transaction; also kept as a mark
 * tailrace.positions   sink, source, file, way | prefix, ranges   what has ended there, as `write` was handed it
 * ```
 *
 * Each transaction raises `generation` from exactly what this writer left there. If the row says otherwise, one of four
 * things has happened, and `judge` tells which.
 */
export interface Claim {
  readonly epoch: number;
  readonly generation: number;
}

export type Judgement =
  /** It is as we left it. */
  | "ours"
  /** The same writer, further: a transaction whose answer was lost went through. */
  | "ahead"
  /** The database knows less than we do: it was restored, recreated, or a standby took over without the last commits. */
  | "rewound"
  /** Somebody else has opened the sink since. */
  | "fenced";

/** How what stands in the database (undefined: nothing) compares with what this writer knows. */
export function judge(found: Claim | undefined, known: Claim): Judgement {
  if (found === undefined) return "rewound";
  if (found.epoch > known.epoch) return "fenced";
  if (found.epoch < known.epoch || found.generation < known.generation) return "rewound";
  return found.generation === known.generation ? "ours" : "ahead";
}

/** Any number will do as long as it is always the same; two agents must not make the tables at once. */
const SETUP_LOCK = 7_717_001;

/** Makes the two tables, unless they are there. In a transaction. */
export async function makePositionTables(session: PgSession): Promise<void> {
  const { rows } = await session.query(
    "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace " +
      "WHERE n.nspname = 'tailrace' AND c.relname IN ('sinks', 'positions')",
  );
  if (rows[0]![0] === "2") return;
  await session.batch([
    `SELECT pg_advisory_xact_lock(${SETUP_LOCK})`,
    "CREATE SCHEMA IF NOT EXISTS tailrace",
    "CREATE TABLE IF NOT EXISTS tailrace.sinks (sink uuid PRIMARY KEY, name text NOT NULL, target text NOT NULL, " +
      "epoch bigint NOT NULL, generation bigint NOT NULL, opened_at timestamptz NOT NULL DEFAULT now()) " +
      // One row that changes with each transaction: room for its next versions on the same page (HOT).
      "WITH (fillfactor = 20)",
    "CREATE TABLE IF NOT EXISTS tailrace.positions (sink uuid NOT NULL REFERENCES tailrace.sinks ON DELETE CASCADE, " +
      "source text NOT NULL, file text NOT NULL, way text NOT NULL, prefix bigint NOT NULL, ranges jsonb NOT NULL, " +
      "changed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (sink, source, file, way)) WITH (fillfactor = 50)",
  ]);
}

/**
 * What stands there, locked until the transaction ends: a transaction of ours whose outcome nobody knows is over by then,
 * one way or the other, since it holds the lock.
 */
export async function readClaim(session: PgSession, sink: string): Promise<Claim | undefined> {
  const { rows } = await session.query("SELECT epoch, generation FROM tailrace.sinks WHERE sink = $1 FOR UPDATE", [
    sink,
  ]);
  const [row] = rows;
  return row === undefined ? undefined : { epoch: Number(row[0]), generation: Number(row[1]) };
}

/** Without a lock: for a writer that was beaten. */
export async function lookAtClaim(session: PgSession, sink: string): Promise<Claim | undefined> {
  const { rows } = await session.query("SELECT epoch, generation FROM tailrace.sinks WHERE sink = $1", [sink]);
  const [row] = rows;
  return row === undefined ? undefined : { epoch: Number(row[0]), generation: Number(row[1]) };
}

export async function writeClaim(
  session: PgSession,
  sink: { readonly uuid: string; readonly name: string; readonly target: string },
  claim: Claim,
): Promise<void> {
  await session.query(
    "INSERT INTO tailrace.sinks (sink, name, target, epoch, generation) VALUES ($1, $2, $3, $4, $5) " +
      "ON CONFLICT (sink) DO UPDATE SET name = $2, target = $3, epoch = $4, generation = $5, opened_at = now()",
    [sink.uuid, sink.name, sink.target, claim.epoch, claim.generation],
  );
}

/**
 * Forgets what has not changed for so long that the checkpoint knows it for certain, or has forgotten the file itself.
 * Without that a sink would keep a row for each log file of its life.
 */
export async function forgetOldPositions(session: PgSession, sink: string): Promise<void> {
  await session.query(
    "DELETE FROM tailrace.positions WHERE sink = $1 AND file <> $2 AND changed_at < now() - $3::interval",
    [sink, NO_FILE, `${KEPT_DAYS} days`],
  );
}

/**
 * The statement that every transaction begins with: it fails, and so does all that comes behind it, if the sink is not as
 * we left it (`isBeaten`). One that changed no row would have to be waited for.
 */
export function raiseGeneration(session: PgSession, sink: string, { epoch, generation }: Claim): string {
  return (
    `WITH raised AS (UPDATE tailrace.sinks SET generation = ${generation + 1} ` +
    `WHERE sink = ${session.literal(sink)} AND epoch = ${epoch} AND generation = ${generation} RETURNING 1) ` +
    // Not a number: the only way to say so without a function of our own. With the count, so that no planner reckons it.
    "SELECT CASE count(*) WHEN 0 THEN concat('the sink is not as its writer left it: ', count(*))::int END FROM raised"
  );
}

/** What the statement of `raiseGeneration` was refused with. */
export function isBeaten(failure: PgFailure): boolean {
  return failure.sqlState === NO_NUMBER;
}

const NO_NUMBER = "22P02";

/** The settled sets that the database holds, by source, file and way. */
export class TargetPositions {
  readonly #sets = new Map<string, SettledSet>();
  /** Source -> the ways by which records of it came, ever. */
  readonly #ways = new Map<string, Set<string>>();

  /** All of them, as they stand there. */
  static async read(session: PgSession, sink: string): Promise<TargetPositions> {
    const positions = new TargetPositions();
    const { rows } = await session.query(
      "SELECT source, file, way, prefix, ranges FROM tailrace.positions WHERE sink = $1",
      [sink],
    );
    for (const [source, file, way, prefix, ranges] of rows) {
      const value = {
        prefix: Number(prefix),
        ranges: (JSON.parse(ranges!) as [number, number][]).map(([start, end]) => ({ start, end })),
      };
      positions.#noteWay(source!, way!);
      positions.#sets.set(keyOf(source!, file!, way!), new SettledSet(value));
    }
    return positions;
  }

  /** True if the rows of the batch are there already. */
  covers(batch: Batch, way: string): boolean {
    if (batch.origin.kind !== "replayable") return false;
    const ranges = batch.ranges.filter(({ start, end }) => start < end);
    return (
      ranges.length > 0 &&
      (this.#sets.get(keyOf(batch.origin.source, batch.origin.key, way))?.coversAll(ranges) ?? false)
    );
  }

  isOneWay(source: string): boolean {
    return (this.#ways.get(source)?.size ?? 0) <= 1;
  }

  #noteWay(source: string, way: string): void {
    const ways = this.#ways.get(source);
    if (ways === undefined) this.#ways.set(source, new Set([way]));
    else ways.add(way);
  }

  /**
   * What the sets become with these batches; `apply` it once that is committed. Of origins that cannot be replayed only the
   * way is kept.
   */
  with(batches: readonly { readonly batch: Batch; readonly way: string }[]): PositionChanges {
    const changed = new Map<string, { source: string; file: string; way: string; set: SettledSet }>();
    for (const { batch, way } of batches) {
      const { kind, source } = batch.origin;
      const file = kind === "replayable" ? batch.origin.key : NO_FILE;
      this.#noteWay(source, way);
      if (file === NO_FILE && this.#sets.has(keyOf(source, file, way))) continue;
      const key = keyOf(source, file, way);
      let change = changed.get(key);
      if (change === undefined) {
        change = { source, file, way, set: new SettledSet(this.#sets.get(key)?.snapshot()) };
        changed.set(key, change);
      }
      if (file !== NO_FILE) for (const range of batch.ranges) change.set.add(range);
    }
    return {
      apply: () => {
        for (const [key, { set }] of changed) this.#sets.set(key, set);
      },
      statement: (session, sink) => (changed.size === 0 ? undefined : upsert(session, sink, [...changed.values()])),
    };
  }

  recovered(): Recovered["positions"] {
    return [...this.#sets].flatMap(([key, set]) => {
      const [source, file, way] = JSON.parse(key) as [string, string, string];
      return file === NO_FILE ? [] : [{ source, file, way, value: set.snapshot() }];
    });
  }
}

/** Longer than a tombstone is kept by default. */
const KEPT_DAYS = 90;
/** In the place of a file key: a row that tells a way, and no position. */
const NO_FILE = "";

export interface PositionChanges {
  apply(): void;
  /** Undefined: nothing to store. */
  statement(session: PgSession, sink: string): string | undefined;
}

function keyOf(source: string, file: string, way: string): string {
  return JSON.stringify([source, file, way]);
}

function upsert(
  session: PgSession,
  sink: string,
  changes: readonly { source: string; file: string; way: string; set: SettledSet }[],
): string {
  const uuid = session.literal(sink);
  const rows = changes.map(({ source, file, way, set }) => {
    const { prefix, ranges }: Position = set.snapshot();
    const pairs = JSON.stringify(ranges.map(({ start, end }: Range) => [start, end]));
    return `(${uuid}, ${[source, file, way].map((text) => session.literal(text)).join(", ")}, ${prefix}, '${pairs}')`;
  });
  return (
    `INSERT INTO tailrace.positions (sink, source, file, way, prefix, ranges) VALUES ${rows.join(", ")} ` +
    "ON CONFLICT (sink, source, file, way) DO UPDATE SET prefix = excluded.prefix, ranges = excluded.ranges, changed_at = now()"
  );
}
