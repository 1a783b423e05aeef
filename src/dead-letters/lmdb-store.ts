import { chmodSync, closeSync, existsSync, fsyncSync, mkdirSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import { inspectPages, isCutShortCreation } from "../checkpoint/store-pages.ts";
import { CheckpointError, toError } from "../errors.ts";
import type { Random } from "../runtime/random.ts";
import type { DeadLetter } from "./letter.ts";
import {
  type DeadLetterReader,
  type DeadLetterStore,
  type LetterFilter,
  type ReplayOrder,
  storeIsFull,
} from "./store.ts";

/**
 * The durable dead letter store: an LMDB environment of its own in STATE_DIR/dead-letters, so that a flood of refused
 * records neither slows nor fills the checkpoints.
 *
 * | key                | value                                                              |
 * |--------------------|--------------------------------------------------------------------|
 * | ["meta","version"] | "1"                                                                |
 * | ["meta","bytes"]   | bytes of all letters, decimal; written with every change of them   |
 * | ["letter", N]      | the letter as JSON; N rises, so that keys are in order of arrival  |
 * | ["id", id]         | N                                                                  |
 * | ["replay", N]      | token of the order to send letter N again                          |
 *
 * Only LMDB's asynchronous batches are used (its synchronous calls do not survive a full disk), one at a time; each
 * resolves after its fdatasync. One process writes (whoever holds the lock of the state directory), any number reads.
 */
const VERSION = "1";

type Key = ["meta" | "id", string] | ["letter" | "replay", number];

/** Letters looked at between two turns of the event loop, and removed in one transaction. */
const PAGE = 200;

/**
 * Opens the store for writing, and creates it where there is none.
 * @throws CheckpointError `TR_STATE_DAMAGED`, `TR_STATE_NEWER`.
 */
export async function openDeadLetters(options: {
  /** STATE_DIR/dead-letters. */
  readonly folder: string;
  readonly maxBytes: number;
  readonly random: Random;
}): Promise<DeadLetterStore> {
  const { folder } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  chmodSync(folder, 0o700);
  refuseDamage(folder);
  const database = openDatabase(folder, false);
  for (const name of ["data.mdb", "lock.mdb"]) chmodSync(join(folder, name), 0o600);
  try {
    const version = checkVersion(database, folder);
    if (version === undefined) {
      await commit(database, () => {
        database.put(["meta", "version"], VERSION);
        database.put(["meta", "bytes"], "0");
      });
    }
    // LMDB syncs what it writes into its files, not the folders that hold their names (man 2 fsync).
    for (const entry of [folder, dirname(folder)]) syncFolder(entry);
    return new LmdbDeadLetters(database, options);
  } catch (thrown) {
    await database.close();
    throw thrown;
  }
}

/** Opens the store for reading only and changes nothing; a store that does not exist is an empty one. */
export async function openDeadLettersForReading(folder: string): Promise<DeadLetterReader> {
  if (!existsSync(join(folder, "data.mdb")) || isCutShortCreation(join(folder, "data.mdb"))) return emptyReader;
  refuseDamage(folder);
  const database = openDatabase(folder, true);
  checkVersion(database, folder);
  return new LmdbLetterReader(database);
}

const emptyReader: DeadLetterReader = {
  async *list() {},
  get: () => Promise.resolve(undefined),
  async *pendingReplay() {},
  close: () => Promise.resolve(),
};

/** LMDB trusts its file and takes the process down where that is wrong, so the file is read as plain bytes first. */
function refuseDamage(folder: string): void {
  const path = join(folder, "data.mdb");
  if (!existsSync(path) || isCutShortCreation(path)) return;
  let report = inspectPages(path);
  // Another process may have committed while we looked: its reused pages are no damage. Real damage stands still.
  for (let before = -1n; report.damage !== undefined && report.transaction !== before; report = inspectPages(path)) {
    before = report.transaction;
  }
  const { damage } = report;
  if (damage === undefined) return;
  throw new CheckpointError(
    "TR_STATE_DAMAGED",
    `the dead letter store ${folder} is damaged: ${damage}; restore it, or move the folder away to go on without its letters`,
  );
}

function openDatabase(folder: string, readOnly: boolean): RootDatabase<string, Key> {
  return open<string, Key>({ path: folder, encoding: "string", overlappingSync: false, noSubdir: false, readOnly });
}

function checkVersion(database: RootDatabase<string, Key>, folder: string): string | undefined {
  const version = database.get(["meta", "version"]);
  if (version === undefined || version === VERSION) return version;
  throw new CheckpointError(
    "TR_STATE_NEWER",
    `the dead letter store ${folder} has format ${version}, this version knows ${VERSION}; use the version that wrote it`,
  );
}

/** One transaction; resolves once it is flushed. */
async function commit(database: RootDatabase<string, Key>, change: () => void): Promise<void> {
  try {
    await database.batch(change);
  } catch (thrown) {
    const { message } = toError(thrown);
    throw new CheckpointError("TR_COMMIT_FAILED", `the dead letter store could not be written: ${message}`, {
      cause: thrown,
    });
  }
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

class LmdbLetterReader implements DeadLetterReader {
  protected readonly database: RootDatabase<string, Key>;

  constructor(database: RootDatabase<string, Key>) {
    this.database = database;
  }

  async *list(filter: LetterFilter = {}): AsyncGenerator<DeadLetter> {
    for await (const [, json] of this.#rows("letter")) {
      const letter = JSON.parse(json) as DeadLetter;
      if (filter.component === undefined || filter.component === letter.component) yield letter;
    }
  }

  async get(id: string): Promise<DeadLetter | undefined> {
    const number = this.numberOf(id);
    return number === undefined ? undefined : this.letterAt(number);
  }

  async *pendingReplay(): AsyncGenerator<ReplayOrder> {
    for await (const [number, token] of this.#rows("replay")) {
      const letter = this.letterAt(number);
      if (letter !== undefined) yield { letter, token };
    }
  }

  async close(): Promise<void> {
    await this.database.close();
  }

  protected numberOf(id: string): number | undefined {
    const number = this.database.get(["id", id]);
    return number === undefined ? undefined : Number(number);
  }

  protected letterAt(number: number): DeadLetter | undefined {
    const json = this.database.get(["letter", number]);
    return json === undefined ? undefined : (JSON.parse(json) as DeadLetter);
  }

  /** Page by page: a snapshot held open while the caller waits would keep the writer from reusing its pages. */
  async *#rows(table: "letter" | "replay"): AsyncGenerator<[number, string]> {
    let next = 0;
    for (;;) {
      const range = this.database.getRange({
        start: [table, next],
        end: [table, Number.MAX_SAFE_INTEGER],
        limit: PAGE,
      });
      const page = [...range].map(({ key, value }): [number, string] => [key[1] as number, value]);
      yield* page;
      if (page.length < PAGE) return;
      next = page.at(-1)![0] + 1;
    }
  }
}

class LmdbDeadLetters extends LmdbLetterReader implements DeadLetterStore {
  readonly maxBytes: number;
  readonly #random: Random;
  #count = 0;
  #bytes: number;
  #nextNumber = 1;
  #last: Promise<unknown> = Promise.resolve();

  constructor(database: RootDatabase<string, Key>, options: { readonly maxBytes: number; readonly random: Random }) {
    super(database);
    this.maxBytes = options.maxBytes;
    this.#random = options.random;
    this.#bytes = Number(database.get(["meta", "bytes"]) ?? 0);
    this.#count = database.getKeysCount({ start: ["letter", 0], end: ["letter", Number.MAX_SAFE_INTEGER] });
    const last = database.getKeys({
      start: ["letter", Number.MAX_SAFE_INTEGER],
      end: ["letter", 0],
      reverse: true,
      limit: 1,
    });
    for (const key of last) this.#nextNumber = (key[1] as number) + 1;
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isFull(): boolean {
    return this.#bytes >= this.maxBytes;
  }

  put(letters: readonly DeadLetter[]): Promise<void> {
    // Made outside of the queue: what is refused may change once we return.
    const rows = new Map(letters.map((letter) => [letter.id, JSON.stringify(letter)]));
    return this.#exclusively(async () => {
      let grows = 0;
      let added = 0;
      let nextNumber = this.#nextNumber;
      const placed = [...rows].map(([id, json]) => {
        const known = this.numberOf(id);
        grows += Buffer.byteLength(json) - (known === undefined ? 0 : this.#sizeAt(known));
        if (known !== undefined) return { id, json, number: known };
        added += 1;
        nextNumber += 1;
        return { id, json, number: nextNumber - 1 };
      });
      if (grows > 0 && this.#bytes > 0 && this.#bytes + grows > this.maxBytes) throw storeIsFull(this.maxBytes);
      await this.#commit({ bytes: grows, count: added }, () => {
        for (const { id, json, number } of placed) {
          this.database.put(["letter", number], json);
          this.database.put(["id", id], String(number));
          // Refused again: the order that sent it is done with.
          this.database.remove(["replay", number]);
        }
      });
      this.#nextNumber = nextNumber;
    });
  }

  remove(ids: readonly string[]): Promise<number> {
    return this.#removeWhere(ids, () => true);
  }

  async purge(filter: LetterFilter = {}): Promise<number> {
    const ids: string[] = [];
    for await (const { id } of this.list(filter)) ids.push(id);
    return this.remove(ids);
  }

  markForReplay(ids: readonly string[]): Promise<number> {
    return this.#exclusively(async () => {
      const numbers = [...new Set(ids)].map((id) => this.numberOf(id)).filter((number) => number !== undefined);
      if (numbers.length === 0) return 0;
      await commit(this.database, () => {
        for (const number of numbers) this.database.put(["replay", number], this.#random.hex(8));
      });
      return numbers.length;
    });
  }

  finishReplay(orders: readonly { readonly id: string; readonly token: string }[]): Promise<number> {
    const tokens = new Map(orders.map(({ id, token }) => [id, token]));
    return this.#removeWhere(
      [...tokens.keys()],
      (id, number) => this.database.get(["replay", number]) === tokens.get(id),
    );
  }

  override async close(): Promise<void> {
    await this.#last;
    await super.close();
  }

  async #removeWhere(ids: readonly string[], isWanted: (id: string, number: number) => boolean): Promise<number> {
    const unique = [...new Set(ids)];
    let removed = 0;
    for (let at = 0; at < unique.length; at += PAGE) {
      const page = unique.slice(at, at + PAGE);
      removed += await this.#exclusively(() => this.#removePage(page, isWanted));
    }
    return removed;
  }

  async #removePage(ids: readonly string[], isWanted: (id: string, number: number) => boolean): Promise<number> {
    const found: { id: string; number: number }[] = [];
    let bytes = 0;
    for (const id of ids) {
      const number = this.numberOf(id);
      if (number === undefined || !isWanted(id, number)) continue;
      found.push({ id, number });
      bytes += this.#sizeAt(number);
    }
    if (found.length === 0) return 0;
    await this.#commit({ bytes: -bytes, count: -found.length }, () => {
      for (const { id, number } of found) {
        this.database.remove(["letter", number]);
        this.database.remove(["id", id]);
        this.database.remove(["replay", number]);
      }
    });
    return found.length;
  }

  #sizeAt(number: number): number {
    return Buffer.byteLength(this.database.get(["letter", number]) ?? "");
  }

  /** The letters and their sum in one transaction; memory follows only once that is flushed. */
  async #commit(change: { readonly bytes: number; readonly count: number }, write: () => void): Promise<void> {
    const bytes = this.#bytes + change.bytes;
    await commit(this.database, () => {
      write();
      this.database.put(["meta", "bytes"], String(bytes));
    });
    this.#bytes = bytes;
    this.#count += change.count;
  }

  /** One change after the other: each reads what the one before it wrote. */
  #exclusively<Result>(change: () => Promise<Result>): Promise<Result> {
    const done = this.#last.then(change);
    this.#last = done.catch(() => {});
    return done;
  }
}
