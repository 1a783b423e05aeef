import { closeSync, openSync } from "node:fs";
import { systemClock } from "../runtime/clock.ts";
import { tryLockDescriptor, unlockDescriptor } from "../runtime/file-lock.ts";

/**
 * Keeps the transactions of one process and the openings and closings of an environment by others apart: flock(2) on the
 * store's folder, for as long as one of them takes.
 *
 * Whoever opens an environment, also to read it only, reads the number of the last transaction from the file and writes
 * it into the memory that all processes share (`mdb_env_open2`). What another process commits between the two is undone:
 * its next transaction begins at that older number. LMDB has mended it (ITS#9496), lmdb 3.5.6 has the code from before.
 * And the last to close an environment destroys the mutexes that somebody who opens it at this moment is about to use.
 */
export class OpeningGate {
  readonly #folder: number;
  #isClosed = false;

  /** For the environment in the folder `storeDir`, which exists. @throws the system's error. */
  constructor(storeDir: string) {
    this.#folder = openSync(storeDir, "r");
  }

  /**
   * Runs `run` while nobody else does the like, in any process. Not for use within itself. `run` gets the descriptor that
   * holds the lock: a child process that inherits it goes on holding it, should this one die.
   * @throws Error after `timeoutMs` of waiting; `run` was not called.
   */
  async alone<Result>(
    run: (descriptor: number) => Promise<Result> | Result,
    { timeoutMs = OPENING_TIMEOUT_MS }: { readonly timeoutMs?: number } = {},
  ): Promise<Result> {
    const end = systemClock.monotonic() + timeoutMs;
    while (!(await tryLockDescriptor(this.#folder))) {
      if (systemClock.monotonic() > end)
        throw new Error(`another process has been opening the store for ${timeoutMs / 1000} s, and is not done`);
      await systemClock.sleep(TRY_AGAIN_MS);
    }
    try {
      return await run(this.#folder);
    } finally {
      await unlockDescriptor(this.#folder);
    }
  }

  /** Once and for all; a second time does nothing. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#folder);
  }
}

/** An opening takes a millisecond, a commit a few. */
const TRY_AGAIN_MS = 1;

/** More than the longest scan of a store takes (preflight.ts), which is an opening too. */
const OPENING_TIMEOUT_MS = 150_000;
