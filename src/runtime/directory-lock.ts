import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CheckpointError, errnoOf, toError } from "../errors.ts";
import { type Clock, systemClock } from "./clock.ts";
import { tryLockDescriptor } from "./file-lock.ts";

/** A directory that this process holds. */
export interface DirectoryLock {
  /** Lets it go; so does the end of the process, however it ends. */
  release(): void;
  [Symbol.dispose](): void;
}

/** `isLocked` of another process takes the lock for an instant; whoever meets that looks again. */
const TRIES = 5;
const TRY_AGAIN_MS = 20;

/**
 * Takes a directory for this process, for life: flock(2) on the directory itself. The kernel lets it go when the process
 * ends, also by SIGKILL, so that nothing is left to clean up. `DIRECTORY/pid` says who holds it, for people only.
 *
 * @throws CheckpointError `TR_STATE_IN_USE` if another process (or another lock of this one) holds it,
 * `TR_STATE_UNUSABLE` if it cannot be opened or its file system has no flock.
 */
export async function lockDirectory(path: string, options: { clock?: Clock } = {}): Promise<DirectoryLock> {
  const clock = options.clock ?? systemClock;
  let descriptor: number;
  try {
    // Node opens with O_CLOEXEC: no child process inherits the lock.
    descriptor = openSync(path, "r");
  } catch (error) {
    const what =
      errnoOf(error) === "ENOENT"
        ? "does not exist: no agent has run with it yet"
        : `cannot be opened: ${toError(error).message}`;
    throw new CheckpointError("TR_STATE_UNUSABLE", `${path} ${what}`, { cause: error });
  }
  try {
    let isTaken = await tryLock(descriptor, path);
    for (let tries = 1; !isTaken && tries < TRIES; tries += 1) {
      await clock.sleep(TRY_AGAIN_MS);
      isTaken = await tryLock(descriptor, path);
    }
    if (!isTaken) {
      const holder = holderOf(path);
      throw new CheckpointError(
        "TR_STATE_IN_USE",
        `${path} is in use by another process${holder === undefined ? "" : ` (pid ${holder})`}; ` +
          "stop that one, or give this one a state directory of its own",
      );
    }
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  const pidFile = join(path, "pid");
  try {
    // Unlinked first: a file made by somebody else, with other permissions, is not written through.
    rmSync(pidFile, { force: true });
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600, flag: "wx" });
  } catch {
    // For people only: a full disk is no reason not to start.
  }
  let isHeld = true;
  const release = () => {
    if (!isHeld) return;
    isHeld = false;
    rmSync(pidFile, { force: true });
    closeSync(descriptor);
  };
  return { release, [Symbol.dispose]: release };
}

/** True while a process holds the directory by `lockDirectory`; false also where there is no such directory. */
export async function isLocked(path: string): Promise<boolean> {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return false;
    throw error;
  }
  try {
    return !(await tryLock(descriptor, path));
  } finally {
    // Taken or not, it is let go here at once.
    closeSync(descriptor);
  }
}

function holderOf(path: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(join(path, "pid"), "latin1"), 10);
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

async function tryLock(descriptor: number, path: string): Promise<boolean> {
  try {
    return await tryLockDescriptor(descriptor, { isRequired: true });
  } catch (error) {
    const reason = toError(error).message;
    throw new CheckpointError("TR_STATE_UNUSABLE", `${path} cannot be locked: ${reason}; put it on a local disk`, {
      cause: error,
    });
  }
}
