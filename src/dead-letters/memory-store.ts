import type { Random } from "../runtime/random.ts";
import type { DeadLetter } from "./letter.ts";
import { type DeadLetterStore, type LetterFilter, type ReplayOrder, storeIsFull } from "./store.ts";

/** A dead letter store for tests and for libraries without a state directory: it is gone with the process. */
export function memoryDeadLetters(options: { readonly maxBytes: number; readonly random: Random }): DeadLetterStore {
  return new MemoryDeadLetters(options);
}

interface Row {
  readonly json: string;
  readonly token: string | undefined;
}

class MemoryDeadLetters implements DeadLetterStore {
  readonly maxBytes: number;
  readonly #random: Random;
  readonly #rows = new Map<string, Row>();
  #bytes = 0;

  constructor(options: { readonly maxBytes: number; readonly random: Random }) {
    this.maxBytes = options.maxBytes;
    this.#random = options.random;
  }

  get count(): number {
    return this.#rows.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#bytes >= this.maxBytes;
  }

  async put(letters: readonly DeadLetter[]): Promise<void> {
    const rows = new Map(letters.map((letter) => [letter.id, JSON.stringify(letter)]));
    let grows = 0;
    for (const [id, json] of rows) grows += Buffer.byteLength(json) - Buffer.byteLength(this.#rows.get(id)?.json ?? "");
    if (grows > 0 && this.#bytes > 0 && this.#bytes + grows > this.maxBytes) throw storeIsFull(this.maxBytes);
    for (const [id, json] of rows) this.#rows.set(id, { json, token: undefined });
    this.#bytes += grows;
  }

  async *list(filter: LetterFilter = {}): AsyncGenerator<DeadLetter> {
    for (const { json } of [...this.#rows.values()]) {
      const letter = JSON.parse(json) as DeadLetter;
      if (filter.component === undefined || filter.component === letter.component) yield letter;
    }
  }

  async get(id: string): Promise<DeadLetter | undefined> {
    const row = this.#rows.get(id);
    return row === undefined ? undefined : (JSON.parse(row.json) as DeadLetter);
  }

  async *pendingReplay(): AsyncGenerator<ReplayOrder> {
    for (const id of [...this.#rows.keys()]) {
      const { json, token } = this.#rows.get(id) ?? {};
      if (json !== undefined && token !== undefined) yield { letter: JSON.parse(json) as DeadLetter, token };
    }
  }

  async remove(ids: readonly string[]): Promise<number> {
    return this.#removeWhere(ids, () => true);
  }

  async purge(filter: LetterFilter = {}): Promise<number> {
    const ids: string[] = [];
    for await (const { id } of this.list(filter)) ids.push(id);
    return this.remove(ids);
  }

  async markForReplay(ids: readonly string[]): Promise<number> {
    let marked = 0;
    for (const id of new Set(ids)) {
      const row = this.#rows.get(id);
      if (row === undefined) continue;
      this.#rows.set(id, { json: row.json, token: row.token ?? this.#random.hex(8) });
      marked += 1;
    }
    return marked;
  }

  async finishReplay(orders: readonly { readonly id: string; readonly token: string }[]): Promise<number> {
    const tokens = new Map(orders.map(({ id, token }) => [id, token]));
    return this.#removeWhere([...tokens.keys()], (id, row) => row.token === tokens.get(id));
  }

  async close(): Promise<void> {}

  #removeWhere(ids: readonly string[], isWanted: (id: string, row: Row) => boolean): number {
    let removed = 0;
    for (const id of ids) {
      const row = this.#rows.get(id);
      if (row === undefined || !isWanted(id, row)) continue;
      this.#rows.delete(id);
      this.#bytes -= Buffer.byteLength(row.json);
      removed += 1;
    }
    return removed;
  }
}
