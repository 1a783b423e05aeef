import { once } from "node:events";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Client, QueryResult } from "pg";
import type { Clock } from "../runtime/clock.ts";
import { embeddedFolder, placeOf, redactorOf } from "./address.ts";
import { loadPg } from "./driver.ts";
import { embeddedConnection } from "./embedded.ts";
import { failureOf, PgFailure } from "./failure.ts";
import type { Transaction } from "./transaction.ts";

export interface SessionOptions {
  readonly url: string;
  /** What `pg_stat_activity` shows us as. */
  readonly applicationName: string;
  /** Longest wait for the connection, and for each answer. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** A result with its rows as the server writes them: text, or null. */
export interface Rows {
  readonly rows: readonly (readonly (string | null)[])[];
  /** Rows returned, or changed. */
  readonly count: number;
}

/**
 * What every session asks for. An agent that is cut off in the middle of a transaction must not hold its locks for hours:
 * the server ends the transaction by itself, and probes a connection that says nothing (on a Unix socket these do nothing).
 */
const SETTINGS =
  "SELECT set_config('idle_in_transaction_session_timeout', $1, false), set_config('tcp_keepalives_idle', '15', false), " +
  "set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '4', false), " +
  "set_config('client_min_messages', 'warning', false)";

const END_MS = 2000;

/**
 * One connection to Postgres: one request after the other, each with a limit. A request that fails for the connection's
 * sake, or takes too long, or is given up, ends the session: what became of it only a new one can tell.
 */
export class PgSession {
  readonly #client: Client;
  readonly #stream: Duplex;
  readonly #options: SessionOptions;
  readonly #redact: (text: string) => string;
  #trouble: string | undefined;
  /** The server may hang up at any time, also while nothing is asked. */
  onEnd: () => void = () => {};

  private constructor(client: Client, stream: Duplex, options: SessionOptions, redact: (text: string) => string) {
    this.#client = client;
    this.#stream = stream;
    this.#options = options;
    this.#redact = redact;
    client.on("error", (error) => this.destroy(failureOf(error, redact).message));
    client.on("end", () => this.destroy("the connection was closed"));
  }

  /**
   * Connects.
   * @throws PgFailure: not reachable, refused, or no answer in time. ConfigError: a package is missing.
   */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<PgSession> {
    const { url, applicationName, timeoutMs, clock } = options;
    const redact = redactorOf(url);
    const pg = await loadPg();
    const folder = embeddedFolder(url);
    const stream = folder === undefined ? new Socket() : await embeddedConnection(folder);
    let session: PgSession | undefined;
    let late: string | undefined;
    const giveUp = (reason: string) => {
      late ??= reason;
      stream.destroy();
    };
    const onAbort = () => giveUp("given up");
    const timer = clock.after(timeoutMs, () => giveUp(`no connection to ${placeOf(url)} within ${timeoutMs} ms`));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      if (signal.aborted) onAbort();
      const client = new pg.Client({
        ...(folder === undefined
          ? { connectionString: url }
          : { user: "postgres", database: "postgres", host: "pglite", password: "" }),
        application_name: applicationName,
        keepAlive: true,
        stream: () => stream,
      });
      session = new PgSession(client, stream, options, redact);
      await client.connect();
      if (folder === undefined) await session.query(SETTINGS, [String(Math.max(timeoutMs, 1000))]);
      return session;
    } catch (thrown) {
      session?.destroy("not connected");
      const failure = failureOf(thrown, redact);
      if (late !== undefined) throw new PgFailure(late, { kind: "passing", cause: failure });
      throw new PgFailure(`${placeOf(url)}: ${failure.message}`, {
        kind: failure.kind,
        ...(failure.sqlState === undefined ? {} : { sqlState: failure.sqlState }),
        cause: failure,
      });
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Why nothing can be asked any more. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  onNotification(take: (channel: string) => void): void {
    this.#client.on("notification", ({ channel }) => take(channel));
  }

  /**
   * One statement with its values.
   * @throws PgFailure
   */
  async query(text: string, values: readonly unknown[] = []): Promise<Rows> {
    const result = await this.#within(
      this.#client.query({ text, values: [...values], rowMode: "array", types: AS_TEXT }),
    );
    return { rows: result.rows as (string | null)[][], count: result.rowCount ?? 0 };
  }

  /**
   * Several statements without values in one go.
   * @returns rows changed or returned by each
   * @throws PgFailure: none of what follows the failed one was carried out.
   */
  async batch(statements: readonly string[]): Promise<number[]> {
    const results = (await this.#within(this.#client.query(statements.join(";\n")))) as unknown as
      | QueryResult
      | QueryResult[];
    return [results].flat().map(({ rowCount }) => rowCount ?? 0);
  }

  /**
   * A whole transaction; each answer within the limit.
   * @throws PgFailure; what making its rows threw, as it is: the session is over then
   */
  async carryOut(transaction: Transaction): Promise<void> {
    this.#client.query(transaction);
    try {
      await this.#within(transaction.done, transaction);
    } finally {
      transaction.stop();
    }
    if (transaction.notMade === undefined) return;
    this.destroy("the rows of a transaction could not be made");
    throw transaction.notMade.error;
  }

  /** From now on what it commits may be lost by a server that dies within half a second, in the order of the commits. */
  async commitSoon(): Promise<void> {
    // The sessions of an embedded database share their settings.
    if (embeddedFolder(this.#options.url) === undefined) await this.batch(["SET synchronous_commit = off"]);
  }

  /** Text as a literal of SQL, for `batch`. */
  literal(text: string): string {
    return this.#client.escapeLiteral(text);
  }

  /** A good-bye; the transaction that is open, if one is, is rolled back. */
  async close(): Promise<void> {
    if (this.#trouble !== undefined) return;
    this.#trouble = "closed";
    const timer = this.#options.clock.after(END_MS, () => this.#stream.destroy());
    const closed = this.#stream.closed ? undefined : once(this.#stream, "close").catch(() => {});
    await this.#client.end().catch(() => {});
    await closed;
    timer.cancel();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** At once; what is under way fails, and its outcome is unknown. */
  destroy(reason: string): void {
    if (this.#trouble !== undefined) return;
    this.#trouble = reason;
    this.#stream.destroy();
    this.onEnd();
  }

  async #within<T>(answer: Promise<T>, signs?: { onProgress: () => void }): Promise<T> {
    const { clock, timeoutMs } = this.#options;
    const begin = () => clock.after(timeoutMs, () => this.destroy(`no answer within ${timeoutMs} ms`));
    let timer = begin();
    if (signs !== undefined)
      signs.onProgress = () => {
        timer.cancel();
        timer = begin();
      };
    try {
      return await answer;
    } catch (thrown) {
      if (this.#trouble !== undefined) throw new PgFailure(this.#trouble, { kind: "passing", cause: thrown });
      throw failureOf(thrown, this.#redact);
    } finally {
      timer.cancel();
      if (signs !== undefined) signs.onProgress = () => {};
    }
  }
}

/** Values stay as the server wrote them: what a number or a time is, who asked knows best. */
const AS_TEXT = { getTypeParser: () => (text: string) => text } as unknown as import("pg").CustomTypesConfig;
