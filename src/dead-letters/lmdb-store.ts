import { join, resolve } from "node:path";
import { LmdbEnvironment } from "../checkpoint/lmdb-environment.ts";
import { keepReserve, releaseReserve } from "../checkpoint/reserve-file.ts";
import {
  closeToOthers,
  makeFolder,
  removeFile,
  replaceFile,
  type StatePaths,
  sizeOf,
  syncFolder,
  unusable,
} from "../checkpoint/state-directory.ts";
import { checkAccess, checkRoom } from "../checkpoint/store-files.ts";
import { inspectPages, isCutShortCreation } from "../checkpoint/store-pages.ts";
import { CheckpointError, errnoOf, toError } from "../errors.ts";
import { isLocked } from "../runtime/directory-lock.ts";
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
 * records neither slows nor fills the checkpoints. lmdb-environment.ts knows how to live with LMDB; here is what is in it.
 *
 * | key                       | value                                                             |
 * |---------------------------|-------------------------------------------------------------------|
 * | `meta`                    | {"version", "bytes", "count", "next"}, written with every change  |
 * | `letter/0000000000000017` | the letter as JSON; numbers rise, so that keys are in order       |
 * | `id/<id>`                 | its number                                                        |
 * | `replay/0000000000000017` | token of the order to send letter 17 again                        |
 *
 * One process writes (whoever holds the lock of the state directory), any number reads.
 */
const VERSION = 1;

interface Meta {
  readonly version: number;
  /** Of all letters, as JSON. */
  readonly bytes: number;
  readonly count: number;
  /** Number of the next letter. */
  readonly next: number;
}

/** Given up so that letters can be removed on a full disk, where a transaction of one may take some hundred KiB. */
const RESERVE_BYTES = 1024 * 1024;

/** Letters looked at in one turn, and removed in one transaction. */
const PAGE = 200;

/**
 * Opens the store for writing, and creates it where there is none.
 * @throws CheckpointError `TR_STATE_DAMAGED`, `TR_STATE_NEWER`, `TR_STATE_UNUSABLE`.
 */
export async function openDeadLetters(options: {
  /** STATE_DIR/dead-letters. */
  readonly folder: string;
  readonly maxBytes: number;
  readonly random: Random;
}): Promise<DeadLetterStore> {
  const paths = pathsOf(options.folder);
  try {
    await makeFolder(paths.storeDir, 0o700);
    await closeToOthers(paths.storeDir, 0o700);
    const isNew = await isNothingYet(paths);
    if (isNew) await removeFile(paths.data);
    else await refuseDamage(paths);
    await checkAccess(paths, { isReadOnly: false });
    if (isNew) await checkRoom(paths);
    const environment = await LmdbEnvironment.open(paths.storeDir, paths, { isReadOnly: false });
    try {
      let meta = await metaOf(environment, paths);
      if (meta === undefined) {
        meta = { version: VERSION, bytes: 0, count: 0, next: 1 };
        await environment.write(new Map([["meta", JSON.stringify(meta)]]));
      }
      if ((await sizeOf(paths.marker)) === undefined) await finishCreation(paths);
      for (const file of [paths.data, paths.lock]) await closeToOthers(file, 0o600);
      // Without it all works but deleting letters on a full disk.
      await keepReserve(paths.storeDir, { bytes: RESERVE_BYTES });
      return new LmdbDeadLetters(environment, meta, options);
    } catch (thrown) {
      await environment.close();
      throw thrown;
    }
  } catch (thrown) {
    throw unusable(paths.storeDir, "the dead letters cannot be opened", thrown);
  }
}

/** Opens the store for reading only and changes nothing; a store that does not exist is an empty one. */
export async function openDeadLettersForReading(folder: string): Promise<DeadLetterReader> {
  const paths = pathsOf(folder);
  try {
    if (await isNothingYet(paths)) return emptyReader;
    // The running process has checked it, and vouches for it; beside a flood of letters a check would have no end.
    if (!(await isLocked(paths.dir))) await refuseDamage(paths, { mayBeWritten: true });
    await checkAccess(paths, { isReadOnly: true });
    const environment = await LmdbEnvironment.open(paths.storeDir, paths, { isReadOnly: true });
    try {
      await metaOf(environment, paths);
    } catch (thrown) {
      await environment.close();
      throw thrown;
    }
    return new LmdbLetterReader(environment);
  } catch (thrown) {
    throw unusable(paths.storeDir, "the dead letters cannot be read", thrown);
  }
}

const emptyReader: DeadLetterReader = {
  async *list() {},
  get: () => Promise.resolve(undefined),
  async *pendingReplay() {},
  close: () => Promise.resolve(),
};

function pathsOf(folder: string): StatePaths {
  const storeDir = resolve(folder);
  return {
    dir: join(storeDir, ".."),
    marker: join(storeDir, "created"),
    cleanStop: join(storeDir, "clean-stop"),
    reserve: join(storeDir, "reserve"),
    storeDir,
    data: join(storeDir, "data.mdb"),
    lock: join(storeDir, "lock.mdb"),
  };
}

/** True where there is no store, or one whose creation was cut short before it could hold a letter. */
async function isNothingYet(paths: StatePaths): Promise<boolean> {
  const size = await sizeOf(paths.data);
  const isMarked = (await sizeOf(paths.marker)) !== undefined;
  if (isMarked && (size ?? 0) === 0)
    throw damaged(paths, size === undefined ? "data.mdb is missing" : "data.mdb is empty");
  return size === undefined || (!isMarked && isCutShortCreation(paths.data));
}

/** LMDB syncs what it writes into its files, not the folders that hold their names (man 2 fsync). */
async function finishCreation(paths: StatePaths): Promise<void> {
  await syncFolder(paths.storeDir);
  await syncFolder(paths.dir);
  // Dying here leaves a whole store without its marker; the next start comes by here again.
  await replaceFile(paths.marker, "The dead letters are in data.mdb.\n", { isDurable: true });
}

/** LMDB trusts its file and takes the process down where that is wrong, so the file is read as plain bytes first. */
async function refuseDamage(paths: StatePaths, { mayBeWritten = false } = {}): Promise<void> {
  let report = inspectPages(paths.data);
  // Another process may have committed while we looked: its reused pages are no damage. Real damage stands still.
  for (let before = -1n; report.damage !== undefined && report.transaction !== before; ) {
    if (mayBeWritten && (await isLocked(paths.dir))) return;
    before = report.transaction;
    report = inspectPages(paths.data);
  }
  if (report.damage !== undefined) throw damaged(paths, `in data.mdb, ${report.damage}`);
}

function damaged(paths: StatePaths, found: string): CheckpointError {
  return new CheckpointError(
    "TR_STATE_DAMAGED",
    `the dead letter store ${paths.storeDir} is damaged: ${found}. Nothing in it was changed. The way out: restore the ` +
      "folder from a backup, or move it away to go on without its letters",
  );
}

async function metaOf(environment: LmdbEnvironment, paths: StatePaths): Promise<Meta | undefined> {
  const text = await environment.row("meta");
  if (text === undefined) return undefined;
  const meta = JSON.parse(text) as Meta;
  if (meta.version <= VERSION) return meta;
  throw new CheckpointError(
    "TR_STATE_NEWER",
    `the dead letter store ${paths.storeDir} has format ${meta.version}, this version knows ${VERSION}; use the version that wrote it`,
  );
}

/** Wide enough for every safe integer, so that the order of keys is the order of numbers. */
const letterKey = (number: number) => `letter/${String(number).padStart(16, "0")}`;
const replayKey = (number: number) => `replay/${String(number).padStart(16, "0")}`;
/** Ours have 16. */
const MAX_ID_CHARACTERS = 100;
const idKey = (id: string) => `id/${id}`;
/** The next character behind "/": above every key of a table. */
const endOf = (table: string) => `${table}0`;

class LmdbLetterReader implements DeadLetterReader {
  protected readonly environment: LmdbEnvironment;
  #last: Promise<unknown> = Promise.resolve();

  constructor(environment: LmdbEnvironment) {
    this.environment = environment;
  }

  async *list(filter: LetterFilter = {}): AsyncGenerator<DeadLetter> {
    // A flood of letters must not keep whoever reads them all from coming to an end.
    const meta = await this.inTurn(() => this.environment.row("meta"));
    const end = meta === undefined ? endOf("letter") : letterKey((JSON.parse(meta) as Meta).next);
    for await (const [, json] of this.#rows("letter", end)) {
      const letter = JSON.parse(json) as DeadLetter;
      if (filter.component === undefined || filter.component === letter.component) yield letter;
    }
  }

  get(id: string): Promise<DeadLetter | undefined> {
    return this.inTurn(async () => {
      const number = await this.numberOf(id);
      return number === undefined ? undefined : this.#letterAt(letterKey(number));
    });
  }

  async *pendingReplay(): AsyncGenerator<ReplayOrder> {
    for await (const [key] of this.#rows("replay", endOf("replay"))) {
      // The page may be an old one: a letter that was refused again since is not ordered any more.
      const order = await this.inTurn(async () => {
        const token = await this.environment.row(key);
        const letter = token === undefined ? undefined : await this.#letterAt(key.replace("replay/", "letter/"));
        return token === undefined || letter === undefined ? undefined : { letter, token };
      });
      if (order !== undefined) yield order;
    }
  }

  async close(): Promise<void> {
    await this.inTurn(() => this.environment.close());
  }

  /** One use of the environment after the other: it wants it so, and each reads what the one before it wrote. */
  protected inTurn<Result>(use: () => Promise<Result>): Promise<Result> {
    const done = this.#last.then(use);
    this.#last = done.catch(() => {});
    return done;
  }

  protected async numberOf(id: string): Promise<number | undefined> {
    // People type ids, and LMDB takes no long keys.
    if (id.length > MAX_ID_CHARACTERS) return undefined;
    const number = await this.environment.row(idKey(id));
    return number === undefined ? undefined : Number(number);
  }

  async #letterAt(key: string): Promise<DeadLetter | undefined> {
    const json = await this.environment.row(key);
    return json === undefined ? undefined : (JSON.parse(json) as DeadLetter);
  }

  /** Page by page: a snapshot held open while the caller waits would keep the writer from reusing its pages. */
  async *#rows(table: "letter" | "replay", end: string): AsyncGenerator<[key: string, value: string]> {
    let from = `${table}/`;
    for (;;) {
      const page = await this.inTurn(() => this.environment.page(from, end, PAGE));
      if (page.length === 0) return;
      yield* page;
      from = `${page.at(-1)![0]}\0`;
    }
  }
}

type Rows = Map<string, string | undefined>;

class LmdbDeadLetters extends LmdbLetterReader implements DeadLetterStore {
  readonly maxBytes: number;
  readonly #random: Random;
  readonly #folder: string;
  #meta: Meta;

  constructor(
    environment: LmdbEnvironment,
    meta: Meta,
    options: { readonly folder: string; readonly maxBytes: number; readonly random: Random },
  ) {
    super(environment);
    this.#folder = options.folder;
    this.#meta = meta;
    this.maxBytes = options.maxBytes;
    this.#random = options.random;
  }

  get count(): number {
    return this.#meta.count;
  }

  get bytes(): number {
    return this.#meta.bytes;
  }

  get isFull(): boolean {
    return this.bytes >= this.maxBytes;
  }

  async put(letters: readonly DeadLetter[]): Promise<void> {
    // Made before any wait: what is refused may change once we return.
    const texts = new Map(letters.map((letter) => [letter.id, JSON.stringify(letter)]));
    if (texts.size === 0) return;
    await this.inTurn(async () => {
      const rows: Rows = new Map();
      let { bytes, count, next } = this.#meta;
      for (const [id, json] of texts) {
        const known = await this.numberOf(id);
        const number = known ?? next;
        bytes += Buffer.byteLength(json) - (known === undefined ? 0 : await this.#sizeAt(known));
        rows.set(letterKey(number), json);
        if (known === undefined) {
          rows.set(idKey(id), String(number));
          count += 1;
          next += 1;
        } else {
          // Refused again: the order that sent it is done with.
          rows.set(replayKey(number), undefined);
        }
      }
      const hasGrown = bytes > this.#meta.bytes;
      if (hasGrown && this.#meta.bytes > 0 && bytes > this.maxBytes) throw storeIsFull(this.maxBytes);
      await this.#commit(rows, { ...this.#meta, bytes, count, next });
    });
  }

  remove(ids: readonly string[]): Promise<number> {
    return this.#removeWhere(ids, () => Promise.resolve(true));
  }

  async purge(filter: LetterFilter = {}): Promise<number> {
    const ids: string[] = [];
    for await (const { id } of this.list(filter)) ids.push(id);
    return this.remove(ids);
  }

  markForReplay(ids: readonly string[]): Promise<number> {
    return this.#inPages(ids, async (page) => {
      const rows: Rows = new Map();
      let marked = 0;
      for (const id of page) {
        const number = await this.numberOf(id);
        if (number === undefined) continue;
        marked += 1;
        // One that is ordered may be under way: another token would send it once more.
        if ((await this.environment.row(replayKey(number))) === undefined)
          rows.set(replayKey(number), this.#random.hex(8));
      }
      if (rows.size > 0) await this.#commit(rows, this.#meta);
      return marked;
    });
  }

  finishReplay(orders: readonly { readonly id: string; readonly token: string }[]): Promise<number> {
    const tokens = new Map(orders.map(({ id, token }) => [id, token]));
    return this.#removeWhere(
      [...tokens.keys()],
      async (id, number) => (await this.environment.row(replayKey(number))) === tokens.get(id),
    );
  }

  #removeWhere(ids: readonly string[], isWanted: (id: string, number: number) => Promise<boolean>): Promise<number> {
    const removeAll = async (some: readonly string[]) => {
      const rows: Rows = new Map();
      let { bytes, count } = this.#meta;
      for (const id of some) {
        const number = await this.numberOf(id);
        if (number === undefined || !(await isWanted(id, number))) continue;
        bytes -= await this.#sizeAt(number);
        count -= 1;
        for (const key of [letterKey(number), idKey(id), replayKey(number)]) rows.set(key, undefined);
      }
      const removed = this.#meta.count - count;
      if (removed > 0) await this.#commit(rows, { ...this.#meta, bytes, count });
      return removed;
    };
    return this.#inPages(ids, async (page) => {
      try {
        return await removeAll(page);
      } catch (thrown) {
        if (!(thrown instanceof CheckpointError)) throw thrown;
        // Also what removes needs room at first (store-room.ts), and on a full disk it is what makes room: the reserve is
        // for exactly this. One letter at a time needs the least.
        await releaseReserve(this.#folder);
        let removed = 0;
        for (const id of page) removed += await removeAll([id]);
        return removed;
      }
    });
  }

  /** A transaction for each page, so that none grows with the store; returns the sum. */
  async #inPages(ids: readonly string[], change: (page: readonly string[]) => Promise<number>): Promise<number> {
    const unique = [...new Set(ids)];
    let changed = 0;
    for (let at = 0; at < unique.length; at += PAGE) {
      changed += await this.inTurn(() => change(unique.slice(at, at + PAGE)));
    }
    return changed;
  }

  async #sizeAt(number: number): Promise<number> {
    return Buffer.byteLength((await this.environment.row(letterKey(number))) ?? "");
  }

  /** The rows and their sums in one transaction; memory follows only once that is flushed. */
  async #commit(rows: Rows, meta: Meta): Promise<void> {
    try {
      await this.environment.write(rows.set("meta", JSON.stringify(meta)));
    } catch (thrown) {
      const cause = toError(thrown);
      const errno = errnoOf(cause);
      const what = errno === undefined || cause.message.includes(errno) ? cause.message : `${cause.message} (${errno})`;
      throw new CheckpointError("TR_COMMIT_FAILED", `the dead letters could not be written: ${what}`, { cause });
    }
    this.#meta = meta;
  }
}
