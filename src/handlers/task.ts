import type { WaitingTask } from "../readiness/index.ts";
import type { DataRecord } from "../record/index.ts";
import type { Backoff } from "../runtime/backoff.ts";

/** What a handler is handed: `{"id", "attempt", "event"}`, for a foreign one as a line of JSON. */
export interface HandlerMessage {
  readonly id: string;
  /** Starts at 1; the read count of the queue, where there is one, and what was tried again here. */
  readonly attempt: number;
  readonly event: DataRecord["event"];
}

/** What it answers. */
export type Answer =
  | { readonly id: string; readonly ok: true; readonly events: number }
  | { readonly id: string; readonly ok: false; readonly error: string; readonly retry: boolean };

/** Who wants to know how it went. */
export interface TaskOwner {
  /** `events`: how many the answer carried. */
  done(task: Task, events: number): void;
  /** It has failed for good. */
  refused(task: Task, reason: string): void;
  /** An attempt has failed; it is tried again. */
  failed(task: Task): void;
}

/** One message on its way through a handler, from the dispatch channel to its one ending. */
export class Task implements WaitingTask {
  readonly record: DataRecord;
  readonly owner: TaskOwner;
  /** The first attempt here: the read count of the queue, or 1. */
  readonly #firstAttempt: number;
  /** Attempts that failed and count against it. */
  failures = 0;
  /** A worker died that held this and others: it is tried alone before a death counts. */
  isSuspect = false;
  /** Has ended, or nobody waits for it any more: whoever meets it leaves it out. */
  isOver = false;
  /** A worker holds it. */
  isRunning = false;
  /** Why its last attempt failed, while it is not known yet whether that is its own fault. */
  accusation: string | undefined;
  /** Between its attempts. */
  backoff: Backoff | undefined;
  /** What is done once it is due. */
  onReady: () => void | Promise<void> = () => {};

  constructor(record: DataRecord, owner: TaskOwner) {
    this.record = record;
    this.owner = owner;
    this.#firstAttempt = readCountOf(record);
  }

  get id(): string {
    return this.record.id;
  }

  /** Of the next attempt, or the one under way. */
  get attempt(): number {
    return this.#firstAttempt + this.failures;
  }

  ready(): void | Promise<void> {
    return this.isOver ? undefined : this.onReady();
  }

  get message(): HandlerMessage {
    return { id: this.id, attempt: this.attempt, event: this.record.event };
  }
}

/** How often the queue has handed this message out, this time included; 1 where the source is no queue. */
function readCountOf(record: DataRecord): number {
  if (record.origin.kind !== "acknowledged") return 1;
  const count = record.event["read_count"];
  return Number.isSafeInteger(count) && (count as number) > 1 ? (count as number) : 1;
}
