import type { Batch } from "../record/batch.ts";
import type { Clock } from "../runtime/clock.ts";
import type { MemoryBudget } from "../runtime/memory-budget.ts";
import type { Random } from "../runtime/random.ts";
import type { SourcePositions } from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Content } from "./content.ts";
import type { FileState } from "./file-state.ts";
import type { SourceNotices } from "./source-notices.ts";

/** The batch that a Tailer emits: whole lines of one file, and the byte range that they came from. */
export type TailerPayload = Batch;

/** What tailers have read, over all files of the source. */
export interface ReadCounters {
  /** Delimiters included. */
  bytes: number;
  records: number;
  /** Lines longer than `max_line_bytes`, each counted once. */
  cutLines: number;
  /** Bytes of holes after truncations. */
  holeBytes: number;
}

export interface TailerOptions {
  readonly budget: MemoryBudget;
  readonly positions: SourcePositions;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly log: Logger;
  readonly host: string;
  readonly delimiter: Buffer;
  readonly encoding: string;
  readonly maxLineBytes: number;
  readonly maxBatchBytes: number;
  readonly partialLineTimeoutMs: number;
  readonly rotateWaitMs: number;
  readonly counters: ReadCounters;
  readonly notices: SourceNotices;
  /** Rises when options were changed: what follows is framed by the new ones. */
  readonly revision: number;
  /** Opens the content where the state says it is; undefined: something else is there now. */
  readonly open: (state: FileState) => Promise<Content | undefined>;
  /** The content is open, and is what was expected. */
  readonly onOpened: (state: FileState) => void;
  /** All that was there when the end was marked has been sent. */
  readonly onCaughtUp: (state: FileState) => void;
  /** Nothing is left to read at the moment; the descriptor may be wanted elsewhere. */
  readonly onIdle: (state: FileState) => void;
}

/**
 * Why a tailer ended:
 * - `stopped`: cancelled, or nobody receives any more; it can go on from `state.offset`
 * - `finished`: nothing more will come
 * - `truncated`: the content before `state.offset` is not what was read: cut, replaced or rewritten
 * - `moved`: another file lies there now
 * - `failed`: the file cannot be opened or read; it can go on from `state.offset`
 */
export type TailerEnd =
  | { readonly kind: "stopped" | "finished" | "truncated" | "moved" }
  | { readonly kind: "failed"; readonly error: Error };

/**
 * When a tailer ends by itself: never; when its file was quiet for `rotate_wait_ms`; at the end of the content, or, where
 * that is an archive which is not whole or grows, when that was quiet for so long; at the end of the content.
 */
export type Ending = "never" | "when_quiet" | "when_whole" | "at_end";
