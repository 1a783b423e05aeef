import { CheckpointError } from "../errors.ts";
import type { DeadLetter } from "./letter.ts";

/** What can be asked of a dead letter store, also while another process writes it. */
export interface DeadLetterReader {
  /** In the order in which they first came. What goes meanwhile may or may not be seen; what comes meanwhile is not. */
  list(filter?: LetterFilter): AsyncIterable<DeadLetter>;
  get(id: string): Promise<DeadLetter | undefined>;
  /** Letters that somebody asked to send again, in their order; each as it is when it is handed out. */
  pendingReplay(): AsyncIterable<ReplayOrder>;
  close(): Promise<void>;
}

export interface LetterFilter {
  readonly component?: string;
}

/** One request to send a letter to its component again. */
export interface ReplayOrder {
  readonly letter: DeadLetter;
  /** Names this request: a letter that is refused again, and ordered again then, gets another one. */
  readonly token: string;
}

/**
 * Durable, bounded store of what was refused for good (delivery contract, section 5). Every method that changes
 * something resolves when the change is flushed to stable storage, and rejects with nothing changed.
 *
 * A replay ends in one of two ways, and neither loses the letter:
 *
 * ```
 * put -> [stored] -- markForReplay --> [ordered, token] -- redelivered, finishReplay(token) --> gone
 *           ^                                |
 *           '--------- refused again: put ---'   the token is void, a late finishReplay removes nothing
 * ```
 *
 * An order for a letter that is ordered already is the same order: somebody who asks twice gets one delivery. Dying
 * between the redelivery and `finishReplay` sends the letter again, with the same record id.
 */
export interface DeadLetterStore extends DeadLetterReader {
  /** Letters in it. */
  readonly count: number;
  /** Bytes of all letters, as they are stored. */
  readonly bytes: number;
  /** At `bytes` beyond this, nothing more is taken. One larger than all of it enters alone, when the store is empty. */
  readonly maxBytes: number;
  readonly isFull: boolean;
  /**
   * All of them or none; a letter whose id is there already replaces it, so that a repeat after a crash is harmless.
   * @throws CheckpointError `TR_DEAD_LETTERS_FULL` (the caller tries again later, and never drops),
   *   `TR_COMMIT_FAILED` (the disk did not take it; likewise).
   */
  put(letters: readonly DeadLetter[]): Promise<void>;
  /** Returns how many of them there were. */
  remove(ids: readonly string[]): Promise<number>;
  /** Removes all, or all of a component; returns how many. */
  purge(filter?: LetterFilter): Promise<number>;
  /** Orders letters to be sent again, those that are not ordered already; returns how many of them there are. */
  markForReplay(ids: readonly string[]): Promise<number>;
  /** Removes letters that were redelivered, unless they were refused again since; returns how many. */
  finishReplay(orders: readonly { readonly id: string; readonly token: string }[]): Promise<number>;
}

/**
 * Says why and what to do; the same words from every implementation. What is sent again goes through the input of its
 * component: where that one waits for room itself, it makes none before a restart, at which what it refused is tried anew.
 */
export function storeIsFull(maxBytes: number): CheckpointError {
  return new CheckpointError(
    "TR_DEAD_LETTERS_FULL",
    `the dead letter store is full (${maxBytes} bytes); make room with \`tailrace dlq purge\`, or raise dead_letters.max_bytes and restart; where the component takes them by now, \`tailrace dlq replay\` and a restart`,
  );
}
