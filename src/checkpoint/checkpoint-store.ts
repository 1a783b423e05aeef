import type { Position } from "../record/position.ts";

/**
 * The durability boundary (design "CheckpointStore", delivery contract section 3). Watcher, Tailer and pipeline see
 * this interface only, never which store is behind it.
 *
 * Invariants:
 * 1. The store is the source of truth; what is in memory can be rebuilt from it at any time.
 * 2. `commit` resolves once its changes are flushed to stable storage, all of them or none.
 * 3. Whoever keeps a view in memory updates it after `commit` has resolved, never before.
 */
export interface CheckpointStore {
  /** Everything in the store, in one consistent snapshot. */
  load(): Promise<StoredState>;
  /**
   * Makes all changes durable in one transaction.
   * @throws CheckpointError `TR_COMMIT_FAILED`: nothing was changed; the same changes may be committed again later.
   */
  commit(changes: readonly Change[]): Promise<void>;
  /** Waits for commits under way, then closes. */
  close(): Promise<void>;
}

/** Anything that survives JSON. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/**
 * One row. A `value` of undefined removes the row.
 *
 * | table    | key                    | value |
 * |----------|------------------------|-------|
 * | position | sink, source, file key | what has ended at that sink |
 * | file     | source, file key       | identity of a file, its forced boundaries, tombstone |
 * | mark     | sink, name             | what a sink keeps beside the positions: output length, intent, epoch |
 * | note     | name                   | run bookkeeping: ledger of the last run, known components |
 */
export type Change =
  | {
      readonly table: "position";
      readonly sink: string;
      readonly source: string;
      readonly file: string;
      readonly value: Position | undefined;
    }
  | { readonly table: "file"; readonly source: string; readonly file: string; readonly value: FileEntry | undefined }
  | { readonly table: "mark"; readonly sink: string; readonly name: string; readonly value: Json | undefined }
  | { readonly table: "note"; readonly name: string; readonly value: Json | undefined };

export interface StoredState {
  readonly positions: readonly {
    readonly sink: string;
    readonly source: string;
    readonly file: string;
    readonly value: Position;
  }[];
  readonly files: readonly { readonly source: string; readonly file: string; readonly value: FileEntry }[];
  readonly marks: readonly { readonly sink: string; readonly name: string; readonly value: Json }[];
  readonly notes: readonly { readonly name: string; readonly value: Json }[];
}

/** Length and hash of a stretch of a file's bytes. */
export interface ContentMark {
  /** Bytes hashed. */
  readonly length: number;
  /** Hex. */
  readonly hash: string;
}

/** An archive whose content was read to its end: whether it has changed since, and what was wrong with it. */
export interface ArchiveMark {
  /** Of the compressed file. */
  readonly bytes: number;
  readonly modifiedMs: number;
  /** Its content ends where it cannot be decompressed further. */
  readonly damage?: {
    /** In plain words. */
    readonly reason: string;
    /** Byte of the archive; absent where that is not known. */
    readonly at?: number;
  };
}

/** The stored identity of one generation of a file (delivery contract, section 4). */
export interface FileEntry {
  /** Rises at each truncation of the same path. */
  readonly generation: number;
  /** Of the file system: UUID, or mount source and root; a device number would be good for this boot only. */
  readonly fileSystem: string;
  /** Decimal. */
  readonly inode: string;
  /** Decimal nanoseconds; "0": unknown. */
  readonly birthNs: string;
  /** The first bytes: up to 1 KiB, grown while the file is shorter. */
  readonly fingerprint: ContentMark;
  /** The up to 256 bytes that end at `guardEnd`; of length 0 where they tell nothing (a hole). */
  readonly guard: ContentMark;
  /** Offset that the guard ends at: at or above the furthest end that any sink has in the same transaction. */
  readonly guardEnd: number;
  /** All names it was seen under, newest last; byte paths (one character per byte). The first is what events say. */
  readonly names: readonly string[];
  /** Bytes (of content: decompressed for an archive). */
  readonly lastSize: number;
  /** When it was last seen to be the one at its path, wall clock milliseconds: what came after it there is younger. */
  readonly lastSeenMs: number;
  /** When its content was last modified, as last seen, wall clock milliseconds: an archive of it keeps that time. */
  readonly modifiedMs?: number;
  /** Offsets at which records must be cut on a replay, since a time-out cut them there; ascending. */
  readonly boundaries: readonly number[];
  /**
   * Where reading began, if not at 0: bytes below were never wanted (`read_from = "end"`, a hole after a truncation, the
   * part that a copy has in common with its original).
   */
  readonly start?: number;
  /**
   * Only for a copy (made to truncate its original): key of the file that gave its bytes up to `start`. Nothing is read
   * from it; if the original's content is found nowhere else, it is found here.
   */
  readonly copyOf?: string;
  /** Place among the generations of its path: a higher one came later. Absent: not found out yet. */
  readonly order?: number;
  /** Only for an archive that was read to its end: what it was then. */
  readonly archive?: ArchiveMark;
  /** Set once the file is finished (rotated away, deleted, truncated): since when, wall clock milliseconds. */
  readonly tombstoneSinceMs?: number;
}
