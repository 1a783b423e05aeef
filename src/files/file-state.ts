import type { ArchiveMark, ContentMark, FileEntry } from "../checkpoint/checkpoint-store.ts";
import { fileOrigin, type Origin } from "../record/origin.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { Readable } from "./content.ts";
import { type FileId, fileId } from "./file-id.ts";
import { contentMark, readFingerprint, readGuard } from "./fingerprint.ts";

/**
 * Where a file stands in its life:
 *
 *     live ------(its path is gone or holds something else)-----> rotated --(quiet for rotate_wait_ms)--> finished
 *      |                                                            ^  |                                     |
 *      |                                          (found) +---------+  | (cannot be found)                   |
 *      |                                                  |            v                                     |
 *      +--(gone, and not open)--------------------------> missing <----+          (grows again) rotated <----+
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

/** The mark of no bytes: tells nothing about the content. */
export const EMPTY_MARK: ContentMark = contentMark(Buffer.alloc(0));

/** Names that are remembered of one file. */
const MAX_NAMES = 12;

/** Guards of batches not yet committed are kept up to this many; the newest half of them survives. */
const MAX_MARKS = 128;

/**
 * One generation of a file, in memory: what the store says of it (`toEntry`) and what only this process knows. Exactly
 * one tailer at a time reads and moves `offset`; everything else is the manager's.
 */
export class FileState {
  readonly key: string;
  readonly generation: number;
  readonly origin: Origin;
  phase: Phase = "live";
  rotation: RotationKind | undefined;
  /** Names that it was seen under, newest last; events say the first. */
  readonly names: BytePath[];
  /** Paths that match and lead to it now. */
  readonly paths = new Set<BytePath>();
  /** Where its content is now; undefined: not known. */
  location: BytePath | undefined;
  id: FileId | undefined;
  fileSystem: string;
  inode: string;
  birthNs: string;
  /** Next byte to frame: the start of the first line not yet given out. */
  offset: number;
  /** End of the bytes seen; what is between `offset` and here is an unfinished line. */
  readEnd: number;
  /** Size of the content at the last look. */
  size: number;
  /** Where reading began, see FileEntry. */
  start: number;
  /** Bytes below `offset` that no batch has covered yet begin here: the first batch carries them in its range. */
  rangeFrom: number | undefined;
  fingerprint: ContentMark = EMPTY_MARK;
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
  /** The last one that was a predecessor, also when that is past. */
  linkedTo: FileState | undefined;
  /** It is taken to be where its inode is, but that could not be opened: its content may as well be in a copy. */
  isUnproven = false;
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
  #storedGuard: ContentMark;
  #storedGuardEnd: number;
  #marks: { end: number; mark: ContentMark }[] = [];

  constructor(source: string, key: string, entry: FileEntry, offset: number, isSaved: boolean) {
    this.key = key;
    this.generation = entry.generation;
    this.names = entry.names.map((name) => name as BytePath);
    this.origin = fileOrigin(source, key, entry.generation, pathToText(this.names[0]!));
    this.fileSystem = entry.fileSystem;
    this.inode = entry.inode;
    this.birthNs = entry.birthNs;
    this.id = fileId(entry.fileSystem, entry.inode);
    this.start = entry.start ?? 0;
    this.offset = Math.max(offset, this.start);
    this.rangeFrom = this.offset > offset ? offset : undefined;
    this.readEnd = this.offset;
    this.size = Math.max(entry.lastSize, this.offset);
    this.fingerprint = entry.fingerprint;
    this.boundaries = [...entry.boundaries];
    this.lastSeenMs = entry.lastSeenMs;
    this.tombstoneSinceMs = entry.tombstoneSinceMs;
    this.copyOf = entry.copyOf;
    this.order = entry.order;
    this.archive = entry.archive;
    this.#storedGuard = entry.guard;
    this.#storedGuardEnd = entry.guardEnd;
    this.isSaved = isSaved;
    if (entry.tombstoneSinceMs !== undefined) {
      // A tombstone whose bytes have not all ended was read to its end, but not delivered.
      this.phase = this.offset >= entry.lastSize ? "finished" : "rotated";
      this.isCaughtUp = this.phase === "finished";
    }
  }

  /** Path that events of it name. */
  get path(): BytePath {
    return this.names[0]!;
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

  addName(path: BytePath): void {
    const at = this.names.indexOf(path);
    if (at === this.names.length - 1) return;
    // The first name stays the first, since events say it.
    if (at > 0) this.names.splice(at, 1);
    if (at !== 0 || this.names.length > 1) this.names.push(path);
    // Numbered rotations give a file a new name each day: the first and the newest are enough to find it.
    while (this.names.length > MAX_NAMES) this.names.splice(1, 1);
  }

  /** Notes the guard of the bytes that end at `end`. */
  noteMark(end: number, mark: ContentMark): void {
    const last = this.#marks[this.#marks.length - 1];
    if (last !== undefined && last.end >= end) return;
    this.#marks.push({ end, mark });
    if (this.#marks.length > MAX_MARKS) {
      this.#marks = this.#marks.filter((_, index) => index % 2 === 1);
    }
  }

  /** Fingerprint and the newest guard of this process: what other content is compared with. */
  get identity(): { fingerprint: ContentMark; guard: ContentMark; guardEnd: number } {
    const last = this.#marks[this.#marks.length - 1];
    if (last === undefined) {
      return { fingerprint: this.fingerprint, guard: this.#storedGuard, guardEnd: this.#storedGuardEnd };
    }
    return { fingerprint: this.fingerprint, guard: last.mark, guardEnd: last.end };
  }

  /** The same with the newest guard that ends at or before `size`: for content that is shorter than what was read. */
  identityWithin(size: number): { fingerprint: ContentMark; guard: ContentMark; guardEnd: number } | undefined {
    const known = [{ end: this.#storedGuardEnd, mark: this.#storedGuard }, ...this.#marks];
    const fitting = known.filter(({ end, mark }) => end > 0 && mark.length > 0 && end <= size).pop();
    if (fitting === undefined) return undefined;
    return { fingerprint: this.fingerprint, guard: fitting.mark, guardEnd: fitting.end };
  }

  /** Guards wait until what is before them is committed. */
  get hasUnsettledGuard(): boolean {
    const last = this.#marks[this.#marks.length - 1];
    return last !== undefined && last.end > this.#storedGuardEnd;
  }

  /** True if the store should know something newer than `entry`. */
  differsFrom(entry: FileEntry): boolean {
    return (
      entry.guardEnd !== this.#storedGuardEnd ||
      entry.lastSize !== this.size ||
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
      entry.names[entry.names.length - 1] !== this.names[this.names.length - 1]
    );
  }

  /** Moves the guard that will be stored up to what is committed. */
  settleGuard(committed: number): void {
    let settled = -1;
    while (settled + 1 < this.#marks.length && this.#marks[settled + 1]!.end <= committed) settled += 1;
    if (settled < 0) return;
    const { end, mark } = this.#marks[settled]!;
    this.#storedGuard = mark;
    this.#storedGuardEnd = end;
    this.#marks.splice(0, settled);
  }

  /** Takes fingerprint and guard from content that is known to be this file's. */
  async learn(content: Readable): Promise<void> {
    this.fingerprint = await readFingerprint(content, this.size);
    this.#storedGuard = await readGuard(content, this.offset);
    this.#storedGuardEnd = this.offset;
  }

  /** Forced boundaries below what every sink has committed are never framed again; the one right there still tells what precedes. */
  pruneBoundaries(committed: number): void {
    while (this.boundaries.length > 0 && this.boundaries[0]! < committed) this.boundaries.shift();
  }

  toEntry(): FileEntry {
    return {
      generation: this.generation,
      fileSystem: this.fileSystem,
      inode: this.inode,
      birthNs: this.birthNs,
      fingerprint: this.fingerprint,
      guard: this.#storedGuard,
      guardEnd: this.#storedGuardEnd,
      names: [...this.names],
      lastSize: this.size,
      lastSeenMs: this.lastSeenMs,
      boundaries: [...this.boundaries],
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
  return state.offset === 0 ? state.size : state.offset;
}
