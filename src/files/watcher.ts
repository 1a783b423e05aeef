import { type BytePath, baseName, folderOf, joinPath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { DirectoryEntry, FileSystem, FolderChange } from "../runtime/file-system.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { FileLimit } from "./file-limit.ts";
import { FolderListings } from "./folder-listings.ts";
import { FolderTroubles } from "./folder-trouble.ts";
import { FolderWalk } from "./folder-walk.ts";
import { FolderWatches } from "./folder-watch.ts";
import type { PathPatterns } from "./glob.ts";
import type { Sighting } from "./sighting.ts";
import { type Entry, kindOf, Passage, type WatchedFolder } from "./watched-folder.ts";
import { WatchedPath, WatchedPaths } from "./watched-paths.ts";

export interface WatcherOptions {
  /** Name of the source, for messages. */
  readonly source: string;
  readonly patterns: PathPatterns;
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly log: Logger;
  readonly scanIntervalMs: number;
  readonly idleScanIntervalMs: number;
  /** Paths that are looked at; more that match are left out. */
  readonly maxFiles: number;
  /** A file was followed under this path before: it is looked at whatever `maxFiles` says. */
  readonly isKnown: (path: BytePath) => boolean;
  /** Something was notified: look soon. */
  readonly onHint: (change: FolderChange) => void;
}

/** Names notified in one folder between two looks; beyond them the whole folder is looked at. */
const MAX_HINTS = 1000;

/** Of the time of notifications a folder is listed for this share at most; beyond it names are looked at one by one. */
const LISTING_SHARE = 0.1;

/**
 * Discovery: which paths match, and what lies there now.
 *
 *     passages --(stat: each scan; notified: at once)---------------------------------------> folders
 *     folders  --(listing: time stamp changed, notified, or idle_scan_interval_ms over)-----> paths, passages
 *     paths    --(stat: each scan; quiet for a minute: in slices; notified: at once)--------> sightings
 *
 * The scan is the truth, notifications only make it sooner. The watcher knows paths, not files: which file is behind a
 * path is the manager's business. A quiet file costs one stat per idle_scan_interval_ms and no descriptor.
 *
 * A file is looked at under one path of its folder, however many chains of symbolic links lead there: under the first, in
 * the order of FolderGraph, that an include matches and no exclude. What a link leads to may become another folder, a
 * file, a device or nothing at any time, so nothing is concluded from what it was.
 */
export class Watcher {
  readonly #options: WatcherOptions;
  readonly #watches: FolderWatches<WatchedFolder>;
  readonly #walk: FolderWalk;
  readonly #listings: FolderListings;
  readonly #paths: WatchedPaths;
  readonly #limit: FileLimit;
  readonly #troubles: FolderTroubles;
  readonly #hints = new Map<WatchedFolder, Set<BytePath> | "all">();
  #lastScanMs: number | undefined;

  constructor(options: WatcherOptions) {
    const { patterns, fileSystem, clock, random, events, log, idleScanIntervalMs } = options;
    this.#options = options;
    this.#watches = new FolderWatches(fileSystem, log, (folder, name, change) => {
      const names = this.#hints.get(folder);
      if (name === undefined) this.#hints.set(folder, "all");
      else if (names === undefined) this.#hints.set(folder, new Set([name]));
      else if (names !== "all" && names.add(name).size > MAX_HINTS) this.#hints.set(folder, "all");
      options.onHint(name === undefined ? "entry" : change);
    });
    const troubles = new FolderTroubles(clock, random, events);
    this.#troubles = troubles;
    this.#limit = new FileLimit(options);
    this.#paths = new WatchedPaths({
      fileSystem,
      clock,
      idleScanIntervalMs,
      onLooked: (watched, stat) => this.#walk.looked(watched, stat),
    });
    this.#walk = new FolderWalk({
      patterns,
      fileSystem,
      clock,
      paths: this.#paths,
      limit: this.#limit,
      troubles,
      onAbandoned: (folder) => {
        this.#watches.remove(folder);
        this.#hints.delete(folder);
      },
    });
    this.#listings = new FolderListings({
      fileSystem,
      clock,
      idleScanIntervalMs,
      walk: this.#walk,
      watches: this.#watches,
      troubles,
    });
  }

  /** Paths that are looked at. */
  get pathCount(): number {
    return this.#paths.size;
  }

  /** Paths that match and are not looked at, since there are more than `maxFiles`. */
  get leftOutCount(): number {
    return this.#limit.leftOut;
  }

  /** The last name of the path is a symbolic link. */
  isLink(path: BytePath): boolean {
    const entry = this.#walk.graph.at(folderOf(path))?.entries.get(baseName(path));
    return entry instanceof Passage && entry.isLink;
  }

  /** Folders that cannot be listed, and why. */
  get troubles(): ReadonlyMap<BytePath, Error> {
    return this.#troubles.present;
  }

  /** Why a folder cannot be read, if it cannot. */
  troubleOf(folder: BytePath): Error | undefined {
    const entry = this.#walk.graph.at(folderOf(folder))?.entries.get(baseName(folder));
    const passage = entry instanceof Passage ? entry : this.#walk.roots.find(({ name }) => name === folder);
    return (passage?.trouble ?? this.#walk.graph.at(folder)?.trouble)?.error;
  }

  /** The path under which the file of this path is looked at, where several chains of links lead to its folder. */
  lookedAtAs(path: BytePath): BytePath | undefined {
    const entry = this.#entryAt(path);
    return (entry instanceof Passage ? entry.watched : entry instanceof WatchedPath ? entry : undefined)?.path;
  }

  /** It matches, and `maxFiles` leaves no room for it. */
  isLeftOut(path: BytePath): boolean {
    const entry = this.#entryAt(path);
    return entry instanceof Passage ? entry.isLeftOut : entry === "left_out";
  }

  /** Names that appeared in listed folders since the last call and match nothing: perhaps siblings of a followed file. */
  takeUnmatched(): readonly BytePath[] {
    return this.#walk.takeUnmatched();
  }

  /** Looks at this path as at those that match (a rotated file whose new name matches nothing). */
  follow(path: BytePath): void {
    if (this.#watchedAt(path) === undefined) this.#paths.follow(path);
  }

  /** Ends `follow`; a path that matches goes on being looked at. */
  unfollow(path: BytePath): void {
    this.#paths.unfollow(path);
  }

  /** Wall clock, of the last time that a file was found at this path; 0: never. */
  seenAtMs(path: BytePath): number {
    return this.#watchedAt(path)?.seenAtMs ?? 0;
  }

  /** Look at this path at the next look, however quiet it is. */
  hint(path: BytePath): void {
    const watched = this.#watchedAt(path);
    if (watched !== undefined) this.#paths.wake(watched);
  }

  /**
   * Looks at what is due and returns what changed since the last look. Never rejects: what cannot be read is reported
   * once and tried again.
   */
  async look(): Promise<Sighting[]> {
    const nowMs = this.#options.clock.monotonic();
    const isScan = this.#lastScanMs === undefined || nowMs - this.#lastScanMs >= this.#options.scanIntervalMs;
    const hints = new Map(this.#hints);
    this.#hints.clear();
    if (isScan) {
      await this.#walk.checkAll(nowMs);
      await this.#listings.listDue(nowMs);
    }
    for (const [folder, names] of hints) await this.#followHints(folder, names);
    if (isScan) {
      await this.#paths.scan(nowMs, nowMs - (this.#lastScanMs ?? nowMs));
      this.#walk.takeIn();
      this.#lastScanMs = nowMs;
    }
    // What was just seen to be a folder (a link that was switched) is listed in the same look.
    await this.#listings.listNew();
    this.#limit.tell();
    return this.#paths.take();
  }

  close(): void {
    this.#watches.close();
  }

  async #followHints(folder: WatchedFolder, names: ReadonlySet<BytePath> | "all"): Promise<void> {
    if (!folder.isReached) return;
    const unclear = names === "all" ? [] : [...names].filter((name) => !this.#isAsBefore(folder, name));
    if (!folder.isReached || (names !== "all" && unclear.length === 0)) return;
    const quietMs = this.#options.clock.monotonic() - (folder.listedAtMs ?? Number.NEGATIVE_INFINITY);
    if (quietMs * LISTING_SHARE >= folder.listingMs) {
      this.#walk.check(folder.arrivals[0]!.via, this.#options.clock.monotonic());
      if (folder.isReached) await this.#listings.list(folder);
      return;
    }
    for (const name of unclear) await this.#lookUp(folder, name);
    folder.isSettled = false;
  }

  /** Looks at one notified name; false: it is new, gone or another one, which a listing settles. */
  #isAsBefore(folder: WatchedFolder, name: BytePath): boolean {
    const entry = folder.entries.get(name);
    if (entry instanceof WatchedPath) {
      const before = entry.stat;
      this.#paths.look(entry);
      return before !== undefined && before.inode === entry.stat?.inode && before.device === entry.stat.device;
    }
    if (entry instanceof Passage) {
      if (entry.watched !== undefined) this.#paths.look(entry.watched);
      else this.#walk.check(entry, this.#options.clock.monotonic());
      const { leadsTo } = entry;
      if (leadsTo === undefined) return this.#walk.kindAt(folder, name) !== undefined;
      // Perhaps made anew with the same inode number: then nothing is notified of it any more.
      this.#watches.remove(leadsTo);
      leadsTo.listedAtMs = undefined;
      return true;
    }
    for (const { path } of folder.arrivals) {
      const followed = this.#paths.followedAt(joinPath(path, name));
      if (followed !== undefined) this.#paths.look(followed);
    }
    const kind = entry === undefined ? undefined : kindOf(entry);
    const now = folder.isReached ? this.#walk.kindAt(folder, name) : undefined;
    // Somebody writes a file that nobody wants: no reason to list.
    return now !== undefined && (kind === now || kind === "link" || kind === "unknown");
  }

  /** What one name is now; in a folder that is so large that listing it for each is too much. */
  async #lookUp(folder: WatchedFolder, name: BytePath): Promise<void> {
    if (!folder.isReached) return;
    let kind: DirectoryEntry["kind"];
    try {
      ({ kind } = await this.#options.fileSystem.lstat(joinPath(folder.path, name)));
      if (kind === "other" && this.#walk.kindAt(folder, name) !== "other") kind = "link";
    } catch {
      if (folder.entries.has(name)) this.#walk.leave(folder, name);
      return;
    }
    const known = folder.entries.get(name);
    if (known !== undefined && (kindOf(known) === kind || kindOf(known) === "unknown")) return;
    if (known !== undefined) this.#walk.leave(folder, name);
    this.#walk.enter(folder, name, kind);
  }

  /** By whatever chain of links this path leads to its folder. */
  #entryAt(path: BytePath): Entry | undefined {
    try {
      const stat = this.#options.fileSystem.statSync(folderOf(path));
      const folder = stat === undefined ? undefined : this.#walk.graph.folders.get(`${stat.device}:${stat.inode}`);
      return folder?.entries.get(baseName(path));
    } catch {
      return undefined;
    }
  }

  #watchedAt(path: BytePath): WatchedPath | undefined {
    const followed = this.#paths.followedAt(path);
    if (followed !== undefined) return followed;
    const entry = this.#walk.graph.at(folderOf(path))?.entries.get(baseName(path));
    const watched = entry instanceof Passage ? entry.watched : entry;
    return watched instanceof WatchedPath && watched.path === path ? watched : undefined;
  }
}
