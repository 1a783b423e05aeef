import { StageError } from "../../errors.ts";
import type { PgSession } from "../../postgres/session.ts";
import { identifier, tableSql } from "../../postgres/table-name.ts";
import type { EventFields } from "../../record/index.ts";

/** How the text of a column becomes a field. */
type Reading = "text" | "number" | "boolean" | "json";

export interface CursorTable {
  /** Its oid: of two tables of one name the one that was made later is another one. */
  readonly oid: number;
  /** As SQL writes them. */
  readonly sql: string;
  readonly cursorSql: string;
  readonly columns: readonly { readonly name: string; readonly select: string; readonly reading: Reading }[];
}

const INTEGERS = new Set(["smallint", "integer", "bigint"]);

/**
 * Looks whether a table can be read by a cursor.
 * @throws StageError that says what is wrong. PgFailure
 */
export async function describeCursorTable(
  session: PgSession,
  table: string,
  cursor: string,
  component: string,
): Promise<CursorTable> {
  const sql = tableSql(table);
  const refuse = (message: string) => new StageError("TR_STAGE_OPEN", component, message);
  const { rows } = await session.query(
    "SELECT a.attrelid, a.attname, format_type(a.atttypid, NULL), t.typcategory, a.attnotnull, " +
      "has_column_privilege(a.attrelid, a.attnum, 'SELECT'), " +
      "EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid " +
      "AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) " +
      "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid " +
      "WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    [sql],
  );
  if (rows.length === 0) throw refuse(`there is no table ${sql} in the database (for this user and search_path)`);
  const row = rows.find(([, name]) => name === cursor);
  const names = rows.map(([, name]) => name).join(", ");
  if (row === undefined) throw refuse(`the table ${sql} has no column "${cursor}" to be its cursor; it has ${names}`);
  const [oid, , type, , isNotNull, mayRead, isUnique] = row;
  if (mayRead !== "t") throw refuse(`this user may not SELECT from the table ${sql}; GRANT SELECT ON ${sql}`);
  if (!INTEGERS.has(type!))
    throw refuse(`cursor_column "${cursor}" is ${type}; give a column of type smallint, integer or bigint`);
  // Rows of one value could be cut apart by a batch, and rows without one would never be read.
  if (isUnique !== "t")
    throw refuse(`cursor_column "${cursor}" is not unique; give the primary key, or make it UNIQUE`);
  if (isNotNull !== "t")
    throw refuse(`cursor_column "${cursor}" may be NULL, and such rows have no place; SET NOT NULL`);
  const cursorSql = identifier(cursor);
  const lowest = (await session.query(`SELECT min(${cursorSql}) FROM ${sql}`)).rows[0]![0];
  if (lowest !== null && Number(lowest) < 0)
    throw refuse(`cursor_column "${cursor}" has negative values (${lowest}); positions begin at 0`);
  const columns = rows
    .filter(([, , , , , isReadable]) => isReadable === "t")
    .map(([, name, columnType, category]) => {
      const reading = readingOf(columnType!, category!);
      const column = identifier(name!);
      // Times in the form of RFC 3339, arrays and rows as JSON has them.
      const select = reading === "json" && !/^jsonb?$/.test(columnType!) ? `to_json(${column})` : column;
      return { name: name!, select, reading };
    });
  return { oid: Number(oid), sql, cursorSql, columns };
}

function readingOf(type: string, category: string): Reading {
  if (INTEGERS.has(type) || type === "real" || type === "double precision") return "number";
  if (type === "boolean") return "boolean";
  if (type === "json" || type === "jsonb" || category === "A" || category === "C" || category === "D") return "json";
  return "text";
}

/** The fields of a row; `texts` in the order of `columns`. */
export function fieldsOf(columns: CursorTable["columns"], texts: readonly (string | null)[]): EventFields {
  const fields: [string, unknown][] = columns.map(({ name, reading }, index) => {
    const text = texts[index] ?? null;
    return [name, text === null ? null : readValue(text, reading)];
  });
  // By entries: a column named __proto__ is a column.
  return Object.fromEntries(fields);
}

function readValue(text: string, reading: Reading): unknown {
  if (reading === "boolean") return text === "t";
  if (reading === "json") return JSON.parse(text) as unknown;
  if (reading !== "number") return text;
  const number = Number(text);
  // What a number of JSON cannot hold exactly stays as the server writes it.
  return Number.isFinite(number) && (!Number.isInteger(number) || Number.isSafeInteger(number)) ? number : text;
}
