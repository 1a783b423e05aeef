import { errnoOf, toError } from "../errors.ts";
import { type BytePath, baseName, folderOf, joinPath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { DirectoryEntry, FileStat, FileSystem, FolderChange } from "../runtime/file-system.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { FileLimit } from "./file-limit.ts";
import { FolderGraph } from "./folder-graph.ts";
import { FolderTroubles } from "./folder-trouble.ts";
import { FolderWatches } from "./folder-watch.ts";
import type { PathPatterns } from "./glob.ts";
import type { Sighting } from "./sighting.ts";
import { kindOf, Passage, type WatchedFolder } from "./watched-folder.ts";
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

/**
 * Folder times are as coarse as 2 s on some file systems: a folder that changed so recently may change again within the
 * same tick, so it is listed again until it is older.
 */
const COARSE_TIME_MS = 2_100;

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
  readonly #graph: FolderGraph;
  readonly #paths: WatchedPaths;
  readonly #troubles: FolderTroubles;
  readonly #limit: FileLimit;
  /** Of the patterns; those below which everything is excluded are none. */
  readonly #roots: readonly Passage[];
  /** Paths that are looked at for `follow`. */
  readonly #followed = new Map<BytePath, WatchedPath>();
  /** The passage whose name a path is looked at for. */
  readonly #passageOf = new Map<WatchedPath, Passage>();
  readonly #hints = new Map<WatchedFolder, Set<BytePath> | "all">();
  #lastScanMs: number | undefined;
  #newSiblings: BytePath[] = [];

  constructor(options: WatcherOptions) {
    const { patterns, fileSystem, clock, random, events, log, idleScanIntervalMs } = options;
    this.#options = options;
    this.#graph = new FolderGraph(patterns);
    this.#roots = [...patterns.roots]
      .filter((root) => patterns.standingOf(root) !== undefined)
      .map((root) => new Passage(undefined, root, "unknown"));
    this.#troubles = new FolderTroubles(clock, random, events);
    this.#limit = new FileLimit(options);
    this.#paths = new WatchedPaths({
      fileSystem,
      clock,
      idleScanIntervalMs,
      onLooked: (watched, stat) => {
        const passage = this.#passageOf.get(watched);
        if (passage !== undefined) this.#lead(passage, stat);
      },
    });
    this.#watches = new FolderWatches(fileSystem, log, (folder, name, change) => {
      const names = this.#hints.get(folder);
      if (name === undefined) this.#hints.set(folder, "all");
      else if (names === undefined) this.#hints.set(folder, new Set([name]));
      else if (names !== "all" && names.add(name).size > MAX_HINTS) this.#hints.set(folder, "all");
      options.onHint(name === undefined ? "entry" : change);
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
    const entry = this.#graph.at(folderOf(path))?.entries.get(baseName(path));
    return entry instanceof Passage && entry.isLink;
  }

  /** Folders that cannot be listed, and why. */
  get troubles(): ReadonlyMap<BytePath, Error> {
    return this.#troubles.present;
  }

  /** Why a folder cannot be read, if it cannot. */
  troubleOf(folder: BytePath): Error | undefined {
    const entry = this.#graph.at(folderOf(folder))?.entries.get(baseName(folder));
    const passage = entry instanceof Passage ? entry : this.#roots.find(({ name }) => name === folder);
    return (passage?.trouble ?? this.#graph.at(folder)?.trouble)?.error;
  }

  /** The path under which the file of this path is looked at, where several chains of links lead to its folder. */
  lookedAtAs(path: BytePath): BytePath | undefined {
    try {
      const stat = this.#options.fileSystem.statSync(folderOf(path));
      const folder = stat === undefined ? undefined : this.#graph.folders.get(`${stat.device}:${stat.inode}`);
      const entry = folder?.entries.get(baseName(path));
      return (entry instanceof Passage ? entry.watched : entry instanceof WatchedPath ? entry : undefined)?.path;
    } catch {
      return undefined;
    }
  }

  /** Names that appeared in listed folders since the last call and match nothing: perhaps siblings of a followed file. */
  takeUnmatched(): readonly BytePath[] {
    return this.#newSiblings.splice(0);
  }

  /** Looks at this path as at those that match (a rotated file whose new name matches nothing). */
  follow(path: BytePath): void {
    if (this.#watchedAt(path) !== undefined) return;
    const watched = this.#paths.add(path, false);
    this.#followed.set(path, watched);
    this.#paths.look(watched);
  }

  /** Ends `follow`; a path that matches goes on being looked at. */
  unfollow(path: BytePath): void {
    const watched = this.#followed.get(path);
    if (watched === undefined) return;
    this.#followed.delete(path);
    this.#paths.remove(watched);
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
      this.#checkPassages(nowMs);
      await this.#listDue(nowMs);
    }
    for (const [folder, names] of hints) await this.#followHints(folder, names);
    if (isScan) {
      this.#paths.scan(nowMs, nowMs - (this.#lastScanMs ?? nowMs));
      this.#takeIn();
      this.#lastScanMs = nowMs;
    }
    // What was just seen to be a folder (a link that was switched) is listed in the same look.
    await this.#listNew();
    this.#limit.tell();
    return this.#paths.take();
  }

  close(): void {
    this.#watches.close();
  }

  // ------------------------------------------------------------ what leads where

  #checkPassages(nowMs: number): void {
    for (const root of this.#roots) this.#check(root, nowMs);
    // New folders join the map while it is walked.
    for (const folder of this.#graph.folders.values()) {
      for (const passage of folder.passages) if (passage.watched === undefined) this.#check(passage, nowMs);
    }
  }

  /** Where does it lead now? */
  #check(passage: Passage, nowMs: number): void {
    if (passage.trouble !== undefined && passage.trouble.retryAtMs > nowMs) return;
    if (passage.within?.isReached === false) return;
    const { path } = passage;
    let stat: FileStat | undefined;
    try {
      stat = this.#options.fileSystem.statSync(path);
    } catch (error) {
      // A link round in a circle leads nowhere.
      if (errnoOf(error) !== "ELOOP") {
        if (passage.leadsTo !== undefined || passage.within === undefined) {
          this.#troubles.failed(passage, path, toError(error));
        }
        return;
      }
    }
    this.#troubles.over(passage, path);
    this.#lead(passage, stat);
  }

  /** The passage was seen to lead to this. */
  #lead(passage: Passage, stat: FileStat | undefined): void {
    if (stat?.kind === "folder") {
      const identity = `${stat.device}:${stat.inode}`;
      if (passage.leadsTo?.identity !== identity) {
        for (const each of [passage, ...this.#twins(passage)]) {
          this.#unwatch(each);
          this.#graph.connect(each, identity);
        }
      }
      if (passage.leadsTo !== undefined) passage.leadsTo.modifiedMs = stat.modifiedMs;
      this.#settle();
      return;
    }
    if (passage.leadsTo !== undefined) {
      for (const each of [passage, ...this.#twins(passage)]) this.#graph.disconnect(each);
      this.#settle();
    }
    this.#watchBehind(passage);
  }

  /** What else stands for the same path: a root may be an entry of another folder, too. */
  #twins({ within, name }: Passage): Passage[] {
    if (within === undefined) {
      const entry = this.#graph.at(folderOf(name))?.entries.get(baseName(name));
      return entry instanceof Passage ? [entry] : [];
    }
    const paths = within.arrivals.map(({ path }) => joinPath(path, name));
    return this.#roots.filter((root) => paths.includes(root.name));
  }

  /** Of every folder whose arrivals changed: under which path is each of its names looked at now? */
  #settle(): void {
    const changed = this.#graph.takeChanged();
    if (changed.length === 0) return;
    // All old paths go before a new one comes, since one may go over from a folder to another.
    for (const folder of changed) {
      if (folder.isReached) for (const name of folder.entries.keys()) this.#forgetOldPath(folder, name);
      else this.#abandon(folder);
    }
    for (const folder of changed) {
      if (folder.isReached) for (const name of [...folder.entries.keys()]) this.#nameAgain(folder, name);
    }
  }

  #forgetOldPath(folder: WatchedFolder, name: BytePath): void {
    const entry = folder.entries.get(name);
    if (entry instanceof WatchedPath) {
      if (this.#matchingPath(folder, name) === entry.path) return;
      this.#paths.forget(entry);
      folder.entries.set(name, "file");
    } else if (entry instanceof Passage) {
      if (entry.watched?.path !== this.#matchingPath(folder, name)) this.#unwatch(entry);
    }
  }

  #nameAgain(folder: WatchedFolder, name: BytePath): void {
    const entry = folder.entries.get(name);
    if (entry === undefined || entry instanceof WatchedPath || entry === "other") return;
    if (entry instanceof Passage) {
      if (this.#leadsOn(folder, name) || this.#matchingPath(folder, name) !== undefined) {
        if (entry.leadsTo === undefined) this.#watchBehind(entry);
        return;
      }
      this.#leave(folder, name);
      folder.entries.set(name, entry.kind);
      return;
    }
    const kind = kindOf(entry);
    if (entry === "left_out") this.#leave(folder, name);
    this.#enter(folder, name, kind);
  }

  #abandon(folder: WatchedFolder): void {
    for (const name of [...folder.entries.keys()]) this.#leave(folder, name);
    this.#watches.remove(folder);
    this.#hints.delete(folder);
  }

  // ------------------------------------------------------------ listings

  async #listDue(nowMs: number): Promise<void> {
    const { idleScanIntervalMs } = this.#options;
    // New folders join the map while it is walked.
    for (const folder of this.#graph.folders.values()) {
      if (folder.trouble !== undefined && folder.trouble.retryAtMs > nowMs) continue;
      const { listedAtMs, isSettled, listedModifiedMs, modifiedMs, trouble } = folder;
      const isFresh = listedAtMs !== undefined && nowMs - listedAtMs < idleScanIntervalMs;
      if (isFresh && isSettled && listedModifiedMs === modifiedMs && trouble === undefined) continue;
      await this.#list(folder);
    }
  }

  /** Lists the folders that were never listed. */
  async #listNew(): Promise<void> {
    for (const folder of this.#graph.folders.values()) {
      if (folder.listedAtMs === undefined && folder.trouble === undefined) await this.#list(folder);
    }
  }

  async #list(folder: WatchedFolder): Promise<void> {
    const { fileSystem, clock } = this.#options;
    const { path, modifiedMs } = folder;
    // Before listing, so that nothing can happen between the listing and the watch.
    this.#watches.add(folder, path);
    const startedAtMs = clock.monotonic();
    let entries: DirectoryEntry[];
    let after: FileStat | undefined;
    try {
      entries = await fileSystem.readdir(path);
      after = fileSystem.statSync(path);
    } catch (error) {
      const code = errnoOf(error);
      if (code === "ENOENT" || code === "ENOTDIR") this.#lookBehind(folder);
      else this.#troubles.failed(folder, path, toError(error));
      return;
    }
    if (after === undefined || `${after.device}:${after.inode}` !== folder.identity) {
      // The names may be those of another folder, which has come to this path meanwhile.
      this.#lookBehind(folder);
      return;
    }
    this.#troubles.over(folder, path);
    folder.listedModifiedMs = modifiedMs;
    folder.listedAtMs = startedAtMs;
    folder.listingMs = clock.monotonic() - startedAtMs;
    folder.isSettled = clock.now() - modifiedMs > COARSE_TIME_MS;
    this.#compare(folder, entries);
  }

  /** Something else lies where the folder was: wherever it is now, it is listed at the next look. */
  #lookBehind(folder: WatchedFolder): void {
    folder.isSettled = false;
    for (const passage of [...folder.incoming]) this.#check(passage, this.#options.clock.monotonic());
  }

  #compare(folder: WatchedFolder, entries: readonly DirectoryEntry[]): void {
    for (const { name, kind } of entries) {
      const known = folder.entries.get(name);
      if (known !== undefined && (kindOf(known) === kind || kind === "unknown")) continue;
      if (known !== undefined) this.#leave(folder, name);
      this.#enter(folder, name, kind);
    }
    // A listing has no name twice: as many as are known now, and none of those is gone.
    if (entries.length === folder.entries.size) return;
    const present = new Set(entries.map(({ name }) => name));
    for (const name of [...folder.entries.keys()]) if (!present.has(name)) this.#leave(folder, name);
  }

  // ------------------------------------------------------------ names

  #enter(folder: WatchedFolder, name: BytePath, kind: DirectoryEntry["kind"]): void {
    folder.entries.set(name, kind);
    if (kind === "other") return;
    const path = kind === "folder" ? undefined : this.#matchingPath(folder, name);
    if (kind === "file") {
      if (path === undefined) this.#unmatched(folder, name);
      else this.#watchFile(folder, name, path);
      return;
    }
    if (path !== undefined || this.#leadsOn(folder, name)) {
      const passage = new Passage(folder, name, kind);
      folder.entries.set(name, passage);
      folder.passages.add(passage);
      this.#check(passage, this.#options.clock.monotonic());
    }
    if (path === undefined && kind !== "folder" && this.#kindAt(folder, name) === "file") this.#unmatched(folder, name);
  }

  #leave(folder: WatchedFolder, name: BytePath): void {
    const entry = folder.entries.get(name);
    folder.entries.delete(name);
    if (entry instanceof WatchedPath) this.#paths.forget(entry);
    else if (entry === "left_out") this.#count(folder, -1);
    else if (entry instanceof Passage) {
      this.#unwatch(entry);
      folder.passages.delete(entry);
      this.#graph.disconnect(entry);
      this.#settle();
    }
  }

  #unmatched(folder: WatchedFolder, name: BytePath): void {
    for (const { path } of folder.arrivals) this.#newSiblings.push(joinPath(path, name));
  }

  /** The path under which a file of this name is read, if it is. */
  #matchingPath(folder: WatchedFolder, name: BytePath): BytePath | undefined {
    const { patterns } = this.#options;
    const arrival = folder.arrivals.find(({ standing }) => patterns.verdictIn(standing, name).kind === "included");
    return arrival === undefined ? undefined : joinPath(arrival.path, name);
  }

  /** Whether something below it may match, if it is a folder. */
  #leadsOn(folder: WatchedFolder, name: BytePath): boolean {
    const { patterns } = this.#options;
    return folder.arrivals.some(({ standing }) => patterns.below(standing, name) !== undefined);
  }

  #kindAt(folder: WatchedFolder, name: BytePath): FileStat["kind"] | undefined {
    try {
      return this.#options.fileSystem.statSync(joinPath(folder.path, name))?.kind;
    } catch {
      return undefined;
    }
  }

  // ------------------------------------------------------------ notifications

  async #followHints(folder: WatchedFolder, names: ReadonlySet<BytePath> | "all"): Promise<void> {
    if (!folder.isReached) return;
    const unclear = names === "all" ? [] : [...names].filter((name) => !this.#isAsBefore(folder, name));
    if (!folder.isReached || (names !== "all" && unclear.length === 0)) return;
    const quietMs = this.#options.clock.monotonic() - (folder.listedAtMs ?? Number.NEGATIVE_INFINITY);
    if (quietMs * LISTING_SHARE >= folder.listingMs) {
      this.#check(folder.arrivals[0]!.via, this.#options.clock.monotonic());
      if (folder.isReached) await this.#list(folder);
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
      else this.#check(entry, this.#options.clock.monotonic());
      const { leadsTo } = entry;
      if (leadsTo === undefined) return this.#kindAt(folder, name) !== undefined;
      // Perhaps made anew with the same inode number: then nothing is notified of it any more.
      this.#watches.remove(leadsTo);
      leadsTo.listedAtMs = undefined;
      return true;
    }
    const kind = entry === undefined ? undefined : kindOf(entry);
    const now = folder.isReached ? this.#kindAt(folder, name) : undefined;
    // Somebody writes a file that nobody wants: no reason to list.
    return now !== undefined && (kind === now || kind === "link" || kind === "unknown");
  }

  /** What one name is now; in a folder that is so large that listing it for each is too much. */
  async #lookUp(folder: WatchedFolder, name: BytePath): Promise<void> {
    if (!folder.isReached) return;
    let kind: DirectoryEntry["kind"];
    try {
      ({ kind } = await this.#options.fileSystem.lstat(joinPath(folder.path, name)));
      if (kind === "other" && this.#kindAt(folder, name) !== "other") kind = "link";
    } catch {
      if (folder.entries.has(name)) this.#leave(folder, name);
      return;
    }
    const known = folder.entries.get(name);
    if (known !== undefined && (kindOf(known) === kind || kindOf(known) === "unknown")) return;
    if (known !== undefined) this.#leave(folder, name);
    this.#enter(folder, name, kind);
  }

  // ------------------------------------------------------------ paths

  #watchFile(folder: WatchedFolder, name: BytePath, path: BytePath): void {
    if (!this.#limit.allows(path, this.#paths.size - this.#followed.size)) {
      folder.entries.set(name, "left_out");
      this.#count(folder, 1);
      return;
    }
    const watched = this.#paths.add(path, false);
    folder.entries.set(name, watched);
    this.#paths.look(watched);
  }

  /** Watches the name of a passage that leads to no folder, if it matches as that of a file. */
  #watchBehind(passage: Passage): void {
    const { within, name } = passage;
    if (within === undefined || !within.isReached || passage.watched !== undefined) return;
    const path = this.#matchingPath(within, name);
    if (path === undefined) return;
    if (!this.#limit.allows(path, this.#paths.size - this.#followed.size)) {
      if (!passage.isLeftOut) this.#count(within, 1);
      passage.isLeftOut = true;
      return;
    }
    if (passage.isLeftOut) this.#count(within, -1);
    passage.isLeftOut = false;
    const watched = this.#paths.add(path, passage.isLink);
    passage.watched = watched;
    this.#passageOf.set(watched, passage);
    this.#paths.look(watched);
  }

  #unwatch(passage: Passage): void {
    const { watched, within } = passage;
    if (passage.isLeftOut && within !== undefined) this.#count(within, -1);
    passage.isLeftOut = false;
    if (watched === undefined) return;
    passage.watched = undefined;
    this.#passageOf.delete(watched);
    this.#paths.forget(watched);
  }

  #count(folder: WatchedFolder, difference: number): void {
    folder.leftOut += difference;
    this.#limit.leftOut += difference;
  }

  /** Watches what was left out, as far as there is room again. */
  #takeIn(): void {
    if (this.#limit.leftOut === 0) return;
    for (const folder of this.#graph.folders.values()) {
      if (folder.leftOut === 0) continue;
      for (const [name, entry] of folder.entries) {
        if (entry !== "left_out") continue;
        const path = this.#matchingPath(folder, name);
        if (path === undefined || !this.#limit.allows(path, this.#paths.size - this.#followed.size)) continue;
        this.#count(folder, -1);
        this.#watchFile(folder, name, path);
      }
    }
  }

  #watchedAt(path: BytePath): WatchedPath | undefined {
    const followed = this.#followed.get(path);
    if (followed !== undefined) return followed;
    const entry = this.#graph.at(folderOf(path))?.entries.get(baseName(path));
    const watched = entry instanceof Passage ? entry.watched : entry;
    return watched instanceof WatchedPath && watched.path === path ? watched : undefined;
  }
}
