import { chmod, mkdir, open, rename, stat, unlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { CheckpointError, errnoOf, toError } from "../errors.ts";

/**
 * The part of the state directory that belongs to checkpoints.
 *
 * ```
 *  STATE_DIR/                0700
 *    created                 0600  marker: the store was made and is on disk; from now on it must be there
 *    clean-stop              0600  what data.mdb looked like when it was closed last
 *    reserve                 0600  16 MiB to give up on a full disk (reserve-file.ts)
 *    checkpoints/            0700
 *      data.mdb, lock.mdb    0600  LMDB
 * ```
 *
 * Node's own file calls are used here and not the FileSystem interface: LMDB maps a real file, so that its folder is
 * always a real one. A simulation takes the memory store.
 */
export interface StatePaths {
  readonly dir: string;
  readonly marker: string;
  readonly cleanStop: string;
  readonly reserve: string;
  readonly storeDir: string;
  readonly data: string;
  readonly lock: string;
}

/** The paths below a state directory, absolute. */
export function statePaths(stateDir: string): StatePaths {
  const dir = resolve(stateDir);
  const storeDir = join(dir, "checkpoints");
  return {
    dir,
    marker: join(dir, "created"),
    cleanStop: join(dir, "clean-stop"),
    reserve: join(dir, "reserve"),
    storeDir,
    data: join(storeDir, "data.mdb"),
    lock: join(storeDir, "lock.mdb"),
  };
}

/**
 * Makes the state directory and its parents, durably, and lets nobody but its owner in, whatever the umask. Call it
 * before taking the directory's lock; calling it again changes nothing.
 * @throws CheckpointError `TR_STATE_UNUSABLE`
 */
export async function prepareStateDirectory(stateDir: string): Promise<void> {
  const { dir } = statePaths(stateDir);
  await refuseFile(dir);
  try {
    await makeFolder(dir, 0o700);
    await closeToOthers(dir, 0o700);
  } catch (error) {
    throw unusable(stateDir, "the state directory cannot be made", error);
  }
}

/**
 * Refuses what can never be a state directory: something else is there, or above it.
 * @throws CheckpointError `TR_STATE_UNUSABLE`
 */
export async function refuseFile(stateDir: string): Promise<void> {
  const isDirectory = await stat(stateDir).then(
    (found) => found.isDirectory(),
    (error: unknown) => errnoOf(error) !== "ENOTDIR",
  );
  if (!isDirectory)
    throw new CheckpointError(
      "TR_STATE_UNUSABLE",
      `${stateDir} is no directory, so it cannot be the state directory; name another one`,
    );
}

/** mkdir -p; every new entry is synced in its folder. The last folder gets `permissions`. */
export async function makeFolder(folder: string, permissions: number): Promise<void> {
  const make = () => mkdir(folder, { mode: permissions });
  try {
    await make().catch(async (error: unknown) => {
      if (errnoOf(error) !== "ENOENT" || dirname(folder) === folder) throw error;
      await makeFolder(dirname(folder), 0o755);
      // Once more, and no oftener: /proc, and a folder that was removed while it is somebody's, answer ENOENT for ever.
      await make();
    });
  } catch (error) {
    if (errnoOf(error) === "EEXIST" && (await stat(folder)).isDirectory()) return;
    throw error;
  }
  await syncFolder(dirname(folder));
}

/** Takes away what others may do, where they may do anything. */
export async function closeToOthers(path: string, permissions: number): Promise<void> {
  if (((await stat(path)).mode & 0o777) !== permissions) await chmod(path, permissions);
}

/** fsync of a folder, without which a new entry may be gone after a power cut (man 2 fsync). */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replaces a small file as a whole: after a crash it is the old one, the new one, or (without `isDurable`, after a power
 * cut) empty.
 */
export async function replaceFile(path: string, text: string, options: { isDurable: boolean }): Promise<void> {
  const next = `${path}.new`;
  const handle = await open(next, "w", 0o600);
  try {
    await handle.chmod(0o600);
    await handle.writeFile(text);
    if (options.isDurable) await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(next, path);
  if (options.isDurable) await syncFolder(dirname(path));
}

/** Bytes of a file; undefined where there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Unlinks a file if it is there. */
export async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}

/** The directory cannot be used, but nothing says that what it holds is damaged. */
export function unusable(stateDir: string, what: string, error: unknown): CheckpointError {
  if (error instanceof CheckpointError) return error;
  const cause = toError(error);
  return new CheckpointError("TR_STATE_UNUSABLE", `${stateDir}: ${what}: ${cause.message}`, { cause });
}

/** The store is damaged or gone; says the way out. */
export function damaged(stateDir: string, found: string, cause?: unknown): CheckpointError {
  return new CheckpointError(
    "TR_STATE_DAMAGED",
    `the state directory ${stateDir} is damaged: ${found}. Nothing in it was changed. The way out, best first: ` +
      "restore the directory from a backup; or import an export (`tailrace checkpoints import`) into a fresh state " +
      "directory; or move the directory away and start from scratch, which reads and delivers everything again",
    cause === undefined ? {} : { cause },
  );
}
