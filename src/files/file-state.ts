import type { ArchiveMark, ContentMark, FileEntry } from "../checkpoint/checkpoint-store.ts";
import { fileOrigin, type Origin } from "../record/origin.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { type FileId, fileId } from "./file-id.ts";
import { EMPTY_MARK } from "./fingerprint.ts";
import { type Guard, Guards } from "./guards.ts";

/**
 * Where a file stands in its life:
 *
 *     live ------(its path is gone or holds something else)-----> rotated --(quiet for rotate_wait_ms)--> finished
 *      |                                                            ^  |                                     |
 *      |                                          (found) +---------+  | (cannot be found)                   |
 *      |                                                  |            v                                     |
 *      +--(gone, and not open)--------------------------> missing <----+     (grows again) rotated, live <---+
 *
 * - `live`: at a path that matches; may grow for ever.
 * - `rotated`: read on until it is quiet, from the open descriptor, its new name, its copy or its archive.
 * - `missing`: nothing that is there has its content. Searched for a while, then given up with a `gap`; for as long as
 *   its folder or mount is gone, kept.
 * - `finished`: a tombstone.
 */
export type Phase = "live" | "rotated" | "missing" | "finished";

/** How a file was replaced under its path. */
export type RotationKind = "renamed" | "copy_truncated" | "deleted";

/** What a look at a path found there: enough to tell that nothing has changed since. */
type Look = Pick<FileStat, "size" | "modifiedMs" | "birthNs"> & { readonly id: FileId };

/** Names that are remembered of one file. */
const MAX_NAMES = 12;

/**
 * One generation of a file, in memory: what the store says of it (`toEntry`) and what only this process knows. Exactly
 * one tailer at a time reads and moves `offset`; where the file is, is discovery's business alone (`Whereabouts`).
 *
 * What is loaded from the store is a claim: `claim` names the inode that it may be in. It becomes knowledge (`id`) once
 * its content was compared in this run.
 */
export class FileState {
  readonly key: string;
  readonly generation: number;
  readonly origin: Origin;
  /** Names that it was seen under, newest last; events say the first. */
  readonly names: BytePath[];
  /** Paths that match and lead to it now. */
  readonly paths = new Set<BytePath>();
  /** Where its content is now; undefined: not known. */
  location: BytePath | undefined;
  /** The inode that holds it, as was proved in this run. */
  id: FileId | undefined;
  /** The inode that held it when the store was written; undefined once that was proved or refuted. */
  claim: FileId | undefined;
  fileSystem: string;
  inode: string;
  birthNs: string;
  /** Next byte to frame: the start of the first line not yet given out. */
  offset: number;
  /** End of the bytes seen; what is between `offset` and here is an unfinished line. */
  readEnd: number;
  /** Size of the content at the last look. */
  size: number;
  /** End of the bytes that a look proved to be its own: what of them cannot be had any more is lost. */
  knownEnd: number;
  /** Where reading began, see FileEntry. */
  start: number;
  /** Bytes below `offset` that no batch has covered yet begin here: the first batch carries them in its range. */
  rangeFrom: number | undefined;
  fingerprint: ContentMark = EMPTY_MARK;
  readonly guards: Guards;
  /** The up to 256 bytes before `offset`; empty until the file was opened in this process. */
  guard: Buffer = Buffer.alloc(0);
  readonly boundaries: number[];
  /** What stands right before `offset`; undefined: not known. */
  resumesAfter: "line" | "cut" | "partial" | undefined;
  /** The entry is durable: records may be emitted. */
  isSaved: boolean;
  /** Only for files without checkpoint: reading starts at this size. */
  startAt: number | undefined;
  /** Wall clock. */
  lastSeenMs: number;
  /** Modification time of its content at the last look, wall clock; 0: not known. An archive of it keeps that time. */
  modifiedMs: number;
  tombstoneSinceMs: number | undefined;
  /** See FileEntry: this only stands for a copy of that file. */
  copyOf: string | undefined;
  /** Its reading was told of, or need not be. */
  isAnnounced = true;
  /** See FileEntry. */
  archive: ArchiveMark | undefined;
  /** The damage of its archive was met in this process. */
  isDamageNew = false;
  /** Monotonic, of the last growth, rotation or reading; what "quiet" is measured from. */
  changedAtMs = 0;
  /** See FileEntry: a higher number came later at the path. */
  order: number | undefined;
  /** This one is read first, to its end as of when this one was seen. */
  predecessor: FileState | undefined;
  /** Key of the last one that was a predecessor, also when that is past. */
  waitedFor: string | undefined;
  /** Content that is not it, though it looked like it: not proposed again before it changes. */
  rejected: Look | undefined;
  /** The look at which its content was last compared. */
  proved: Look | undefined;
  /** It is taken to be where its inode is, but that could not be opened: the tailer that opens it proves it. */
  isUnproven = false;
  /** Discovery is finding out where it is: the pool does not open it meanwhile. */
  isInDoubt = false;
  /** An older sibling may yet turn out to be a generation that comes first. */
  isBlocked = false;
  /** Its reading has begun in this process: it waits for nobody any more. */
  isReleased = false;
  /** Everything that was there when the successor was seen has been sent (or cannot be). */
  isCaughtUp = false;
  /** Monotonic; not to be opened again before. */
  notBeforeMs = 0;
  /** Why it cannot be read at the moment, and since when (monotonic). */
  trouble: { readonly error: Error; readonly sinceMs: number } | undefined;
  /** Monotonic, since when its content was looked for in vain. */
  missingSinceMs: number | undefined;
  #phase: Phase = "live";
  #rotation: RotationKind | undefined;
  /** Highest end that any sink had committed when this was loaded. */
  readonly #loadedEnd: number;

  /**
   * @param offset where reading starts: what every sink has
   * @param furthest what some sink has
   */
  constructor(source: string, key: string, entry: FileEntry, position: { offset: number; furthest: number }) {
    const { offset, furthest } = position;
    this.key = key;
    this.generation = entry.generation;
    this.names = entry.names.map((name) => name as BytePath);
    this.origin = fileOrigin(source, key, entry.generation, pathToText(this.names[0]!));
    this.fileSystem = entry.fileSystem;
    this.inode = entry.inode;
    this.birthNs = entry.birthNs;
    this.claim = fileId(entry.fileSystem, entry.inode);
    this.start = entry.start ?? 0;
    this.offset = Math.max(offset, this.start);
    this.#loadedEnd = Math.max(furthest, this.offset);
    this.rangeFrom = this.offset > offset ? offset : undefined;
    this.readEnd = this.offset;
    this.size = Math.max(entry.lastSize, this.#loadedEnd);
    this.knownEnd = this.size;
    this.fingerprint = entry.fingerprint;
    this.guards = new Guards({ end: entry.guardEnd, mark: entry.guard });
    this.boundaries = [...entry.boundaries];
    this.lastSeenMs = entry.lastSeenMs;
    this.modifiedMs = entry.modifiedMs ?? 0;
    this.tombstoneSinceMs = entry.tombstoneSinceMs;
    this.copyOf = entry.copyOf;
    this.order = entry.order;
    this.archive = entry.archive;
    this.isSaved = true;
    if (entry.tombstoneSinceMs !== undefined) {
      // A tombstone whose bytes have not all ended was read to its end, but not delivered.
      this.#phase = this.offset >= entry.lastSize ? "finished" : "rotated";
      this.isCaughtUp = this.#phase === "finished";
    }
  }

  // ------------------------------------------------------------ its life

  get phase(): Phase {
    return this.#phase;
  }

  /** How it was last replaced under its path; undefined while it is live. */
  get rotation(): RotationKind | undefined {
    return this.#rotation;
  }

  /** It is at a path that matches. */
  live(): void {
    this.#phase = "live";
    this.#rotation = undefined;
    this.tombstoneSinceMs = undefined;
    this.missingSinceMs = undefined;
  }

  /** It was replaced under its path, and is read to its end. @param nowMs monotonic */
  rotate(kind: RotationKind, nowMs: number): void {
    this.#phase = "rotated";
    this.#rotation = kind;
    this.tombstoneSinceMs = undefined;
    this.missingSinceMs = undefined;
    this.changedAtMs = nowMs;
  }

  /** What was read of it is no longer where it was: if it is anywhere, then in a copy. */
  cutOff(): void {
    this.#rotation = "copy_truncated";
  }

  /** Nothing that is there has its content. @param nowMs monotonic */
  miss(nowMs: number): void {
    this.#phase = "missing";
    this.missingSinceMs ??= nowMs;
  }

  /** Nothing more is to come. @param nowMs wall clock */
  finish(nowMs: number): void {
    this.#phase = "finished";
    this.size = this.offset;
    this.knownEnd = this.offset;
    this.readEnd = this.offset;
    this.isCaughtUp = true;
    this.trouble = undefined;
    this.missingSinceMs = undefined;
    this.tombstoneSinceMs ??= nowMs;
  }

  // ------------------------------------------------------------ what tells its content from any other

  /** Highest byte that any sink was given: content that ends before it is not all of this one. */
  get given(): number {
    return Math.max(this.offset, this.#loadedEnd);
  }

  /** Fingerprint and the guard of the furthest bytes known: what other content is compared with. */
  get evidence(): { readonly fingerprint: ContentMark; readonly guard: Guard } {
    return { fingerprint: this.fingerprint, guard: this.guards.newest };
  }

  /**
   * Something was given out of it, and its bytes tell it from others. Without that its content is of no known file yet: an equal
   * beginning, which a header gives to all generations, is no evidence.
   */
  get isKnownByContent(): boolean {
    return this.guards.newest.mark.length > 0;
  }

  // ------------------------------------------------------------ names

  /** Path that events of it name. */
  get path(): BytePath {
    return this.names[0]!;
  }

  /** The name that it was last seen under. */
  get newestName(): BytePath {
    return this.names[this.names.length - 1]!;
  }

  /** Bytes known to exist and not framed yet. */
  get lagBytes(): number {
    return Math.max(0, this.size - this.offset);
  }

  /** It is read from there from now on; what went wrong elsewhere is past. */
  relocate(path: BytePath): void {
    if (this.location === path) return;
    this.location = path;
    this.trouble = undefined;
    this.notBeforeMs = 0;
  }

  /** Bytes proved to have existed and not framed yet. */
  get knownLagBytes(): number {
    return Math.max(0, this.knownEnd - this.offset);
  }

  addName(path: BytePath): void {
    if (this.newestName === path) return;
    // The first name stays the first, since events say it.
    const at = this.names.indexOf(path, 1);
    if (at > 0) this.names.splice(at, 1);
    this.names.push(path);
    // Numbered rotations give a file a new name each day: the first and the newest are enough to find it.
    while (this.names.length > MAX_NAMES) this.names.splice(1, 1);
  }

  // ------------------------------------------------------------ the store

  /** True if the store should know something newer than `entry`. */
  differsFrom(entry: FileEntry): boolean {
    return (
      entry.guardEnd !== this.guards.stored.end ||
      entry.lastSize !== this.storedSize ||
      entry.fingerprint.length !== this.fingerprint.length ||
      entry.inode !== this.inode ||
      entry.fileSystem !== this.fileSystem ||
      entry.tombstoneSinceMs !== this.tombstoneSinceMs ||
      entry.start !== (this.start > 0 ? this.start : undefined) ||
      entry.copyOf !== this.copyOf ||
      entry.order !== this.order ||
      entry.archive !== this.archive ||
      entry.boundaries.length !== this.boundaries.length ||
      entry.names.length !== this.names.length ||
      entry.names[entry.names.length - 1] !== this.newestName
    );
  }

  /** Forced boundaries below what every sink has committed are never framed again; the one right there still tells what precedes. */
  pruneBoundaries(committed: number): void {
    while (this.boundaries.length > 0 && this.boundaries[0]! < committed) this.boundaries.shift();
  }

  /** A size that no look has proved may be of other content. */
  get storedSize(): number {
    return Math.max(this.offset, Math.min(this.size, this.knownEnd));
  }

  /** For a commit by which some sink has everything up to `furthest`: the guard of the entry covers that. */
  entryCovering(furthest: number): FileEntry {
    this.guards.settle(furthest);
    return this.toEntry();
  }

  toEntry(): FileEntry {
    const { end, mark } = this.guards.stored;
    return {
      generation: this.generation,
      fileSystem: this.fileSystem,
      inode: this.inode,
      birthNs: this.birthNs,
      fingerprint: this.fingerprint,
      guard: mark,
      guardEnd: end,
      names: [...this.names],
      lastSize: this.storedSize,
      lastSeenMs: this.lastSeenMs,
      boundaries: [...this.boundaries],
      ...(this.modifiedMs > 0 ? { modifiedMs: this.modifiedMs } : {}),
      ...(this.start > 0 ? { start: this.start } : {}),
      ...(this.copyOf !== undefined ? { copyOf: this.copyOf } : {}),
      ...(this.order !== undefined ? { order: this.order } : {}),
      ...(this.archive !== undefined ? { archive: this.archive } : {}),
      ...(this.tombstoneSinceMs !== undefined ? { tombstoneSinceMs: this.tombstoneSinceMs } : {}),
    };
  }
}

/** A plain file that is shorter than this was truncated: of what was given out, or, before that, of what was seen. */
export function leastSize(state: FileState): number {
  return state.given === 0 ? state.size : state.given;
}
