import { type BytePath, joinPath } from "../runtime/byte-path.ts";
import type { DirectoryEntry } from "../runtime/file-system.ts";
import type { Trouble } from "./folder-trouble.ts";
import type { Standing } from "./glob.ts";
import { WatchedPath } from "./watched-paths.ts";

/**
 * What the watcher keeps of one name of a folder:
 *
 * - the kind of the entry, where nobody asks for more
 * - `left_out`: a file that matches, and that `max_files` leaves no room for
 * - a WatchedPath: a file that matches
 * - a Passage: a folder that is walked, or a link, which may lead to anything and to another thing each time
 */
export type Entry = DirectoryEntry["kind"] | "left_out" | WatchedPath | Passage;

/** A name behind which a folder may be: an entry of another folder, or a root of the patterns. */
export class Passage {
  /** Undefined: a root, and `name` is its whole path. */
  readonly within: WatchedFolder | undefined;
  readonly name: BytePath;
  readonly kind: DirectoryEntry["kind"];
  leadsTo: WatchedFolder | undefined;
  /** Where the name matches as that of a file, and leads to no folder. */
  watched: WatchedPath | undefined;
  /** As `left_out` of an entry. */
  isLeftOut = false;
  /** Why it cannot be told where it leads. */
  trouble: Trouble | undefined;

  constructor(within: WatchedFolder | undefined, name: BytePath, kind: DirectoryEntry["kind"]) {
    this.within = within;
    this.name = name;
    this.kind = kind;
  }

  /** It is a symbolic link, or may be one: not every file system tells. */
  get isLink(): boolean {
    return this.kind === "link" || this.kind === "unknown";
  }

  get path(): BytePath {
    return this.within === undefined ? this.name : joinPath(this.within.path, this.name);
  }
}

/** One way to a folder: the first of all paths that give it this Standing. */
export interface Arrival {
  readonly path: BytePath;
  readonly standing: Standing;
  readonly via: Passage;
  /** The arrival that this one goes on from; undefined at a root. */
  readonly from: Arrival | undefined;
  /** Symbolic links on the way. */
  readonly links: number;
  /** Names of the path. */
  readonly names: number;
}

/** A folder that is walked. */
export class WatchedFolder {
  /** Device and inode: the same folder, whatever leads to it. */
  readonly identity: string;
  /** One for each Standing, the best first; none: nothing leads here any more. */
  arrivals: readonly Arrival[] = [];
  /** Names that lead here. */
  readonly incoming = new Set<Passage>();
  readonly entries = new Map<BytePath, Entry>();
  /** Those of the entries that are passages. */
  readonly passages = new Set<Passage>();
  /** Entries that `max_files` leaves out. */
  leftOut = 0;
  /** As last seen. */
  modifiedMs = 0;
  listedModifiedMs = 0;
  /** Monotonic; undefined: not listed, or not as it is now. */
  listedAtMs: number | undefined;
  /** How long the last listing took. */
  listingMs = 0;
  /** Its time stamp is old enough to tell every further change. */
  isSettled = false;
  /** Why it cannot be listed. */
  trouble: Trouble | undefined;

  constructor(identity: string) {
    this.identity = identity;
  }

  /** The path that it is looked at by. */
  get path(): BytePath {
    return this.arrivals[0]!.path;
  }

  get isReached(): boolean {
    return this.arrivals.length > 0;
  }
}

export function kindOf(entry: Entry): DirectoryEntry["kind"] {
  if (entry === "left_out" || entry instanceof WatchedPath) return "file";
  return entry instanceof Passage ? entry.kind : entry;
}
