import { CheckpointError, toError } from "../errors.ts";
import type { Change, CheckpointStore, StoredState } from "./checkpoint-store.ts";
import { changesOf, readRow, rowsOf, stateOf } from "./store-rows.ts";

export interface MemoryCheckpointStoreOptions {
  /** What it holds from the start. */
  readonly state?: StoredState;
  /**
   * Called before each commit takes effect and awaited: a place to delay one. If it rejects, the commit fails and
   * changes nothing.
   */
  readonly beforeCommit?: (changes: readonly Change[]) => void | Promise<void>;
}

/**
 * A CheckpointStore for tests, simulations and library users who need none that lasts. It keeps rows as text, exactly
 * as the LMDB store does, so that nobody shares an object with it. Commits take effect one after the other in the
 * order of their calls. After `close` the same object may be opened again with `reopen`, as a file would.
 */
export class MemoryCheckpointStore implements CheckpointStore {
  readonly #rows = new Map<string, string>();
  readonly #beforeCommit: ((changes: readonly Change[]) => void | Promise<void>) | undefined;
  readonly #failures: Error[] = [];
  #last: Promise<void> = Promise.resolve();
  #isClosed = false;
  #commits = 0;

  constructor(options: MemoryCheckpointStoreOptions = {}) {
    this.#beforeCommit = options.beforeCommit;
    if (options.state !== undefined) this.#apply(rowsOf(changesOf(options.state)));
  }

  /** Transactions that took effect. */
  get commits(): number {
    return this.#commits;
  }

  /** The next commit (of those not yet begun) fails with `TR_COMMIT_FAILED`; called twice, the next two do. */
  failNextCommit(cause: Error = new Error("injected failure")): void {
    this.#failures.push(cause);
  }

  async load(): Promise<StoredState> {
    return stateOf([...this.#rows].map(([key, value]) => readRow(key, value)));
  }

  async commit(changes: readonly Change[]): Promise<void> {
    const rows = rowsOf(changes);
    const kept = [...changes];
    const before = this.#last;
    const commit = before.then(() => this.#commit(rows, kept));
    this.#last = commit.catch(() => {});
    return commit;
  }

  async close(): Promise<void> {
    await this.#last;
    this.#isClosed = true;
  }

  /** Takes commits again, holding what was committed before: the next run of the program. */
  reopen(): void {
    this.#isClosed = false;
  }

  async #commit(rows: ReadonlyMap<string, string | undefined>, changes: readonly Change[]): Promise<void> {
    if (this.#isClosed) throw new CheckpointError("TR_COMMIT_FAILED", "the checkpoint store is closed");
    try {
      await this.#beforeCommit?.(changes);
      const failure = this.#failures.shift();
      if (failure !== undefined) throw failure;
    } catch (error) {
      const cause = toError(error);
      throw new CheckpointError("TR_COMMIT_FAILED", `the checkpoint could not be written: ${cause.message}`, { cause });
    }
    this.#apply(rows);
    this.#commits += 1;
  }

  #apply(rows: ReadonlyMap<string, string | undefined>): void {
    for (const [key, value] of rows) {
      if (value === undefined) this.#rows.delete(key);
      else this.#rows.set(key, value);
    }
  }
}
