import { StageError } from "../../errors.ts";
import type { PgSession } from "../../postgres/session.ts";
import { tableSql } from "../../postgres/table-name.ts";
import type { ColumnKind } from "./copy-text.ts";

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly kind: ColumnKind;
  /** A row without a value gets one: it must be left out of the COPY, not given as missing. */
  readonly hasDefault: boolean;
}

export interface Table {
  /** As SQL writes it. */
  readonly sql: string;
  /** Those that may be written. */
  readonly columns: readonly Column[];
  /** It has every column of a table that `create` makes, and is unique on the record's id. */
  readonly isOurs: boolean;
}

/** What `create` makes, in this order (product contract). */
const OWN_COLUMNS: { readonly [name: string]: string } = {
  id: "text",
  time: "timestamp with time zone",
  source: "text",
  file: "text",
  offset: "bigint",
  message: "text",
  event: "jsonb",
};

export async function createTable(session: PgSession, name: string): Promise<void> {
  const { rows } = await session.query("SELECT to_regclass($1)", [tableSql(name)]);
  // Asked first: CREATE TABLE needs a privilege on the schema even where there is nothing to make.
  if (rows[0]![0] !== null) return;
  const columns = Object.entries(OWN_COLUMNS).map(
    ([column, type]) => `"${column}" ${type}${column === "id" ? " PRIMARY KEY" : ""}`,
  );
  // Two agents that make one table at once: the second finds it made.
  await session.query("SELECT pg_advisory_xact_lock(hashtext($1))", [`tailrace ${name}`]);
  await session.query(`CREATE TABLE IF NOT EXISTS ${tableSql(name)} (${columns.join(", ")})`);
}

/**
 * The table as it is.
 * @param created The configuration says that it is one that we make: it must have our columns.
 * @throws StageError that says what is missing; PgFailure
 */
export async function describeTable(
  session: PgSession,
  name: string,
  created: boolean,
  component: string,
): Promise<Table> {
  const sql = tableSql(name);
  const refuse = (message: string) => new StageError("TR_STAGE_OPEN", component, message);
  const { rows } = await session.query(
    "SELECT a.attname, format_type(a.atttypid, NULL), t.typcategory, a.atthasdef OR a.attidentity <> '', " +
      "a.attgenerated <> '' OR a.attidentity = 'a', has_table_privilege(a.attrelid, 'INSERT'), " +
      "EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid " +
      "AND i.indpred IS NULL AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) " +
      "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid " +
      "WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    [sql],
  );
  if (rows.length === 0)
    throw refuse(
      `there is no table ${sql} in the database (for this user and search_path); make it, or set create = true`,
    );
  if (rows[0]![5] !== "t") throw refuse(`this user may not INSERT into the table ${sql}; GRANT INSERT ON ${sql}`);
  const typeOf = new Map(rows.map(([column, type]) => [column!, type!]));
  const lacking = Object.entries(OWN_COLUMNS).filter(([column, type]) => typeOf.get(column) !== type);
  if (created && lacking.length > 0) {
    const list = lacking.map(([column, type]) => `"${column}" ${type}`).join(", ");
    throw refuse(
      `the table ${sql} is there, but not as create = true makes it: it lacks ${list}; add what it lacks, or set create = false to fill the columns that it has by their names`,
    );
  }
  const isUnique = rows.some(([column, , , , , , unique]) => column === "id" && unique === "t");
  if (created && !isUnique)
    throw refuse(
      `the table ${sql} is there, but not unique on "id", as create = true makes it; add a primary key on it`,
    );
  const columns = rows
    .filter(([, , , , isMade]) => isMade !== "t")
    .map(([column, type, category, hasDefault]) => ({
      name: column!,
      type: type!,
      kind: kindOf(type!, category!),
      hasDefault: hasDefault === "t",
    }));
  return { sql, columns, isOurs: lacking.length === 0 && isUnique };
}

function kindOf(type: string, category: string): ColumnKind {
  if (type === "json" || type === "jsonb") return "json";
  if (type === "bytea") return "bytes";
  return category === "A" ? "array" : "other";
}
