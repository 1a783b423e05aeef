import type { Broadcast, ChannelOptions, Receiver, Sender } from "../channel/index.ts";
import type { FileEntry, Json } from "../checkpoint/checkpoint-store.ts";
import type { Batch } from "../record/batch.ts";
import type { DataRecord } from "../record/data-record.ts";
import type { Position, Range } from "../record/position.ts";
import type { BackoffOptions } from "../runtime/backoff.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import type { MemoryBudget } from "../runtime/memory-budget.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";

/** What every stage is handed when it is opened. */
export interface StageContext {
  /** The component's name in the configuration. */
  readonly name: string;
  readonly log: Logger;
  /** Lifecycle events of this component. */
  readonly events: EventSink;
  readonly clock: Clock;
  readonly random: Random;
  readonly fileSystem: FileSystem;
  /** The `host` field of events. */
  readonly host: string;
  /** The folder of `tailrace`'s own state; for what must survive but is no position (cut-off bytes of an output). */
  readonly stateDir: string;
}

/** A designed channel that stages make, as below `[mpsc_channels]`; its last two names are its metric labels. */
export type StageChannelSection =
  | "orchestration.event_listeners"
  | "task_readiness.event_channel"
  | "worker.command_processor"
  | "shared.ffi";

/**
 * The designed channels that all stages of a process share. There is one object of it for a process: stages that share
 * a channel find each other by it (a WeakMap), and the first one makes it. A channel that is still in use cannot be
 * made a second time; one whose ends are closed can.
 */
export interface StageChannels {
  /** Makes the channel of `section`, with its configured size and policy. `why`: what it carries, in a sentence. */
  create<T>(
    section: StageChannelSection,
    options: { readonly why: string } & Pick<ChannelOptions<T>, "onDrop" | "priorityLanes" | "coalesce" | "onSlowSend">,
  ): { readonly sender: Sender<T>; readonly receiver: Receiver<T>; readonly size: StageChannelSize };
  /** Makes `worker.in_process_events`. */
  createBroadcast<T>(section: "worker.in_process_events", options: { readonly why: string }): Broadcast<T>;
  /** What happens to an announcement on `task_readiness.event_channel` that finds no room. */
  readonly taskReadiness: TaskReadinessBehaviour;
}

/** `event_systems.task_readiness.metadata.event_channel`. */
export interface TaskReadinessBehaviour {
  /** How often a failed announcement is tried again. */
  readonly maxRetries: number;
  readonly backoff: BackoffOptions;
}

/** As configured. */
export interface StageChannelSize {
  /** Messages. */
  readonly bufferSize: number;
  readonly sendTimeoutMs: number;
  /** Fraction of 1 at which the channel counts as nearly full. */
  readonly warningThreshold: number;
}

// ---------------------------------------------------------------- sources

/** A source: reads records and sends them; the pipeline is the single consumer of `output`. */
export interface Source {
  /** Where its batches come out. Closes when the source has ended and everything was received. */
  readonly output: Receiver<Batch>;
  /**
   * Reads until `signal` aborts, or, with `once`, until what was there at the start has been read; then closes its
   * senders and resolves. Rejecting is a supervised error.
   */
  run(options: { signal: AbortSignal; once: boolean }): Promise<void>;
  /** What was read and what is left, over all files (partitions, ...). */
  status?(): SourceStatus;
  /** Where each file (partition, ...) stands. */
  files?(): readonly SourceFile[];
  /** Why it cannot read at the moment (its upstream is not there, ...), for `/ready`; undefined: nothing is wrong. */
  readonly trouble?: string | undefined;
  /** Why `path` is, or is not, being read by this source, and where it stands; JSON for `tailrace why`. */
  why?(path: string): Promise<{ readonly [fact: string]: unknown }>;
  /** Forgets where the files at `path` stand, so that they are read as new ones; how many there were. */
  reset?(path: string): Promise<number>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface SourceStatus {
  readonly files: number;
  /** Bytes known to exist but not yet read, over all files. */
  readonly lagBytes: number;
  /** Lines cut into several records since the start, as they were too long. */
  readonly cutLines?: number;
  /** Files that match and are not read, since there are more than `max_files`. */
  readonly leftOutFiles?: number;
  /** Files that were to be read and could not be, wholly or in part, with the reason in plain words; for the end of `--once`. */
  readonly unreadable?: readonly { readonly path: string; readonly reason: string }[];
}

/** Where a source stands in one file. */
export interface SourceFile {
  readonly path: string;
  /** Bytes known to exist but not yet read. */
  readonly lagBytes: number;
  /** `finished`: it is only remembered, and has no lag to be shown. */
  readonly phase?: string;
}

export interface SourceContext extends StageContext {
  readonly channels: StageChannels;
  /** Makes the source's one output channel from its configured size; call it once. */
  channel(): { sender: Sender<Batch>; receiver: Receiver<Batch> };
  /** Memory that batches are read into: the in-flight budget of the whole process. */
  readonly budget: MemoryBudget;
  /** Positions and file entries of this source, and the way to make new ones durable. */
  readonly positions: SourcePositions;
  /**
   * Ends a batch that nobody shall be sent (its messages were delivered too often): its records go to the dead letters, and
   * once they are durable it has ended at every sink. Takes over the batch's memory. False if `signal` aborted before that.
   */
  deadLetter(batch: Batch, reason: string, attempts: number, options: { signal: AbortSignal }): Promise<boolean>;
}

/** A source's view of the checkpoint. It reads where to start and never writes a position: that is what endings do. */
export interface SourcePositions {
  /** Lowest stored prefix over all sinks that this source feeds; 0 for a file never seen. */
  startOf(fileKey: string): number;
  /** Every stored prefix and range end of any sink above `startOf`, ascending: replay must cut records there. */
  boundariesOf(fileKey: string): readonly number[];
  /** Lowest prefix that every sink has settled and that is committed. */
  committedOf(fileKey: string): number;
  /** Highest end that any sink has committed, one that is configured no longer too; 0 for a file never seen. */
  furthestOf(fileKey: string): number;
  /** Whether all of the range has ended at every sink, and that is committed. */
  isCommitted(fileKey: string, range: Range): boolean;
  /** False while a settled set of this file is at its limit of ranges: stop reading it until it is true again. */
  hasRoom(fileKey: string): boolean;
  /** Resolves when `hasRoom` may have become true, or `signal` aborts. */
  roomFor(fileKey: string, options: { signal: AbortSignal }): Promise<void>;
  /** Inherit: makes `toFile` start with the settled sets of `fromFile` (a copy of the same content). Durable when resolved. */
  inherit(fromFile: string, toFile: string): Promise<void>;
  /** No run of this source has looked for its files yet: what is there now was there before anybody wanted it. */
  readonly isNew: boolean;
  /** It has looked for its files; from the next start on it is not new. */
  started(): void;
  /** The stored file entries of this source, as committed. */
  files(): ReadonlyMap<string, FileEntry>;
  /**
   * Makes file entries durable (undefined removes the entry and its positions); resolves when flushed. `skipped`: stretches
   * that hold no record for anybody (what lies before a start at the end, a hole) end at every sink in the same commit.
   */
  save(entries: ReadonlyMap<string, FileEntry | undefined>, skipped?: ReadonlyMap<string, Range>): Promise<void>;
  /** Notes entries that may be written with the next commit, whenever that is (sizes, names, tombstones). */
  saveLazily(entries: ReadonlyMap<string, FileEntry>): void;
  /** From now on `describe` is asked, at the instant of each commit, of the files that it commits positions of. */
  describeBy(describe: DescribeFile): void;
}

/**
 * The entry of a file whose positions are being committed, with a guard that covers `furthest`: the highest end that any
 * sink has in that transaction. It is made durable in the very same one (delivery contract, section 4).
 *
 * @returns undefined for a file that the source does not know (any more)
 */
export type DescribeFile = (fileKey: string, furthest: number) => DescribedFile | undefined;

export interface DescribedFile {
  readonly entry: FileEntry;
  /** What lies below has been read by this process; a target may know of more, from before a crash. */
  readonly readEnd: number;
}

// ---------------------------------------------------------------- transforms

/** A transform: fewer, more or changed records. */
export interface Transform {
  /** Called with one batch at a time, in order. Leaving a record out of `kept` ends it as `filtered`. */
  apply(records: readonly DataRecord[]): TransformResult | Promise<TransformResult>;
  [Symbol.asyncDispose]?(): Promise<void>;
}

export interface TransformResult {
  readonly kept: readonly DataRecord[];
  /** Bad records, each with the reason in plain words; they go to the dead letters. */
  readonly rejected?: readonly Rejection[];
}

export interface Rejection {
  readonly record: DataRecord;
  readonly reason: string;
}

// ---------------------------------------------------------------- sinks

/** What became of a `write`. */
export type Outcome =
  /** The target took the batch. For a sink that keeps marks: written; it counts once `prepare` and the commit are through. */
  | { readonly kind: "delivered" }
  /** Nothing of it counts; the same batch is to be sent again, not before `afterMs`. `recover` is called first where the outcome is unknown. */
  | {
      readonly kind: "retry";
      readonly reason: string;
      readonly afterMs?: number;
      readonly isOutcomeUnknown?: boolean;
      /** Nothing is wrong: the sink takes the batch after the next barrier. No error, no wait but for that. */
      readonly needsBarrier?: boolean;
    }
  /** The target will never take this batch as it is: it is bisected until the bad record stands alone. */
  | { readonly kind: "rejected"; readonly reason: string };

/**
 * What a sink may say of a batch while its `write` goes on, for targets that take records one by one: each record that has
 * ended is settled at once, and only the others are sent again, refused or given up with the outcome of the write. Not for
 * sinks that keep marks.
 */
export interface WriteProgress {
  /** The target has taken this record. Each record of the batch ends once, by this or the next. */
  delivered(record: DataRecord): void;
  /** The target will never take this record: resolves once it is a dead letter; false if the write was given up before. */
  rejected(record: DataRecord, reason: string, attempts: number): Promise<boolean>;
  /** An attempt failed, which the sink tries again by itself; counted as an error. */
  failed(): void;
  /** The target works on it: a write that lasts is not taken for one that hangs. */
  alive(): void;
  /** The target takes nothing at the moment; over with the next record that ends. */
  stalled(reason: string): void;
}

/** The reason of a write's signal where another sink takes over: what the target is working on may still end before that. */
export const REPLACED = "replaced";

export const delivered = (): Outcome => ({ kind: "delivered" });
export const retry = (
  reason: string,
  options: { afterMs?: number; isOutcomeUnknown?: boolean; needsBarrier?: boolean } = {},
): Outcome => ({
  kind: "retry",
  reason,
  ...options,
});
export const rejected = (reason: string): Outcome => ({ kind: "rejected", reason });

/** Named values that a sink keeps beside its positions; undefined removes one. Committed together with the sets they describe. */
export type Marks = { readonly [name: string]: Json | undefined };

/** What the target itself knows (delivery contract, section 6); united with what the store knows. */
export interface Recovered {
  /** Positions that the target holds, by source, file key and way: exactly as `write` was handed them. */
  readonly positions: readonly {
    readonly source: string;
    readonly file: string;
    readonly way: string;
    readonly value: Position;
  }[];
  /** The target's generation is lower than the stored one: it was restored or recreated, its positions stand alone. */
  readonly standsAlone?: boolean;
}

/**
 * A sink. `open` does not need the target to be there. The pipeline calls `recover` once after opening and again after any unknown outcome, then `write` with one
 * batch after the other (`concurrency` of them at once where the sink allows more than 1), and `prepare` at each barrier
 * between two writes. A sink never sees the checkpoint store.
 */
export interface Sink {
  recover?(): Promise<Recovered>;
  /**
   * Hands a batch to the target. Retry, bisection and dead letters are the pipeline's work: say what happened. `way`: by
   * which transforms the batch came. A target that keeps positions keeps them per way, since two ways from one source
   * bring different records of the same ranges. With `progress` records end before the write does; after that the outcome
   * is about the others.
   */
  write(batch: Batch, options: { signal: AbortSignal; way?: string; progress?: WriteProgress }): Promise<Outcome>;
  /**
   * The barrier. Called between two writes; before its first await it must take note of what exactly was written so far,
   * then it makes that durable and resolves with the marks that describe it. Writes go on meanwhile. Rejecting means
   * that what was written since the last committed marks is in doubt: the sink must be back at those marks when it
   * rejects, and the pipeline writes the batches since then again, in order, before anything new. A `write` that is called
   * while the sink goes back answers `retry`, so that nothing new can land before them.
   */
  prepare?(): Promise<Marks>;
  /** The marks of the last `prepare` (and every set they describe) are durable. */
  committed?(): void | Promise<void>;
  /** SIGUSR1. */
  rotate?(): void;
  /** Nothing more will be written; called after the last commit. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface SinkContext extends StageContext {
  readonly channels: StageChannels;
  /** The sink's committed marks. */
  readonly marks: ReadonlyMap<string, Json>;
  /** Makes marks durable now, outside of a barrier (an intent before its first effect); resolves when flushed. */
  saveMarks(marks: Marks): Promise<void>;
  /** True if the last run ended with a clean stop of this sink. */
  readonly wasCleanStop: boolean;
}
