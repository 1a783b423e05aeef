import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, open } from "node:fs/promises";
import { errnoOf } from "../errors.ts";
import { damaged, removeFile, replaceFile, type StatePaths, sizeOf, syncFolder } from "./state-directory.ts";
import { isCutShortCreation } from "./store-pages.ts";

/**
 * How a store comes to be, and what a crash between the steps leaves:
 *
 * ```
 *  nothing --> folder --> data.mdb without a row --> with its schema row, flushed --> folders synced --> marker synced
 *  |___ none: begin again _____________________|   |___ unfinished: finish it, it may hold data __|   |__ complete ___|
 * ```
 */
export type Stage = "none" | "unfinished" | "complete";

export async function stageOf(stateDir: string, paths: StatePaths): Promise<Stage> {
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
export async function checkAccess(paths: StatePaths, { isReadOnly }: { isReadOnly: boolean }): Promise<void> {
  try {
    const size = (await sizeOf(paths.lock)) ?? 0;
    if (size < LOCK_FILE_BYTES) {
      const file = await open(paths.lock, "a", 0o600);
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
export async function checkRoom(paths: StatePaths): Promise<void> {
  const scratch = `${paths.data}.room`;
  try {
    const file = await open(scratch, "w", 0o600);
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

export async function finishCreation(paths: StatePaths): Promise<void> {
  await syncFolder(paths.storeDir);
  await syncFolder(paths.dir);
  // Dying here leaves a whole store without its marker; the next start comes by here again.
  await replaceFile(paths.marker, "The checkpoints of this directory are in checkpoints/.\n", { isDurable: true });
}
