import { CheckpointError } from "../errors.ts";
import type { Change, FileEntry, Json, StoredState } from "./checkpoint-store.ts";

/**
 * Rows as text, the same for both stores and for export. What is malformed is refused on the way in, where the stack
 * still shows who made it, and on the way out, where the store is damaged.
 *
 * | table    | fields of its key  | value     |
 * |----------|--------------------|-----------|
 * | position | sink, source, file | Position  |
 * | file     | source, file       | FileEntry |
 * | mark     | sink, name         | Json      |
 * | note     | name               | Json      |
 */
const KEY_FIELDS = {
  position: ["sink", "source", "file"],
  file: ["source", "file"],
  mark: ["sink", "name"],
  note: ["name"],
} as const satisfies Record<Change["table"], readonly string[]>;

/** A row that is not what its table says; `field` is the dotted place, such as `value.ranges[2].start`. */
export class RowProblem extends Error {
  readonly field: string;

  constructor(field: string, message: string) {
    super(message);
    this.field = field;
  }
}

/** The key of a change's row: a JSON array of the table and the key's fields, so that no two keys can collide. */
export function rowKey(change: Change): string {
  const fields: unknown = change;
  return JSON.stringify([change.table, ...KEY_FIELDS[change.table].map((name) => (fields as KeyFields)[name])]);
}

type KeyFields = { readonly [name: string]: string };

/**
 * The rows that a commit leaves, by key, undefined for a removed one. Of two changes of one row the later wins.
 * @throws CheckpointError `TR_INTERNAL` for a malformed change: a bug of the caller; nothing was changed.
 */
export function rowsOf(changes: readonly Change[]): Map<string, string | undefined> {
  const rows = new Map<string, string | undefined>();
  for (const change of changes) {
    try {
      checkKey(change as unknown as Raw);
      if (change.value !== undefined) checkValue(change.table, change.value);
    } catch (error) {
      if (!(error instanceof RowProblem)) throw error;
      throw new CheckpointError("TR_INTERNAL", `a malformed ${change.table} row, ${error.field}: ${error.message}`);
    }
    rows.set(rowKey(change), change.value === undefined ? undefined : JSON.stringify(change.value));
  }
  return rows;
}

/** The row behind a key and value as `rowKey` and `rowsOf` made them. @throws RowProblem */
export function readRow(key: string, value: string): Change {
  const [table, ...parts] = parseJson(key, "key") as [string, ...string[]];
  const raw: { [field: string]: unknown } = { table, value: parseJson(value, "value") };
  const fields = KEY_FIELDS[table as Change["table"]];
  if (fields === undefined) throw new RowProblem("table", `there is no table ${JSON.stringify(table)}`);
  for (const [index, field] of fields.entries()) raw[field] = parts[index];
  return checkRow(raw);
}

/** Anything as a row that holds a value. Fields that a newer version added inside a value are kept. @throws RowProblem */
export function checkRow(raw: unknown): Change {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw new RowProblem("", "a row is a JSON object");
  }
  const row = raw as Raw;
  if (typeof row["table"] !== "string" || !Object.hasOwn(KEY_FIELDS, row["table"])) {
    throw new RowProblem("table", `is ${show(row["table"])}; tables are ${Object.keys(KEY_FIELDS).join(", ")}`);
  }
  checkKey(row);
  checkValue(row["table"] as Change["table"], row["value"]);
  return row as unknown as Change;
}

/** Rows, each holding a value, as one state. */
export function stateOf(rows: Iterable<Change>): StoredState {
  const state = {
    positions: [] as { sink: string; source: string; file: string; value: StoredState["positions"][number]["value"] }[],
    files: [] as { source: string; file: string; value: FileEntry }[],
    marks: [] as { sink: string; name: string; value: Json }[],
    notes: [] as { name: string; value: Json }[],
  };
  for (const row of rows) {
    if (row.value === undefined) continue;
    if (row.table === "position") {
      state.positions.push({ sink: row.sink, source: row.source, file: row.file, value: row.value });
    } else if (row.table === "file") state.files.push({ source: row.source, file: row.file, value: row.value });
    else if (row.table === "mark") state.marks.push({ sink: row.sink, name: row.name, value: row.value });
    else state.notes.push({ name: row.name, value: row.value });
  }
  return state;
}

/** The changes that make an empty store hold `state`. */
export function changesOf(state: StoredState): Change[] {
  return [
    ...state.files.map((row) => ({ table: "file", ...row }) as const),
    ...state.positions.map((row) => ({ table: "position", ...row }) as const),
    ...state.marks.map((row) => ({ table: "mark", ...row }) as const),
    ...state.notes.map((row) => ({ table: "note", ...row }) as const),
  ];
}

type Raw = { readonly [field: string]: unknown };

function checkKey(row: Raw): void {
  for (const field of KEY_FIELDS[row["table"] as Change["table"]]) {
    if (typeof row[field] !== "string") throw new RowProblem(field, `is ${show(row[field])}; a string is needed`);
  }
}

function checkValue(table: Change["table"], value: unknown): void {
  if (table === "position") checkPosition(value);
  else if (table === "file") checkFileEntry(value);
  else checkJson(value, "value");
}

function checkPosition(value: unknown): void {
  const { prefix, ranges } = objectAt(value, "value");
  wholeAt(prefix, "value.prefix");
  let last = prefix as number;
  for (const [index, range] of arrayAt(ranges, "value.ranges").entries()) {
    const { start, end } = objectAt(range, `value.ranges[${index}]`);
    if (!isWhole(start) || !isWhole(end) || start <= last || end <= start) {
      const where = `value.ranges[${index}]`;
      wholeAt(start, `${where}.start`);
      wholeAt(end, `${where}.end`);
      if ((start as number) > last) throw new RowProblem(`${where}.end`, `is ${end}, not above its start`);
      throw new RowProblem(`${where}.start`, `is ${start}; it must lie above ${last}, where the part before it ends`);
    }
    last = end;
  }
}

function checkFileEntry(value: unknown): void {
  const entry = objectAt(value, "value");
  for (const field of ["generation", "guardEnd", "lastSize"] as const) wholeAt(entry[field], `value.${field}`);
  stringAt(entry["fileSystem"], "value.fileSystem");
  for (const field of ["inode", "birthNs"] as const) {
    if (typeof entry[field] !== "string" || !/^-?\d+$/.test(entry[field])) {
      throw new RowProblem(`value.${field}`, `is ${show(entry[field])}; a decimal number in a string is needed`);
    }
  }
  for (const field of ["fingerprint", "guard"] as const) {
    const mark = objectAt(entry[field], `value.${field}`);
    wholeAt(mark["length"], `value.${field}.length`);
    stringAt(mark["hash"], `value.${field}.hash`);
  }
  for (const [index, name] of arrayAt(entry["names"], "value.names").entries()) {
    stringAt(name, `value.names[${index}]`);
  }
  let last = -1;
  for (const [index, boundary] of arrayAt(entry["boundaries"], "value.boundaries").entries()) {
    if (!isWhole(boundary)) wholeAt(boundary, `value.boundaries[${index}]`);
    if ((boundary as number) <= last) throw new RowProblem(`value.boundaries[${index}]`, "boundaries must ascend");
    last = boundary as number;
  }
  numberAt(entry["lastSeenMs"], "value.lastSeenMs");
  if (entry["modifiedMs"] !== undefined) numberAt(entry["modifiedMs"], "value.modifiedMs");
  if (entry["order"] !== undefined) numberAt(entry["order"], "value.order");
  if (entry["archive"] !== undefined) {
    const archive = objectAt(entry["archive"], "value.archive");
    wholeAt(archive["bytes"], "value.archive.bytes");
    numberAt(archive["modifiedMs"], "value.archive.modifiedMs");
    if (archive["damage"] !== undefined)
      stringAt(objectAt(archive["damage"], "value.archive.damage")["reason"], "value.archive.damage.reason");
  }
  if (entry["tombstoneSinceMs"] !== undefined) numberAt(entry["tombstoneSinceMs"], "value.tombstoneSinceMs");
}

/** JSON.stringify would drop or bend what is no JSON without a word. */
function checkJson(value: unknown, field: string): void {
  if (value === null || typeof value === "string" || typeof value === "boolean") return;
  if (typeof value === "number") {
    numberAt(value, field);
  } else if (Array.isArray(value)) {
    for (const [index, each] of value.entries()) checkJson(each, `${field}[${index}]`);
  } else if (typeof value === "object" && [Object.prototype, null].includes(Object.getPrototypeOf(value))) {
    for (const [name, each] of Object.entries(value)) checkJson(each, `${field}.${name}`);
  } else {
    throw new RowProblem(field, `is ${show(value)}; a JSON value is needed`);
  }
}

function objectAt(value: unknown, field: string): Raw {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Raw;
  throw new RowProblem(field, `is ${show(value)}; an object is needed`);
}

function arrayAt(value: unknown, field: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new RowProblem(field, `is ${show(value)}; an array is needed`);
}

function stringAt(value: unknown, field: string): void {
  if (typeof value !== "string") throw new RowProblem(field, `is ${show(value)}; a string is needed`);
}

function numberAt(value: unknown, field: string): void {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new RowProblem(field, `is ${show(value)}; a number is needed`);
  }
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function wholeAt(value: unknown, field: string): void {
  if (!isWhole(value)) {
    throw new RowProblem(field, `is ${show(value)}; a whole number of 0 or more is needed`);
  }
}

function parseJson(text: string, field: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RowProblem(field, "is no JSON");
  }
}

function show(value: unknown): string {
  if (value === undefined) return "missing";
  if (typeof value === "bigint" || typeof value === "function" || typeof value === "symbol") return `a ${typeof value}`;
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
