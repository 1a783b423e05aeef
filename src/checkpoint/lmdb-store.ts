import { CheckpointError, toError } from "../errors.ts";
import { isLocked } from "../runtime/directory-lock.ts";
import type { Change, CheckpointStore, StoredState } from "./checkpoint-store.ts";
import { LmdbEnvironment } from "./lmdb-environment.ts";
import { type PreflightOptions, preflight, scanInChild, stampCleanStop } from "./preflight.ts";
import { migrate, SCHEMA, type Schema } from "./schema.ts";
import {
  closeToOthers,
  damaged,
  makeFolder,
  prepareStateDirectory,
  removeFile,
  type StatePaths,
  statePaths,
  unusable,
} from "./state-directory.ts";
import { checkAccess, checkRoom, finishCreation, type Stage, stageOf } from "./store-files.ts";
import { inspectMetas } from "./store-pages.ts";
import { RowProblem, readRow, rowsOf, stateOf } from "./store-rows.ts";

/**
 * CheckpointStore on LMDB.
 *
 * | file                | what it knows                                                  |
 * |---------------------|----------------------------------------------------------------|
 * | state-directory.ts  | where things are, permissions, how a file becomes durable       |
 * | store-files.ts      | how a store comes to be; what must hold before LMDB opens it    |
 * | preflight.ts        | whether it is damaged                                          |
 * | store-pages.ts      | the format of LMDB's pages                                     |
 * | store-room.ts       | that the next transaction will not meet a full disk            |
 * | opening-gate.ts     | that nobody opens it while somebody commits                    |
 * | lmdb-environment.ts | lmdb, its traps, and the layout of keys                        |
 * | store-rows.ts       | rows as text                                                   |
 * | schema.ts           | their version                                                  |
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

/**
 * Opens the store of a state directory, and makes both where nothing is yet. The caller holds the directory's lock
 * (`lockDirectory`) for as long as the store is open.
 *
 * @throws CheckpointError `TR_STATE_DAMAGED` (damaged, or missing in a used directory; never recreated), `TR_STATE_NEWER`,
 * `TR_STATE_UNUSABLE` (permissions, no space, a file system that cannot hold it).
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
    const environment = await LmdbEnvironment.open(stateDir, paths, { isReadOnly: false });
    try {
      await settleSchema(environment, stateDir, stage, options.schema ?? SCHEMA);
      if (stage !== "complete") await finishCreation(paths);
      for (const file of [paths.data, paths.lock, paths.marker]) await closeToOthers(file, 0o600);
    } catch (error) {
      await environment.close();
      throw error;
    }
    return new LmdbCheckpointStore(stateDir, paths, environment);
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
  const schema = options.schema ?? SCHEMA;
  try {
    if ((await stageOf(stateDir, paths)) === "none") return undefined;
    await checkAccess(paths, { isReadOnly: true });
    await checkBeside(stateDir, paths, options);
    const environment = await LmdbEnvironment.open(stateDir, paths, { isReadOnly: true });
    const load = async () => readState(await migratedRows(environment, stateDir, schema), stateDir);
    try {
      // What cannot be read is refused here, not at the first use.
      await migratedRows(environment, stateDir, schema);
    } catch (error) {
      await environment.close();
      throw error;
    }
    return {
      load,
      async close() {
        await environment.close();
      },
    };
  } catch (error) {
    throw unusable(stateDir, "its checkpoints cannot be read", error);
  }
}

class LmdbCheckpointStore implements CheckpointStore {
  readonly #stateDir: string;
  readonly #paths: StatePaths;
  readonly #environment: LmdbEnvironment;
  /** Commits and loads run one after the other, in the order of their calls. */
  #last: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  constructor(stateDir: string, paths: StatePaths, environment: LmdbEnvironment) {
    this.#stateDir = stateDir;
    this.#paths = paths;
    this.#environment = environment;
  }

  async load(): Promise<StoredState> {
    if (this.#closing !== undefined) throw new CheckpointError("TR_STATE_UNUSABLE", "the checkpoint store is closed");
    try {
      const rows = await this.#inTurn(() => this.#environment.rows());
      rows.delete(SCHEMA_KEY);
      return readState(rows, this.#stateDir);
    } catch (error) {
      throw unusable(this.#stateDir, "its checkpoints cannot be read", error);
    }
  }

  async commit(changes: readonly Change[]): Promise<void> {
    const rows = rowsOf(changes);
    if (this.#closing !== undefined) throw new CheckpointError("TR_COMMIT_FAILED", "the checkpoint store is closed");
    if (rows.size === 0) return;
    try {
      await this.#inTurn(() => this.#environment.write(rows));
    } catch (error) {
      const cause = toError(error);
      const what = `the checkpoint could not be written to ${this.#stateDir}: ${cause.message}`;
      throw new CheckpointError("TR_COMMIT_FAILED", what, { cause });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#inTurn(async () => {
      if (!(await this.#environment.close())) return;
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
}

/** Makes the schema row what it should be, migrating where it is older. */
async function settleSchema(
  environment: LmdbEnvironment,
  stateDir: string,
  stage: Stage,
  schema: Schema,
): Promise<void> {
  const stored = await environment.row(SCHEMA_KEY);
  const present = String(schema.version);
  if (stored === present) return;
  if (stored === undefined) {
    if (!(await environment.isEmpty())) throw damaged(stateDir, "its checkpoints have rows but no schema version");
    if (stage === "complete") throw damaged(stateDir, "its store, checkpoints/data.mdb, is empty");
    return environment.write(new Map([[SCHEMA_KEY, present]]));
  }
  const rows = await environment.rows();
  rows.delete(SCHEMA_KEY);
  const changes = migrate(versionOf(stored, stateDir), rows, schema, stateDir);
  await environment.write(changes.set(SCHEMA_KEY, present));
}

/** The rows as `settleSchema` would leave them, without changing any. */
async function migratedRows(
  environment: LmdbEnvironment,
  stateDir: string,
  schema: Schema,
): Promise<Map<string, string>> {
  const rows = await environment.rows();
  const stored = rows.get(SCHEMA_KEY);
  if (stored === undefined) throw damaged(stateDir, "its store, checkpoints/data.mdb, has no schema version");
  rows.delete(SCHEMA_KEY);
  for (const [key, value] of migrate(versionOf(stored, stateDir), rows, schema, stateDir)) {
    if (value === undefined) rows.delete(key);
    else rows.set(key, value);
  }
  return rows;
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

function readState(rows: ReadonlyMap<string, string>, stateDir: string): StoredState {
  try {
    return stateOf([...rows].map(([key, value]) => readRow(key, value)));
  } catch (error) {
    if (!(error instanceof RowProblem)) throw error;
    throw damaged(stateDir, `a row of its checkpoints is malformed, ${error.field}: ${error.message}`, error);
  }
}
