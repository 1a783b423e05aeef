import { type Column, type Schema, valueFor } from "./columns.ts";
import type { JournalEvent } from "./journal.ts";
import { REST_COLUMN } from "./options.ts";
import { TextSlab } from "./text-slab.ts";

/** An event that the schema has no place for: it was guessed from too few. */
export class SchemaMisfit extends Error {}

type Value = boolean | number | bigint | string | null;

/** Distinct texts of a column up to which it is not asked whether they repeat, and beyond which it does not matter. */
const MIN_TEXTS = 16_384;
const MAX_TEXTS = 65_536;
/** What a value takes in memory, beside its text. */
const VALUE_BYTES = 8;

/** The values of the records of one row group, column by column. */
export class RowGroup {
  readonly columns: readonly Filling[];
  rows = 0;
  /** Estimate of what the values take in memory. */
  bytes = 0;
  readonly #byName: ReadonlyMap<string, Filling>;
  readonly #rest: Filling | undefined;

  constructor({ columns, hasRest }: Schema) {
    const fillings = columns.map((column) => new Filling(column));
    this.#byName = new Map(fillings.map((filling) => [filling.column.name, filling]));
    this.#rest = hasRest ? new Filling({ name: REST_COLUMN, type: "json", isDeclared: false }) : undefined;
    this.columns = this.#rest === undefined ? fillings : [...fillings, this.#rest];
  }

  /** @throws SchemaMisfit where the schema has no `event` column; the group is of no use any more then. */
  add(event: JournalEvent): void {
    let rest: { [field: string]: unknown } | undefined;
    for (const name of Object.keys(event)) {
      const value = event[name];
      if (value === null || value === undefined) continue;
      const filling = this.#byName.get(name);
      const taken = filling?.put(value, this.rows);
      if (taken !== undefined) {
        this.bytes += taken;
        continue;
      }
      if (this.#rest === undefined)
        throw new SchemaMisfit(`the field ${JSON.stringify(name)} has no column that it fits`);
      rest ??= {};
      Object.defineProperty(rest, name, { value, enumerable: true, writable: true, configurable: true });
    }
    if (rest !== undefined) this.bytes += this.#rest!.put(rest, this.rows)!;
    this.rows += 1;
  }

  /** Makes all columns as long as the group; to be called before they are read. */
  level(): void {
    for (const filling of this.columns) filling.fill(this.rows);
  }
}

/** The values of one column. */
class Filling {
  readonly column: Column;
  /** Of texts that hardly repeat: indexes into the slab. */
  readonly #values: Value[] = [];
  /** Each text once, while texts repeat. */
  #texts: Map<string, string> | undefined = new Map();
  #slab: TextSlab | undefined;
  #last: { readonly value: unknown; readonly fitted: Value | undefined } | undefined;

  constructor(column: Column) {
    this.column = column;
  }

  /** Takes a value of row `row`; what it needs in memory, bytes. Undefined: it does not fit. */
  put(value: unknown, row: number): number | undefined {
    // Neighbours were often read at the same time, from the same file.
    if (this.#last === undefined || this.#last.value !== value) {
      this.#last = { value, fitted: valueFor(this.column, value) };
    }
    const { fitted } = this.#last;
    if (fitted === undefined) return undefined;
    this.fill(row);
    return typeof fitted === "string" ? this.#putText(fitted) : this.#put(fitted);
  }

  /** Nulls for the rows before `row` that had no value. */
  fill(row: number): void {
    while (this.#values.length < row) this.#values.push(null);
  }

  /** True if texts repeat too little for a dictionary. */
  get isPlain(): boolean {
    return this.#slab !== undefined;
  }

  /** A value for each row; texts that hardly repeat as UTF-8. */
  values(): readonly (Value | Uint8Array)[] {
    const slab = this.#slab;
    if (slab === undefined) return this.#values;
    return this.#values.map((index) => (index === null ? null : slab.at(index as number)));
  }

  #put(value: Value): number {
    this.#values.push(value);
    return VALUE_BYTES;
  }

  #putText(text: string): number {
    if (this.#slab !== undefined) return this.#put(this.#slab.add(text)) + text.length;
    const texts = this.#texts!;
    const known = texts.get(text);
    if (known !== undefined) return this.#put(known);
    texts.set(text, text);
    this.#put(text);
    if (texts.size > MAX_TEXTS || (texts.size > MIN_TEXTS && texts.size * 2 > this.#values.length)) this.#toSlab();
    return VALUE_BYTES + text.length;
  }

  #toSlab(): void {
    const slab = new TextSlab();
    this.#slab = slab;
    this.#texts = undefined;
    this.#values.forEach((value, row) => {
      if (value !== null) this.#values[row] = slab.add(value as string);
    });
  }
}
