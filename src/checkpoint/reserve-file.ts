import { randomBytes } from "node:crypto";
import { open, stat, statfs } from "node:fs/promises";
import { errnoOf } from "../errors.ts";
import { removeFile, statePaths, syncFolder } from "./state-directory.ts";

/** Room for the last commit of a clean exit, and then some: LMDB writes every page of a changed path anew. */
export const RESERVE_BYTES = 16 * 1024 * 1024;

const CHUNK_BYTES = 1024 * 1024;
/** What must be left beside the reserve, in parts of it. */
const HEAD_ROOM = 0.25;

/**
 * Makes sure that the state directory holds a reserve: a file whose only use is that it can be given up. Its bytes are
 * random, since a file system that compresses would allocate nothing for zeros.
 *
 * @returns False where there is no room for it (no error: everything but the last commit on a full disk works without).
 */
export async function keepReserve(stateDir: string, options: { bytes?: number } = {}): Promise<boolean> {
  const { dir, reserve } = statePaths(stateDir);
  const bytes = options.bytes ?? RESERVE_BYTES;
  if (await isWhole(reserve, bytes)) return true;
  try {
    const file = await open(reserve, "w", 0o600);
    try {
      await file.chmod(0o600);
      // Taking the last bytes, if only for a moment, would make others fail that start beside us.
      if ((await freeBytes(dir)) < bytes * (1 + HEAD_ROOM)) return await giveUp(stateDir);
      for (let written = 0; written < bytes; written += CHUNK_BYTES) {
        await file.writeFile(randomBytes(Math.min(CHUNK_BYTES, bytes - written)));
      }
      // Allocation may be delayed until here, and so may ENOSPC.
      await file.sync();
    } finally {
      await file.close();
    }
    await syncFolder(dir);
    return true;
  } catch (error) {
    await giveUp(stateDir);
    if (isNoRoom(error)) return false;
    throw error;
  }
}

async function giveUp(stateDir: string): Promise<false> {
  await releaseReserve(stateDir);
  return false;
}

/** What an unprivileged process may still write. */
async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** Gives the reserve up; when it resolves, its blocks are free. The next `keepReserve` makes it again. */
export async function releaseReserve(stateDir: string): Promise<void> {
  const { dir, reserve } = statePaths(stateDir);
  await removeFile(reserve);
  // A journalling file system gives blocks back only once the removal itself is on disk.
  await syncFolder(dir);
}

async function isWhole(path: string, bytes: number): Promise<boolean> {
  try {
    const { size, blocks } = await stat(path);
    // Blocks are of 512 bytes (man 2 stat); a sparse file holds nothing to give up.
    return size === bytes && blocks * 512 >= bytes;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}

function isNoRoom(error: unknown): boolean {
  return ["ENOSPC", "EDQUOT", "EFBIG"].includes(errnoOf(error) ?? "");
}
