import { join } from "node:path";
import {
  Checkpoint,
  type CheckpointStore,
  GroupCommit,
  keepReserve,
  openLmdbStore,
  prepareStateDirectory,
  releaseReserve,
} from "../checkpoint/index.ts";
import { toError } from "../errors.ts";
import type { Clock } from "../runtime/clock.ts";
import { type DirectoryLock, lockDirectory } from "../runtime/directory-lock.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";

/** Who is told of commits. */
export interface CommitListener {
  /** How long each took, failed ones included. */
  readonly observeSeconds: (seconds: number) => void;
  readonly events: EventSink;
}

/** The state directory of a running agent: locked, its store open, its view loaded. */
export class AgentState {
  readonly stateDir: string;
  readonly checkpoint: Checkpoint;
  readonly groupCommit: GroupCommit;
  readonly #lock: DirectoryLock;
  readonly #store: CheckpointStore;

  private constructor(
    stateDir: string,
    lock: DirectoryLock,
    store: CheckpointStore,
    checkpoint: Checkpoint,
    clock: Clock,
    told: CommitListener,
  ) {
    this.stateDir = stateDir;
    this.checkpoint = checkpoint;
    this.#lock = lock;
    this.#store = store;
    let seconds = 0;
    this.groupCommit = new GroupCommit(store, {
      clock,
      observeSeconds: (took) => {
        seconds = took;
        told.observeSeconds(took);
      },
      onCommitted: (changes) => {
        // Store first, memory second.
        checkpoint.applied(changes);
        const facts = { changes: changes.length, seconds };
        told.events.emit("commit", `a checkpoint of ${changes.length} changes is durable`, facts);
      },
    });
  }

  /**
   * Locks and opens.
   * @throws CheckpointError `TR_STATE_IN_USE`, `TR_STATE_DAMAGED`, `TR_STATE_NEWER`, `TR_STATE_UNUSABLE`; nothing is held then.
   */
  static async open(stateDir: string, clock: Clock, log: Logger, told: CommitListener): Promise<AgentState> {
    await prepareStateDirectory(stateDir);
    const lock = await lockDirectory(stateDir, { clock });
    try {
      const store = await openLmdbStore(stateDir);
      const checkpoint = await Checkpoint.load(store);
      // It is for the last commit on a full disk; making it must not delay the first record.
      void keepReserve(stateDir).then(
        (isKept) =>
          isKept ||
          log.warn({ path: join(stateDir, "reserve") }, "no room for the reserve of the last commit; free some space"),
        (error: unknown) =>
          log.warn({ error: toError(error).message }, "the reserve for the last commit could not be made"),
      );
      return new AgentState(stateDir, lock, store, checkpoint, clock, told);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Frees the reserve, so that a last commit fits on a full disk. */
  releaseReserve(): Promise<void> {
    return releaseReserve(this.stateDir);
  }

  async close(): Promise<void> {
    await this.groupCommit.close();
    await this.#store.close();
    this.#lock.release();
  }
}
