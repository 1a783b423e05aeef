import { CheckpointError, toError } from "../errors.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Change, CheckpointStore } from "./checkpoint-store.ts";

/**
 * Somebody with changes that may wait for the next transaction, whenever that is (sizes, names, guards of files). It is
 * asked right before each one; having something to contribute never starts one.
 */
export interface Contributor {
  /** What is pending now. It counts as handed over until `committed` or `failed` is called with it. */
  take(): readonly Change[];
  /** What must be durable in one transaction with `submitted`, as of now; of changes of one row these win. */
  accompany?(submitted: readonly Change[]): readonly Change[];
  /** The changes of the last `take` are durable. */
  committed?(changes: readonly Change[]): void;
  /** Nothing of them is durable: they are pending again, unless something newer has come meanwhile. */
  failed(changes: readonly Change[]): void;
}

export interface GroupCommitOptions {
  readonly clock: Pick<Clock, "monotonic">;
  /**
   * Called once per transaction after it is flushed and before anybody who submitted to it goes on, with its changes in
   * order: the place to update the view (`checkpoint.applied(changes)`).
   */
  readonly onCommitted?: (changes: readonly Change[]) => void;
  /** Called with the time that each transaction took, failed ones too, in seconds (a metric's unit). */
  readonly observeSeconds?: (seconds: number) => void;
}

/**
 * Joins the changes of many into few transactions, one at a time:
 *
 * ```
 *  submit A        submit B, C                      submit D
 *     |               |  |                             |
 *     [--- A ---------]  .                             .
 *                     [--- contributions, B, C --------]
 *                                                      [--- contributions, D ---]
 * ```
 *
 * What is submitted joins the next transaction; if none is under way that one starts at the end of the current turn of
 * the event loop's microtasks. Retrying is the caller's choice.
 */
export class GroupCommit {
  readonly #store: Pick<CheckpointStore, "commit">;
  readonly #options: GroupCommitOptions;
  readonly #contributors = new Set<Contributor>();
  #waiting: Submission[] = [];
  #running: Promise<void> | undefined;
  #isClosed = false;
  #commits = 0;
  #failures = 0;

  constructor(store: Pick<CheckpointStore, "commit">, options: GroupCommitOptions) {
    this.#store = store;
    this.#options = options;
  }

  /** Transactions that were flushed. */
  get commits(): number {
    return this.#commits;
  }

  /** Transactions that failed. */
  get failures(): number {
    return this.#failures;
  }

  /** Asks `contributor` before each transaction from now on. Returns what ends that. */
  contribute(contributor: Contributor): () => void {
    this.#contributors.add(contributor);
    return () => {
      this.#contributors.delete(contributor);
    };
  }

  /**
   * Makes the changes durable with the next transaction; resolves when it is flushed. Changes of one row count in the
   * order of submission; a contributed change of the same row loses to a submitted one. With no changes it resolves
   * once everything contributed until now is durable, without a transaction if that is nothing.
   * @throws CheckpointError `TR_COMMIT_FAILED`, to all who submitted to the failed transaction: nothing was changed.
   */
  submit(changes: readonly Change[]): Promise<void> {
    if (this.#isClosed) {
      return Promise.reject(new CheckpointError("TR_COMMIT_FAILED", "checkpoints are no longer taken: shutting down"));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ changes, resolve, reject });
      this.#running ??= this.#run();
    });
  }

  /** Takes nothing new; resolves when what was submitted has been flushed or has failed. The store stays open. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    // One microtask later, so that all who submit in one go share the transaction.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const submissions = this.#waiting;
      this.#waiting = [];
      await this.#commit(submissions);
    }
    this.#running = undefined;
  }

  async #commit(submissions: readonly Submission[]): Promise<void> {
    const taken: { contributor: Contributor; changes: readonly Change[] }[] = [];
    const start = this.#options.clock.monotonic();
    let isFlushed = false;
    try {
      const submitted = submissions.flatMap((each) => each.changes);
      for (const contributor of this.#contributors) taken.push({ contributor, changes: contributor.take() });
      const accompanying = [...this.#contributors].flatMap((contributor) => contributor.accompany?.(submitted) ?? []);
      const changes = [...taken.flatMap((each) => each.changes), ...submitted, ...accompanying];
      if (changes.length > 0) {
        await this.#store.commit(changes);
        isFlushed = true;
        this.#commits += 1;
        this.#observe(start);
        this.#options.onCommitted?.(changes);
      }
      for (const { contributor, changes } of taken) contributor.committed?.(changes);
      for (const { resolve } of submissions) resolve();
    } catch (error) {
      const failure = toError(error);
      for (const { reject } of submissions) reject(failure);
      // An error behind the flush is a bug in a callback; the changes are durable all the same.
      if (isFlushed) return;
      this.#failures += 1;
      for (const { contributor, changes } of taken) contributor.failed(changes);
      this.#observe(start);
    }
  }

  #observe(start: number): void {
    this.#options.observeSeconds?.((this.#options.clock.monotonic() - start) / 1000);
  }
}

interface Submission {
  readonly changes: readonly Change[];
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}
