import { createHash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, open as openFile } from "node:fs/promises";
import { getSystemErrorName } from "node:util";
import type { RootDatabase } from "lmdb";
import { CheckpointError, errnoOf, toError } from "../errors.ts";
import { isLocked } from "../runtime/directory-lock.ts";
import type { Change, CheckpointStore, StoredState } from "./checkpoint-store.ts";
import { type PreflightOptions, preflight, scanInChild, stampCleanStop } from "./preflight.ts";
import { migrate, SCHEMA, type Schema } from "./schema.ts";
import {
  closeToOthers,
  damaged,
  makeFolder,
  prepareStateDirectory,
  removeFile,
  replaceFile,
  type StatePaths,
  sizeOf,
  statePaths,
  syncFolder,
  unusable,
} from "./state-directory.ts";
import { inspectMetas, isCutShortCreation } from "./store-pages.ts";
import { RowProblem, readRow, rowsOf, stateOf } from "./store-rows.ts";

/**
 * CheckpointStore on LMDB.
 *
 * ```
 *  key (UTF-8)                              value (UTF-8 JSON)
 *  #<64 hex digits>                         <the key it stands for, too long for LMDB>\n<the value>
 *  ["file","app","8f3a"]                    {"generation":0, ...}
 *  ["mark","out","length"]                  5678
 *  ["note","ledger"]                        {...}
 *  ["position","out","app","8f3a"]          {"prefix":1234,"ranges":[{"start":1300,"end":1400}]}
 *  schema                                   1
 * ```
 *
 * How a store comes to be, and what a crash between the steps leaves (`openLmdbStore` finds its way from each):
 *
 * ```
 *  nothing --> folder --> data.mdb without a row --> with its schema row, flushed --> folders synced --> marker synced
 *  |___ begin again ____________________________|   |____ finish it: it may hold data already _____|   |_ must be there
 * ```
 *
 * Only the asynchronous, batched writes of lmdb are used: on a full disk the synchronous ones hang, report successes
 * that are none, or die in free(). `overlappingSync` is off: then one transaction is pwrite of its pages, fdatasync, an
 * O_DSYNC write of the meta page, and only then does its promise resolve (seen with strace). `eventTurnBatching` is off:
 * it makes promises of its own that nobody can hold, whose rejections are the strays of `isStrayCommitRejection`.
 */
export interface LmdbStoreOptions extends PreflightOptions {
  /** The schema to write; for tests of migration. */
  readonly schema?: Schema;
}

/** What reading commands see of a store. */
export interface CheckpointReader {
  /** Everything in the store, in one consistent snapshot as of now. */
  load(): Promise<StoredState>;
  close(): Promise<void>;
}

const SCHEMA_KEY = "schema";
/** LMDB takes 1978 bytes. */
const MAX_KEY_BYTES = 1024;

/**
 * Opens the store of a state directory, and makes both where nothing is yet. The caller holds the directory's lock
 * (`lockDirectory`) for as long as the store is open.
 *
 * @throws CheckpointError `TR_STATE_DAMAGED` (damaged, or missing in a used directory; never recreated), `TR_STATE_NEWER`,
 * `TR_STATE_UNUSABLE` (permissions, no space, no file system for it).
 */
export async function openLmdbStore(stateDir: string, options: LmdbStoreOptions = {}): Promise<CheckpointStore> {
  await prepareStateDirectory(stateDir);
  const paths = statePaths(stateDir);
  try {
    const stage = await stageOf(stateDir, paths);
    if (stage === "none") {
      await removeFile(paths.data);
      await removeFile(paths.lock);
      await makeFolder(paths.storeDir, 0o700);
    }
    await closeToOthers(paths.storeDir, 0o700);
    await checkAccess(paths, { isReadOnly: false });
    if (stage === "none") await checkRoom(paths);
    else await preflight(stateDir, paths, options);
    const db = await openDatabase(stateDir, paths, { isReadOnly: false });
    try {
      await settleSchema(db, stateDir, stage, options.schema ?? SCHEMA);
      if (stage !== "complete") await finishCreation(paths);
      for (const file of [paths.data, paths.lock, paths.marker]) await closeToOthers(file, 0o600);
    } catch (error) {
      await db.close();
      throw error;
    }
    return new LmdbCheckpointStore(stateDir, paths, db);
  } catch (error) {
    throw unusable(stateDir, "its checkpoints cannot be opened", error);
  }
}

/**
 * Opens the store for a reading command: nothing is made, finished, migrated or repaired. Another process may write
 * meanwhile.
 *
 * @returns undefined where no store was ever made.
 * @throws CheckpointError as `openLmdbStore`; an older schema is read as it would be migrated.
 */
export async function openLmdbStoreForReading(
  stateDir: string,
  options: LmdbStoreOptions = {},
): Promise<CheckpointReader | undefined> {
  const paths = statePaths(stateDir);
  try {
    if ((await stageOf(stateDir, paths)) === "none") return undefined;
    await checkAccess(paths, { isReadOnly: true });
    await checkBeside(stateDir, paths, options);
    const db = await openDatabase(stateDir, paths, { isReadOnly: true });
    const load = async () => {
      // lmdb keeps a snapshot for the rest of the event turn; a reader wants the newest.
      db.resetReadTxn();
      return readState(db, stateDir, options.schema ?? SCHEMA);
    };
    try {
      await load();
    } catch (error) {
      await db.close();
      throw error;
    }
    return { load, close: () => db.close() };
  } catch (error) {
    throw unusable(stateDir, "its checkpoints cannot be read", error);
  }
}

/**
 * True for the rejection that lmdb leaves without a holder after a failed commit, beside the one that the committer
 * gets. Whoever listens for unhandled rejections counts it and goes on: it is never news.
 */
export function isStrayCommitRejection(error: unknown): boolean {
  return error instanceof Error && "commitError" in error && error.message.startsWith("Commit failed");
}

class LmdbCheckpointStore implements CheckpointStore {
  readonly #stateDir: string;
  readonly #paths: StatePaths;
  /** Undefined after a failed commit, until the next one opens it again; and once closed. */
  #db: Database | undefined;
  /** Commits and loads run one after the other, in the order of their calls. */
  #last: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(stateDir: string, paths: StatePaths, db: Database) {
    this.#stateDir = stateDir;
    this.#paths = paths;
    this.#db = db;
  }

  load(): Promise<StoredState> {
    return this.#inTurn(async () => {
      const db = await this.#open();
      db.resetReadTxn();
      return readState(db, this.#stateDir, undefined);
    });
  }

  async commit(changes: readonly Change[]): Promise<void> {
    const rows = rowsOf(changes);
    if (this.#closing !== undefined) throw new CheckpointError("TR_COMMIT_FAILED", "the checkpoint store is closed");
    if (rows.size > 0) await this.#inTurn(() => this.#write(rows));
  }

  close(): Promise<void> {
    this.#closing ??= this.#inTurn(async () => {
      const db = this.#db;
      if (db === undefined) return;
      this.#db = undefined;
      await db.close();
      try {
        await stampCleanStop(this.#paths);
      } catch {
        // The stamp only saves the next start some time; on a full disk it does without.
      }
    });
    return this.#closing;
  }

  #inTurn<Result>(run: () => Promise<Result>): Promise<Result> {
    const turn = this.#last.then(run);
    this.#last = turn.catch(() => {});
    return turn;
  }

  async #open(): Promise<Database> {
    if (this.#db !== undefined) return this.#db;
    if (this.#closing !== undefined) {
      throw new CheckpointError("TR_STATE_UNUSABLE", "the checkpoint store is closed");
    }
    // After a failed meta write LMDB has put the old meta page back into the page cache only. It must be on disk before
    // anything reuses the pages that the new one, which may have reached the disk, refers to.
    const file = await openFile(this.#paths.data, "r+");
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
    this.#db = await openDatabase(this.#stateDir, this.#paths, { isReadOnly: false });
    return this.#db;
  }

  async #write(rows: ReadonlyMap<string, string | undefined>): Promise<void> {
    let db: Database | undefined;
    try {
      db = await this.#open();
      await writeRows(db, rows);
    } catch (error) {
      const cause = toError(error);
      // An environment whose meta write failed takes no further transaction and never says so: the next commit would
      // wait for ever. So every failure ends it.
      this.#db = undefined;
      await db?.close();
      throw new CheckpointError(
        "TR_COMMIT_FAILED",
        `the checkpoint could not be written to ${this.#stateDir}: ${cause.message}`,
        { cause },
      );
    }
  }
}

/**
 * - `none`: no store, or the remains of a creation that was cut short before its first commit
 * - `unfinished`: a store that may hold data, without its marker
 * - `complete`: a store and its marker
 */
type Stage = "none" | "unfinished" | "complete";

async function stageOf(stateDir: string, paths: StatePaths): Promise<Stage> {
  const size = await sizeOf(paths.data);
  const isMarked = (await sizeOf(paths.marker)) !== undefined;
  if (isMarked && size === undefined) throw damaged(stateDir, "its store, checkpoints/data.mdb, is missing");
  if (isMarked && size === 0) throw damaged(stateDir, "its store, checkpoints/data.mdb, is empty");
  if (isMarked) return "complete";
  return size === undefined || isCutShortCreation(paths.data) ? "none" : "unfinished";
}

/** At least what LMDB needs for its table of 126 readers. */
const LOCK_FILE_BYTES = 16_384;

/**
 * Looks for what would fail while LMDB opens the files: lmdb's own way out of a failed open is SIGSEGV.
 *
 * Its lock file is the other trap: LMDB makes it sparse and maps it, and on a full disk the first write into the map is
 * SIGBUS. So its blocks are allocated here. One that is long enough is left alone: it may be in use, and closing any
 * descriptor of it would take away the locks that this process holds on it (man 2 fcntl).
 */
async function checkAccess(paths: StatePaths, { isReadOnly }: { isReadOnly: boolean }): Promise<void> {
  try {
    const size = (await sizeOf(paths.lock)) ?? 0;
    if (size < LOCK_FILE_BYTES) {
      const file = await openFile(paths.lock, "a", 0o600);
      try {
        await file.writeFile(Buffer.alloc(LOCK_FILE_BYTES - size));
      } finally {
        await file.close();
      }
    }
    await access(paths.lock, constants.R_OK | constants.W_OK);
  } catch (error) {
    // Readers of a read-only file system do without locks: nobody can write there.
    if (!isReadOnly || errnoOf(error) !== "EROFS") throw error;
  }
  if ((await sizeOf(paths.data)) !== undefined) {
    await access(paths.data, isReadOnly ? constants.R_OK : constants.R_OK | constants.W_OK);
  }
}

/** Room that a new store needs with some to spare. */
const ROOM_BYTES = 256 * 1024;

/** LMDB writes the first pages of a new file while it opens it, and a failed open kills the process: see above. */
async function checkRoom(paths: StatePaths): Promise<void> {
  const scratch = `${paths.data}.room`;
  try {
    const file = await openFile(scratch, "w", 0o600);
    try {
      await file.writeFile(randomBytes(ROOM_BYTES));
      await file.sync();
    } finally {
      await file.close();
    }
  } finally {
    await removeFile(scratch);
    await syncFolder(paths.storeDir);
  }
}

async function finishCreation(paths: StatePaths): Promise<void> {
  await syncFolder(paths.storeDir);
  await syncFolder(paths.dir);
  // Dying here leaves a whole store without its marker; the next start comes by here again.
  await replaceFile(paths.marker, "The checkpoints of this directory are in checkpoints/.\n", { isDurable: true });
}

/** Makes the schema row what it should be, migrating where it is older. */
async function settleSchema(db: Database, stateDir: string, stage: Stage, schema: Schema): Promise<void> {
  const stored = db.get(Buffer.from(SCHEMA_KEY))?.toString();
  if (stored === undefined) {
    if (db.getKeysCount({}) > 0) throw damaged(stateDir, "its checkpoints have rows but no schema version");
    if (stage === "complete") throw damaged(stateDir, "its store, checkpoints/data.mdb, is empty");
    await writeRows(db, new Map([[SCHEMA_KEY, String(schema.version)]]));
    return;
  }
  const version = versionOf(stored, stateDir);
  if (version === schema.version) return;
  const rows = readTexts(db);
  rows.delete(SCHEMA_KEY);
  const changes = migrate(version, rows, schema, stateDir);
  await writeRows(db, changes.set(SCHEMA_KEY, String(schema.version)));
}

function versionOf(stored: string, stateDir: string): number {
  if (!/^[1-9]\d{0,8}$/.test(stored)) throw damaged(stateDir, `its schema version is ${JSON.stringify(stored)}`);
  return Number(stored);
}

/** Preflight for a reader, which may meet a writer at work: then the pages that it reads change under its eyes. */
async function checkBeside(stateDir: string, paths: StatePaths, options: PreflightOptions): Promise<void> {
  // The running process has checked it, and vouches for it.
  if (await isLocked(paths.dir)) return;
  const before = inspectMetas(paths.data);
  try {
    await preflight(stateDir, paths, options);
  } catch (error) {
    const after = inspectMetas(paths.data);
    const isWrittenTo = before.transaction !== after.transaction || (await isLocked(paths.dir));
    if (!isWrittenTo) throw error;
    // Somebody began to write: what LMDB itself sees through its snapshot decides.
    const died = await scanInChild(paths.storeDir);
    if (died !== undefined) throw damaged(stateDir, `LMDB cannot open and read checkpoints/data.mdb: ${died}`);
  }
}

type Database = RootDatabase<Buffer, Buffer>;

async function openDatabase(
  stateDir: string,
  paths: StatePaths,
  { isReadOnly }: { isReadOnly: boolean },
): Promise<Database> {
  // Loaded here, so that whoever takes the memory store does not load native code.
  const { open } = await import("lmdb");
  const options = {
    path: paths.storeDir,
    noSubdir: false,
    readOnly: isReadOnly,
    overlappingSync: false,
    eventTurnBatching: false,
    encoding: "binary",
    keyEncoding: "binary",
    permissionsMode: 0o600,
  } as const;
  try {
    return open<Buffer, Buffer>(options);
  } catch (error) {
    const cause = toError(error);
    // LMDB's own codes (MDB_INVALID, MDB_CORRUPTED, ...) are -30799 to -30768; others are the system's.
    const code = "code" in cause && typeof cause.code === "number" ? cause.code : 0;
    if (code <= -30700 || /MDB_/.test(cause.message)) throw damaged(stateDir, `LMDB says ${cause.message}`, cause);
    throw cause;
  }
}

/** One transaction; resolves when it is flushed. @throws Error with the errno's name as `code`; nothing was changed. */
async function writeRows(db: Database, rows: ReadonlyMap<string, string | undefined>): Promise<void> {
  // Everything that can throw is done before the batch: a batch that throws half-way commits its first half.
  const writes = [...rows].map(([key, value]) => encodeRow(key, value));
  try {
    await db.batch(() => {
      for (const { key, value } of writes) {
        if (value === undefined) db.remove(key);
        else db.put(key, value);
      }
    });
  } catch (error) {
    throw await causeOf(error);
  }
}

function encodeRow(key: string, value: string | undefined): { key: Buffer; value: Buffer | undefined } {
  const bytes = Buffer.from(key);
  if (bytes.length <= MAX_KEY_BYTES) return { key: bytes, value: value === undefined ? undefined : Buffer.from(value) };
  const short = Buffer.from(`#${createHash("sha256").update(bytes).digest("hex")}`);
  return { key: short, value: value === undefined ? undefined : Buffer.from(`${key}\n${value}`) };
}

function readTexts(db: Database): Map<string, string> {
  const rows = new Map<string, string>();
  for (const { key, value } of db.getRange({})) {
    const name = key.toString();
    const text = value.toString();
    if (name.startsWith("#")) {
      const end = text.indexOf("\n");
      rows.set(text.slice(0, end), text.slice(end + 1));
    } else {
      rows.set(name, text);
    }
  }
  return rows;
}

/** With a schema, rows of an older version are read as they would be migrated. */
function readState(db: Database, stateDir: string, schema: Schema | undefined): StoredState {
  const rows = readTexts(db);
  const stored = rows.get(SCHEMA_KEY);
  rows.delete(SCHEMA_KEY);
  if (schema !== undefined) {
    if (stored === undefined) throw damaged(stateDir, "its checkpoints have no schema version");
    for (const [key, value] of migrate(versionOf(stored, stateDir), rows, schema, stateDir)) {
      if (value === undefined) rows.delete(key);
      else rows.set(key, value);
    }
  }
  try {
    return stateOf([...rows].map(([key, value]) => readRow(key, value)));
  } catch (error) {
    if (!(error instanceof RowProblem)) throw error;
    throw damaged(stateDir, `a row of its checkpoints is malformed, ${error.field}: ${error.message}`, error);
  }
}

/** Why a transaction failed, with the errno's name as `code`. */
async function causeOf(error: unknown): Promise<Error> {
  const failure = toError(error);
  if (!("commitError" in failure)) return failure;
  // lmdb rejects this promise in the same turn; were it not to, the committer must not wait for ever.
  const reason = await Promise.race([
    Promise.resolve(failure.commitError).then(() => failure, toError),
    new Promise<Error>((resolve) => setTimeout(resolve, 100, failure).unref()),
  ]);
  const code = "code" in reason && typeof reason.code === "number" ? reason.code : 0;
  if (code <= 0) return reason;
  const name = getSystemErrorName(-code);
  // LMDB reports a write that was cut short as an input/output error; on a full disk that is the usual one.
  const hint = name === "EIO" ? "EIO, an input/output error or no space left on the disk" : name;
  return Object.assign(new Error(`${hint} (${reason.message})`, { cause: reason }), { code: name });
}
