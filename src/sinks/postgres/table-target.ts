import { type PgFailure, UNIQUE_VIOLATION } from "../../postgres/failure.ts";
import type { PgSession } from "../../postgres/session.ts";
import { identifier, tableSql } from "../../postgres/table-name.ts";
import type { Target } from "../../postgres/transactional-sink.ts";
import type { Batch, DataRecord } from "../../record/index.ts";
import type { StageContext } from "../../stage/index.ts";
import { columnText, copyText, MISSING, plainText } from "./copy-text.ts";
import { type Column, createTable, describeTable, type Table } from "./table.ts";

/** Rows that leave out the same columns go into one COPY. */
interface Copy {
  readonly columns: readonly Column[];
  readonly lines: string[];
}

type TableRows = readonly Copy[];

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
    const copies = new Map<string, Copy>();
    for (const { batch } of batches) {
      for (const record of batch.records) {
        // An unfinished line of no bytes at rotation's end holds nothing.
        if (record.pieces.form === "lines" && record.range.start === record.range.end) continue;
        if (table.isOurs) addRow(copies, table.columns, ownRow(record, table.columns));
        else this.#addByName(copies, table, record);
      }
    }
    return [...copies.values()];
  }

  async send(session: PgSession, copies: TableRows): Promise<void> {
    for (const { columns, lines } of copies)
      await session.copy(copyInto(this.#table!.sql, columns), Buffer.from(lines.join("")));
  }

  /**
   * A record whose id is there was stored before: by an earlier try that a queue's source does not know of, or by an agent
   * whose state directory is gone.
   */
  otherwise(failure: PgFailure): ((session: PgSession, rows: TableRows) => Promise<void>) | undefined {
    const table = this.#table!;
    if (failure.sqlState !== UNIQUE_VIOLATION || !table.isOurs) return undefined;
    return async (session, copies) => {
      for (const { columns, lines } of copies) {
        const names = columns.map(({ name }) => identifier(name)).join(", ");
        await session.batch([
          "DROP TABLE IF EXISTS pg_temp.tailrace_rows",
          `CREATE TEMP TABLE tailrace_rows ON COMMIT DROP AS SELECT ${names} FROM ${table.sql} WITH NO DATA`,
        ]);
        await session.copy(copyInto("pg_temp.tailrace_rows", columns), Buffer.from(lines.join("")));
        await session.batch([
          `INSERT INTO ${table.sql} (${names}) SELECT ${names} FROM pg_temp.tailrace_rows ON CONFLICT ("id") DO NOTHING`,
        ]);
      }
    };
  }

  #addByName(copies: Map<string, Copy>, table: Table, record: DataRecord): void {
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
    addRow(copies, columns, `${values.join("\t")}\n`);
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

function addRow(copies: Map<string, Copy>, columns: readonly Column[], line: string): void {
  const key = columns.map(({ name }) => name).join("\0");
  let copy = copies.get(key);
  if (copy === undefined) {
    copy = { columns, lines: [] };
    copies.set(key, copy);
  }
  copy.lines.push(line);
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
