import { ByteWriter } from "../../codec/byte-writer.ts";
import { type PgFailure, UNIQUE_VIOLATION } from "../../postgres/failure.ts";
import type { PgSession } from "../../postgres/session.ts";
import { identifier, tableSql } from "../../postgres/table-name.ts";
import type { Body } from "../../postgres/transaction.ts";
import type { Target } from "../../postgres/transactional-sink.ts";
import type { Batch, DataRecord } from "../../record/index.ts";
import type { StageContext } from "../../stage/index.ts";
import { columnText, copyText, MISSING, plainText } from "./copy-text.ts";
import { type Column, createTable, describeTable, type Table } from "./table.ts";

/** Rows that leave out the same columns go into one COPY. */
interface Copy {
  readonly columns: readonly Column[];
  /** As bytes; each valid until the next is asked for. Made anew each time. */
  bytes(): Iterable<Buffer>;
}

type TableRows = readonly Copy[];

/** Rows go out as soon as there are so many bytes of them: the server stores the first while the next are made. */
const CHUNK_BYTES = 65_536;

/** Names of fields without a column that are told, at most. */
const MAX_TOLD = 20;

/** Rows of one table, by COPY. */
export class TableTarget implements Target<TableRows> {
  readonly name: string;
  readonly #options: { readonly table: string; readonly create: boolean };
  readonly #context: StageContext;
  #table: Table | undefined;
  readonly #told = new Set<string>();

  constructor(options: { readonly table: string; readonly create: boolean }, context: StageContext) {
    this.#options = options;
    this.#context = context;
    this.name = `table ${tableSql(options.table)}`;
  }

  async prepare(session: PgSession): Promise<void> {
    const { table, create } = this.#options;
    if (create) await createTable(session, table);
    this.#table = await describeTable(session, table, create, this.#context.name);
  }

  encode(batches: readonly { readonly batch: Batch }[]): TableRows {
    const table = this.#table!;
    const records = batches.flatMap(({ batch }) => batch.records).filter((record) => !isNothing(record));
    if (records.length === 0) return [];
    if (!table.isOurs) return this.#byName(table, records);
    const { columns } = table;
    return [{ columns, bytes: () => chunksOf(records, (record) => ownRow(record, columns)) }];
  }

  body(copies: TableRows): Body {
    const { sql } = this.#table!;
    return {
      statements: copies.map(({ columns }) => copyInto(sql, columns)),
      rows: copies.map(({ bytes }) => bytes()),
    };
  }

  /**
   * A record whose id is there was stored before: by an earlier try that a queue's source does not know of, or by an agent
   * whose state directory is gone.
   */
  otherwise(failure: PgFailure): ((copies: TableRows) => Body) | undefined {
    const table = this.#table!;
    if (failure.sqlState !== UNIQUE_VIOLATION || !table.isOurs) return undefined;
    return (copies) => ({
      statements: copies.flatMap(({ columns }) => {
        const names = columns.map(({ name }) => identifier(name)).join(", ");
        return [
          "DROP TABLE IF EXISTS pg_temp.tailrace_rows",
          `CREATE TEMP TABLE tailrace_rows ON COMMIT DROP AS SELECT ${names} FROM ${table.sql} WITH NO DATA`,
          copyInto("pg_temp.tailrace_rows", columns),
          `INSERT INTO ${table.sql} (${names}) SELECT ${names} FROM pg_temp.tailrace_rows ON CONFLICT ("id") DO NOTHING`,
        ];
      }),
      rows: copies.map(({ bytes }) => bytes()),
    });
  }

  /** Rows by the columns that they fill. */
  #byName(table: Table, records: readonly DataRecord[]): TableRows {
    const copies = new Map<string, { readonly columns: readonly Column[]; readonly rows: string[] }>();
    for (const record of records) {
      const { columns, row } = this.#rowByName(table, record);
      const key = columns.map(({ name }) => name).join("\0");
      let copy = copies.get(key);
      if (copy === undefined) {
        copy = { columns, rows: [] };
        copies.set(key, copy);
      }
      copy.rows.push(row);
    }
    return [...copies.values()].map(({ columns, rows }) => ({ columns, bytes: () => chunksOf(rows, (row) => row) }));
  }

  #rowByName(table: Table, record: DataRecord): { readonly columns: readonly Column[]; readonly row: string } {
    const { event } = record;
    const values: string[] = [];
    const columns: Column[] = [];
    let hasWhole = false;
    for (const column of table.columns) {
      const value = valueByName(column, record);
      if (column.name === "event" && column.kind === "json") hasWhole = true;
      if (value === undefined && column.hasDefault) continue;
      columns.push(column);
      values.push(columnText(value, column.kind));
    }
    if (!hasWhole) this.#tellLost(table, event);
    return { columns, row: `${values.join("\t")}\n` };
  }

  /** A field that no column takes is left out, and that is said once for each name. */
  #tellLost(table: Table, event: DataRecord["event"]): void {
    if (this.#told.size >= MAX_TOLD) return;
    const lost = Object.keys(event).filter(
      (field) => !this.#told.has(field) && field !== "timestamp" && !table.columns.some(({ name }) => name === field),
    );
    if (lost.length === 0) return;
    for (const field of lost.slice(0, MAX_TOLD)) this.#told.add(field);
    this.#context.log.warn(
      { fields: lost.slice(0, MAX_TOLD).join(", ") },
      `the table ${table.sql} has no column for ${lost.slice(0, MAX_TOLD).join(", ")}: left out; a column "event" of type jsonb would take the whole event`,
    );
  }
}

/** An unfinished line of no bytes at rotation's end holds nothing. */
function isNothing({ pieces, range }: DataRecord): boolean {
  return pieces.form === "lines" && range.start === range.end;
}

function* chunksOf<T>(items: readonly T[], rowOf: (item: T) => string): Generator<Buffer, void> {
  const writer = new ByteWriter(CHUNK_BYTES * 2);
  for (const item of items) {
    writer.writeText(rowOf(item));
    if (writer.length < CHUNK_BYTES) continue;
    yield writer.take();
    writer.length = 0;
  }
  if (writer.length > 0) yield writer.take();
}

function copyInto(table: string, columns: readonly Column[]): string {
  return `COPY ${table} (${columns.map(({ name }) => identifier(name)).join(", ")}) FROM STDIN`;
}

/** In a table that we made a column means the same for every event, whatever an event calls its fields. */
function ownRow(record: DataRecord, columns: readonly Column[]): string {
  const { event, origin } = record;
  let row = "";
  for (const [index, column] of columns.entries()) {
    if (index > 0) row += "\t";
    row += ownValue(column, record, event, origin);
  }
  return `${row}\n`;
}

function ownValue(
  column: Column,
  record: DataRecord,
  event: DataRecord["event"],
  origin: DataRecord["origin"],
): string {
  switch (column.name) {
    case "id":
      return record.id;
    case "time":
      return columnText(event["timestamp"], "other");
    case "source":
      return copyText(typeof event["source"] === "string" ? event["source"] : origin.source);
    case "file": {
      const file = typeof event["file"] === "string" ? event["file"] : origin.file;
      return file === undefined ? MISSING : copyText(file);
    }
    case "offset":
      return String(Number.isSafeInteger(event["offset"]) ? event["offset"] : record.offset);
    case "message": {
      const message = event["message"];
      return message === undefined || message === null ? MISSING : copyText(plainText(message));
    }
    case "event":
      return copyText(JSON.stringify(event));
    default:
      return columnText(event[column.name], column.kind);
  }
}

function valueByName(column: Column, record: DataRecord): unknown {
  const { event } = record;
  if (column.name === "event" && column.kind === "json") return event;
  const value = Object.hasOwn(event, column.name) ? event[column.name] : undefined;
  if (value !== undefined) return value;
  if (column.name === "time") return event["timestamp"];
  // A text; a number would have a default, or be the event's own.
  if (column.name === "id" && /^(?:text|character varying)/.test(column.type)) return record.id;
  return undefined;
}
