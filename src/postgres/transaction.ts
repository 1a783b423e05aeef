import type { Connection, Submittable } from "pg";

/** A query with its values, which go as they are. */
export interface Query {
  readonly text: string;
  readonly values: readonly (string | Buffer)[];
}

/** What a transaction does. */
export type Body =
  /** Statements without values; each `COPY ... FROM STDIN` among them takes the next of `rows`, in the text format. */
  | { readonly statements: readonly string[]; readonly rows: readonly Iterable<Buffer>[] }
  /** Queries, the next made while the server is at those before. */
  | { readonly queries: Iterable<Query> };

/**
 * A whole transaction as a query of the driver's own kind (PostgreSQL 15, sections 55.2.2 to 55.2.6): one wait for the
 * server instead of one for each statement. Where a statement fails, nothing behind it is carried out.
 *
 * What is sent is made bit by bit, each in a turn of its own: the server works on the first while the next is made, and
 * others have their turns as well.
 */
export abstract class Transaction implements Submittable {
  /** The driver looks for it. */
  callback = () => {};
  /** Called at each sign of life. */
  onProgress = () => {};
  /** Statements of the body that the server has carried out: where it refuses, that is about the next. */
  completed = 0;
  /** What making the rows threw; the transaction must be given up with its connection. */
  notMade: { readonly error: unknown } | undefined;
  readonly done: Promise<void>;
  #settle!: (error?: Error) => void;
  #isOver = false;

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.#settle = (error) => (error === undefined ? resolve() : reject(error));
    });
  }

  /** The server may have read that it is to commit. */
  abstract get isCommitSent(): boolean;
  /** The whole body has been carried out: what fails now is the commit. */
  abstract get isCommitting(): boolean;
  /** Refused, it stays open until it is rolled back. */
  abstract readonly needsRollback: boolean;

  abstract submit(connection: Connection): void;

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Nothing more is made or sent. */
  stop(): void {
    this.#isOver = true;
  }

  /** The next of what is to be sent; undefined: that was all, or it could not be made. */
  protected next<T>(items: Iterator<T>): T | undefined {
    try {
      const { done, value } = items.next();
      return done === true ? undefined : value;
    } catch (error) {
      this.notMade = { error };
      this.handleReadyForQuery();
      return undefined;
    }
  }

  handleCommandComplete(): void {
    this.completed += 1;
    this.onProgress();
  }

  handleError(error: Error): void {
    this.#isOver = true;
    this.#settle(error);
  }

  handleReadyForQuery(): void {
    this.#isOver = true;
    this.#settle();
  }

  // What a SELECT brings nobody asked for.
  handleRowDescription(): void {}
  handleDataRow(): void {}
}

/**
 *     "BEGIN; ...; COPY ...; COMMIT" --> CopyInResponse, CopyData ... CopyDone --> CommandComplete, ReadyForQuery
 *                             the first rows are made --'
 */
export class Script extends Transaction {
  readonly needsRollback = true;
  readonly #statements: readonly string[];
  readonly #rows: Iterator<Buffer>[];
  #made: { readonly chunk: Buffer | undefined } | undefined;

  constructor(statements: readonly string[], rows: readonly Iterable<Buffer>[]) {
    super();
    this.#statements = statements;
    this.#rows = rows.map((each) => each[Symbol.iterator]());
    // BEGIN is not of the body.
    this.completed = -1;
  }

  /** The server reads on behind the last row only. */
  get isCommitSent(): boolean {
    return this.#rows.length === 0;
  }

  get isCommitting(): boolean {
    return this.completed >= this.#statements.length;
  }

  submit(connection: Connection): void {
    connection.query(["BEGIN", ...this.#statements, "COMMIT"].join(";\n"));
    this.#make();
  }

  handleCopyInResponse(connection: CopyConnection): void {
    this.onProgress();
    this.#send(connection);
  }

  #send(connection: CopyConnection): void {
    const chunk = this.isOver ? undefined : this.#make();
    if (this.isOver) return;
    this.#made = undefined;
    if (chunk !== undefined) connection.sendCopyFromChunk(chunk);
    if (chunk !== undefined && this.#make() !== undefined) {
      setImmediate(() => this.#send(connection));
      return;
    }
    if (this.isOver) return;
    this.#made = undefined;
    this.#rows.shift();
    connection.endCopyFrom();
    this.#make();
  }

  /** Valid until the next is made. */
  #make(): Buffer | undefined {
    const [rows] = this.#rows;
    if (rows === undefined) return undefined;
    this.#made ??= { chunk: this.next(rows) };
    return this.#made.chunk;
  }
}

/**
 *     Parse, Bind, Execute --> Bind, Execute ... Sync --> CommandComplete, ReadyForQuery
 *
 * All before the Sync is one transaction, and behind an error nothing is read until there.
 */
export class Chain extends Transaction {
  readonly needsRollback = false;
  readonly #queries: Iterator<Query>;
  #sent = 0;
  #lastText: string | undefined;
  #isSynced = false;

  constructor(queries: Iterable<Query>) {
    super();
    this.#queries = queries[Symbol.iterator]();
  }

  get isCommitSent(): boolean {
    return this.#isSynced;
  }

  get isCommitting(): boolean {
    return this.#isSynced && this.completed >= this.#sent;
  }

  submit(connection: Connection): void {
    this.#send(connection as ChainConnection);
  }

  override handleError(error: Error, connection?: ChainConnection): void {
    // The server waits for it.
    if (!this.#isSynced) connection?.sync();
    super.handleError(error);
  }

  #send(connection: ChainConnection): void {
    const { stream } = connection;
    stream.cork();
    for (let bytes = 0; bytes < TURN_BYTES && !this.isOver; ) {
      const query = this.next(this.#queries);
      if (this.isOver) break;
      if (query === undefined) {
        this.#isSynced = true;
        connection.sync();
        break;
      }
      this.#sendOne(connection, query);
      for (const value of query.values) bytes += value.length;
    }
    stream.uncork();
    if (!this.isOver && !this.#isSynced) setImmediate(() => this.#send(connection));
  }

  #sendOne(connection: ChainConnection, { text, values }: Query): void {
    this.#sent += 1;
    // The same statement once more has been parsed.
    if (text !== this.#lastText) connection.parse({ text, name: "", types: [] });
    this.#lastText = text;
    connection.bind({ portal: "", statement: "", values, binary: false, valueMapper: AS_IT_IS });
    connection.execute({ portal: "", rows: 0 });
  }
}

/** Sent in one turn, and what passes it. */
const TURN_BYTES = 65_536;

const AS_IT_IS = (value: unknown) => value;

interface CopyConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}

/** What the driver's types do not tell. */
type ChainConnection = Connection & {
  readonly stream: { cork(): void; uncork(): void };
  parse(statement: { text: string; name: string; types: readonly number[] }): void;
  bind(portal: {
    portal: string;
    statement: string;
    values: readonly unknown[];
    binary: boolean;
    valueMapper: (value: unknown) => unknown;
  }): void;
  execute(portal: { portal: string; rows: number }): void;
  sync(): void;
};
