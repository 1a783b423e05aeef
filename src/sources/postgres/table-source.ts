import type { Receiver, Sender } from "../../channel/index.ts";
import { StageError } from "../../errors.ts";
import { leaseBodies } from "../../postgres/leased-bodies.ts";
import { PgReader } from "../../postgres/reader.ts";
import type { PgSession } from "../../postgres/session.ts";
import { Batch, Messages, type Origin } from "../../record/index.ts";
import { recordIdPrefix } from "../../record/origin.ts";
import { type Source, type SourceContext, type SourceStatus, Upstream } from "../../stage/index.ts";
import { type CursorTable, describeCursorTable, fieldsOf } from "./cursor-table.ts";
import { Horizon } from "./horizon.ts";

export interface TableSourceOptions {
  readonly url: string;
  readonly table: string;
  readonly cursorColumn: string;
  readonly batch: number;
  readonly pollIntervalMs: number;
  readonly settleMs: number;
  readonly timeoutMs: number;
}

/** The first look after one that found something; each that finds nothing doubles the wait, up to the poll interval. */
const FIRST_LOOK_MS = 20;
/** A transaction that holds rows back for longer is told of. */
const TELL_AFTER_MS = 10_000;

interface Row {
  readonly cursor: number;
  readonly texts: readonly (string | null)[];
}

/**
 * ```
 *  look: highest value and snapshot -> horizon;  rows from `next` on -> those that are final, or follow without a gap
 *        | all of a full batch was final: look again at once           | a gap: wait for the horizon
 * ```
 */
export class TableSource implements Source {
  readonly output: Receiver<Batch>;
  readonly #sender: Sender<Batch>;
  readonly #options: TableSourceOptions;
  readonly #context: SourceContext;
  readonly #upstream: Upstream;
  readonly #reader: PgReader;
  readonly #horizon: Horizon;
  #table: CursorTable | undefined;
  #origin: Origin | undefined;
  /** The lowest value that was not handed on. */
  #next = 0;
  #isWaitTold = false;
  #isRestartTold = false;

  constructor(options: TableSourceOptions, context: SourceContext) {
    this.#options = options;
    this.#context = context;
    this.#upstream = new Upstream(context);
    this.#reader = new PgReader(options, context, { what: `table ${options.table}`, find: (on) => this.#find(on) });
    this.#horizon = new Horizon(options.settleMs);
    const { sender, receiver } = context.channel();
    this.#sender = sender;
    this.output = receiver;
  }

  get trouble(): string | undefined {
    return this.#upstream.trouble;
  }

  status(): SourceStatus {
    return { files: 0, lagBytes: 0 };
  }

  async run({ signal, once }: { signal: AbortSignal; once: boolean }): Promise<void> {
    using _closing = this.#sender;
    await this.#upstream.readOn(signal, async () => {
      await using session = await this.#reader.connect(signal);
      await this.#readAll(session, signal, once);
    });
  }

  /** Forgets where the table stands, so that it is read again from its beginning. */
  async reset(path: string): Promise<number> {
    if (this.#origin === undefined || path !== this.#options.table) return 0;
    await this.#context.positions.save(new Map([[this.#origin.key, undefined]]));
    this.#next = 0;
    return 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#sender.close();
  }

  /** On each new connection: another table of the name, made meanwhile, is read from its own position. */
  async #find(session: PgSession): Promise<void> {
    const { table, cursorColumn } = this.#options;
    const { name, positions } = this.#context;
    this.#table = await describeCursorTable(session, table, cursorColumn, name);
    const key = `${table}.${cursorColumn}#${this.#table.oid}`;
    if (this.#origin?.key === key) return;
    this.#origin = {
      source: name,
      key,
      kind: "replayable",
      recordIdPrefix: recordIdPrefix(`postgres\0${table}\0${cursorColumn}`, this.#table.oid),
      file: undefined,
    };
    this.#next = positions.startOf(key);
  }

  async #readAll(session: PgSession, signal: AbortSignal, once: boolean): Promise<void> {
    const { batch, pollIntervalMs } = this.#options;
    const { clock, positions } = this.#context;
    let last: number | undefined;
    let lookMs = FIRST_LOOK_MS;
    while (!signal.aborted) {
      const highest = await this.#look(session);
      last ??= once ? highest : Number.POSITIVE_INFINITY;
      const rows = await this.#read(session, batch);
      this.#upstream.answered();
      const final = this.#final(rows);
      if (final.length > 0) {
        await this.#handOn(final, signal);
        lookMs = FIRST_LOOK_MS;
      } else lookMs = Math.min(pollIntervalMs, lookMs * 2);
      if (once && (this.#next > last || (this.#horizon.safe >= last && rows.length === 0))) return;
      while (!positions.hasRoom(this.#origin!.key) && !signal.aborted)
        await positions.roomFor(this.#origin!.key, { signal });
      if (final.length === batch) continue;
      await clock.sleep(Math.min(pollIntervalMs, lookMs), { signal });
    }
  }

  /** The highest value; -1 for an empty table. */
  async #look(session: PgSession): Promise<number> {
    const { sql, cursorSql } = this.#table!;
    const { clock, log, name } = this.#context;
    const { rows } = await session.query(
      `SELECT (SELECT max(${cursorSql}) FROM ${sql}), pg_snapshot_xmin(s), pg_snapshot_xmax(s) FROM pg_current_snapshot() AS s`,
    );
    const [max, xmin, xmax] = rows[0]!;
    const highest = max === null ? -1 : this.#checked(max!);
    const nowMs = clock.monotonic();
    this.#horizon.observe(highest, { xmin: Number(xmin), xmax: Number(xmax) }, nowMs);
    const isHeldBack = this.#horizon.waitedMs(nowMs) > Math.max(TELL_AFTER_MS, 2 * this.#options.settleMs);
    if (isHeldBack && !this.#isWaitTold)
      log.warn(
        {},
        `${name}: rows behind a gap of the table ${sql} wait until every transaction has ended that might fill it; one has been open for ${Math.round(this.#horizon.waitedMs(nowMs) / 1000)} s (pg_stat_activity tells whose)`,
      );
    this.#isWaitTold = isHeldBack;
    if (highest >= 0 && highest + 1 < this.#next && !this.#isRestartTold) {
      this.#isRestartTold = true;
      log.warn(
        {},
        `${name}: the highest value of the table ${sql} is ${highest}, and it was read up to ${this.#next - 1}; if its values began anew (TRUNCATE ... RESTART IDENTITY), run \`tailrace checkpoints reset ${this.#options.table}\``,
      );
    }
    return highest;
  }

  async #read(session: PgSession, limit: number): Promise<Row[]> {
    const { sql, cursorSql, columns } = this.#table!;
    const selects = columns.map(({ select }) => select).join(", ");
    const { rows } = await session.query(
      `SELECT ${cursorSql}, ${selects} FROM ${sql} WHERE ${cursorSql} >= $1 ORDER BY ${cursorSql} LIMIT $2`,
      [this.#next, limit],
    );
    return rows.map(([cursor, ...texts]) => ({ cursor: this.#checked(cursor!), texts }));
  }

  /** Those that nothing can come between any more. */
  #final(rows: readonly Row[]): Row[] {
    let next = this.#next;
    let count = 0;
    for (const { cursor } of rows) {
      if (cursor > this.#horizon.safe && cursor !== next) break;
      next = cursor + 1;
      count += 1;
    }
    return rows.slice(0, count);
  }

  async #handOn(rows: readonly Row[], signal: AbortSignal): Promise<void> {
    const { budget, clock, host } = this.#context;
    const { columns } = this.#table!;
    const leased = await leaseBodies(
      rows.map(({ texts }) => JSON.stringify(fieldsOf(columns, texts))),
      budget,
      signal,
    );
    if (leased === undefined) return;
    const messages = rows.map(({ cursor, texts }, index) => ({
      number: cursor,
      body: leased.bodies[index]!,
      fields: fieldsOf(columns, texts),
    }));
    const end = rows.at(-1)!.cursor + 1;
    const batch = Batch.ofMessages(
      this.#origin!,
      new Messages(messages, { readAtMs: clock.now(), host }),
      { start: this.#next, end },
      leased.bytes,
      leased.memory,
    );
    try {
      await this.#sender.send(batch, { signal });
    } catch (thrown) {
      leased.memory.release();
      if (!signal.aborted) throw thrown;
      return;
    }
    this.#next = end;
  }

  #checked(text: string): number {
    const cursor = Number(text);
    if (Number.isSafeInteger(cursor) && cursor < Number.MAX_SAFE_INTEGER) return cursor;
    throw new StageError(
      "TR_STAGE_FAILED",
      this.#context.name,
      `cursor_column "${this.#options.cursorColumn}" has the value ${text}; positions go up to 2^53 - 2`,
    );
  }
}
