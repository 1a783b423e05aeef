import type { SchemaElement } from "hyparquet";
import type { JournalEvent } from "./journal.ts";
import { type ColumnType, REST_COLUMN } from "./options.ts";
import { isTimeSlot, TIME_SLOT_COLUMNS } from "./time-slot-columns.ts";
import { parseTimestamp } from "./timestamp.ts";

/*
 * | type        | Parquet                                 | takes |
 * |-------------|-----------------------------------------|-------|
 * | `boolean`   | BOOLEAN                                 | true, false |
 * | `int64`     | INT64                                   | integers that a double holds exactly |
 * | `double`    | DOUBLE                                  | numbers |
 * | `string`    | BYTE_ARRAY, UTF8                        | text |
 * | `timestamp` | INT64, TIMESTAMP of nanoseconds, UTC    | RFC 3339 |
 * | `json`      | BYTE_ARRAY, JSON                        | anything |
 *
 * Every column is optional: null, or missing, is null.
 */

export interface Column {
  readonly name: string;
  readonly type: ColumnType;
  /** Somebody wrote the type down: text that says a number, or a number for text, is converted where nothing gets lost. */
  readonly isDeclared: boolean;
}

export interface Schema {
  readonly columns: readonly Column[];
  /** What becomes of what has no column, or does not fit: the column `event`; or the schema has to be made anew. */
  readonly hasRest: boolean;
}

/** As many columns as readers still like; further fields go into `event`. */
const MAX_COLUMNS = 1000;

/** The schema of somebody's configuration; the same for every file. */
export function declaredSchema(columns: { readonly [name: string]: ColumnType }): Schema {
  return {
    columns: Object.entries(columns).map(([name, type]) => ({ name, type, isDeclared: true })),
    hasRest: true,
  };
}

/** Finds the schema that all events it was shown fit. */
export class SchemaGuess {
  /** Field -> kinds of its values, as a set of bits. */
  readonly #kinds = new Map<string, number>();
  #isOverfull = false;
  #isTimeSlots: boolean | undefined;

  observe(events: readonly JournalEvent[]): void {
    for (const event of events) {
      this.#isTimeSlots = (this.#isTimeSlots ?? true) && isTimeSlot(event);
      for (const name of Object.keys(event)) {
        const known = this.#kinds.get(name);
        if (known === undefined && this.#kinds.size >= MAX_COLUMNS) this.#isOverfull = true;
        else this.#kinds.set(name, (known ?? 0) | kindOf(name, event[name]));
      }
    }
  }

  schema(): Schema {
    // Where there is an `event` column for the rest, a field of that name is a part of it.
    const names = [...this.#kinds.keys()].filter((name) => !this.#isOverfull || name !== REST_COLUMN);
    const inferred = new Map(names.map((name) => [name, typeOf(this.#kinds.get(name)!)]));
    const slots = this.#isTimeSlots ? TIME_SLOT_COLUMNS : [];
    const first = slots.map(([name, type]): Column => {
      const kinds = this.#kinds.get(name) ?? 0;
      // A transform may have made something else of it.
      return { name, type: kinds === 0 ? type : fitting(type, inferred.get(name)!), isDeclared: false };
    });
    const isFirst = new Set(first.map(({ name }) => name));
    const others = [...inferred].filter(([name]) => !isFirst.has(name));
    const columns = [...first, ...others.map(([name, type]): Column => ({ name, type, isDeclared: false }))];
    // A file without a column has no rows for its readers, however many events without a field there were.
    return { columns, hasRest: this.#isOverfull || columns.length === 0 };
  }
}

const BOOLEAN = 1;
const INTEGER = 2;
const FRACTION = 4;
const TEXT = 8;
const TIME = 16;
const OTHER = 32;

/** Fields whose text is known to be a time; elsewhere text stays what it is. */
const TIME_FIELDS: ReadonlySet<string> = new Set(["timestamp", "slot_start"]);

function kindOf(name: string, value: unknown): number {
  switch (typeof value) {
    case "boolean":
      return BOOLEAN;
    case "number":
      return Number.isSafeInteger(value) ? INTEGER : FRACTION;
    case "string":
      return TIME_FIELDS.has(name) && isCanonicalTime(value) ? TIME : TEXT;
    default:
      return value === null || value === undefined ? 0 : OTHER;
  }
}

function typeOf(kinds: number): ColumnType {
  if (kinds === BOOLEAN) return "boolean";
  if (kinds === INTEGER) return "int64";
  if (kinds === FRACTION || kinds === (INTEGER | FRACTION)) return "double";
  if (kinds === TIME) return "timestamp";
  return (kinds & ~(TEXT | TIME)) === 0 ? "string" : "json";
}

/** The type of the time slots' own, unless the values are of another one. */
const fitting = (known: ColumnType, found: ColumnType): ColumnType => (known === found ? known : found);

/** In UTC: an offset would be lost, and with it a part of what the text said. */
const isCanonicalTime = (text: string): boolean => text.endsWith("Z") && parseTimestamp(text) !== undefined;

/**
 * A value as the column holds it until it is written: numbers for `int64` and `double`, nanoseconds for `timestamp`, text
 * for `json`. Undefined: it does not fit.
 */
export function valueFor({ type, isDeclared }: Column, value: unknown): boolean | number | bigint | string | undefined {
  switch (type) {
    case "boolean":
      return typeof value === "boolean" ? value : undefined;
    case "int64":
      if (typeof value === "number") return Number.isSafeInteger(value) ? value : undefined;
      return isDeclared ? numberIn(value, Number.isSafeInteger) : undefined;
    case "double":
      if (typeof value === "number") return value;
      return isDeclared ? numberIn(value, Number.isFinite) : undefined;
    case "string":
      if (typeof value === "string") return value;
      return isDeclared && (typeof value === "number" || typeof value === "boolean") ? String(value) : undefined;
    case "timestamp":
      if (typeof value !== "string") return undefined;
      return isDeclared || value.endsWith("Z") ? parseTimestamp(value) : undefined;
    case "json":
      return JSON.stringify(value);
  }
}

/** The number that a text is, only if the number says the same again. */
function numberIn(value: unknown, isWanted: (number: number) => boolean): number | undefined {
  if (typeof value !== "string") return undefined;
  const number = Number(value);
  return isWanted(number) && String(number) === value ? number : undefined;
}

/** The column as the footer describes it (parquet.thrift, SchemaElement). */
export function schemaElement({ name, type }: Column): SchemaElement {
  const optional = { name, repetition_type: "OPTIONAL" } as const;
  switch (type) {
    case "boolean":
      return { ...optional, type: "BOOLEAN" };
    case "int64":
      return { ...optional, type: "INT64" };
    case "double":
      return { ...optional, type: "DOUBLE" };
    case "string":
      return { ...optional, type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" } };
    case "timestamp":
      return { ...optional, type: "INT64", logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "NANOS" } };
    case "json":
      // Without `converted_type`, for which the writer would make JSON once more of what is text by now.
      return { ...optional, type: "BYTE_ARRAY", logical_type: { type: "JSON" } };
  }
}
