import { errnoOf, toError } from "../errors.ts";
import { type BytePath, baseName, folderOf, joinPath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { DirectoryEntry, FileStat, FileSystem } from "../runtime/file-system.ts";
import type { FileLimit } from "./file-limit.ts";
import { FolderGraph } from "./folder-graph.ts";
import type { FolderTroubles } from "./folder-trouble.ts";
import type { PathPatterns } from "./glob.ts";
import { kindOf, Passage, type WatchedFolder } from "./watched-folder.ts";
import { LOOKS_PER_TURN, nextTurn, WatchedPath, type WatchedPaths } from "./watched-paths.ts";

interface FolderWalkOptions {
  readonly patterns: PathPatterns;
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly paths: WatchedPaths;
  readonly limit: FileLimit;
  readonly troubles: FolderTroubles;
  /** Nothing leads to this folder any more. */
  readonly onAbandoned: (folder: WatchedFolder) => void;
}

/**
 * What leads where, and what each name of each folder is to the watcher.
 *
 *     enter, leave   a name of a folder came, or went
 *     check          where does a passage lead now? Folders join and leave the graph by that
 *     settle         the arrivals of folders changed: the paths of their files do, too
 *
 * What a link leads to may become another folder, a file, a device or nothing at any time, so nothing is concluded from
 * what it was.
 */
export class FolderWalk {
  readonly graph: FolderGraph;
  /** Of the patterns; those below which everything is excluded are none. */
  readonly roots: readonly Passage[];
  readonly #rootAt: ReadonlyMap<BytePath, Passage>;
  readonly #options: FolderWalkOptions;
  /** The passage whose name a path is looked at for. */
  readonly #passageOf = new Map<WatchedPath, Passage>();
  #unmatchedPaths: BytePath[] = [];

  constructor(options: FolderWalkOptions) {
    const { patterns } = options;
    this.#options = options;
    this.graph = new FolderGraph(patterns);
    this.roots = [...patterns.roots]
      .filter((root) => patterns.standingOf(root) !== undefined)
      .map((root) => new Passage(undefined, root, "unknown"));
    this.#rootAt = new Map(this.roots.map((root) => [root.name, root]));
  }

  /** Paths of names that were entered since the last call and match nothing. */
  takeUnmatched(): readonly BytePath[] {
    return this.#unmatchedPaths.splice(0);
  }

  /** A watched path was looked at; if a link lies there, it may lead to a folder by now. */
  looked(watched: WatchedPath, stat: FileStat | undefined): void {
    const passage = this.#passageOf.get(watched);
    if (passage !== undefined) this.#lead(passage, stat);
  }

  /** Checks every passage that is not looked at as a path anyway. */
  async checkAll(nowMs: number): Promise<void> {
    let looks = 0;
    for (const root of this.roots) this.check(root, nowMs);
    // New folders join the map while it is walked.
    for (const folder of this.graph.folders.values()) {
      for (const passage of folder.passages) {
        if (passage.watched !== undefined) continue;
        looks += 1;
        if (looks % LOOKS_PER_TURN === 0) await nextTurn();
        this.check(passage, nowMs);
      }
    }
  }

  /** Where does it lead now? */
  check(passage: Passage, nowMs: number): void {
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
          this.#options.troubles.failed(passage, path, toError(error));
        }
        return;
      }
    }
    this.#options.troubles.over(passage, path);
    this.#lead(passage, stat);
  }

  /** The passage was seen to lead to this. */
  #lead(passage: Passage, stat: FileStat | undefined): void {
    if (stat?.kind === "folder") {
      const identity = `${stat.device}:${stat.inode}`;
      if (passage.leadsTo?.identity !== identity) {
        for (const each of [passage, ...this.#twins(passage)]) {
          this.#unwatch(each);
          this.graph.connect(each, identity);
        }
      }
      if (passage.leadsTo !== undefined) passage.leadsTo.modifiedMs = stat.modifiedMs;
      this.#settle();
      return;
    }
    if (passage.leadsTo !== undefined) {
      for (const each of [passage, ...this.#twins(passage)]) this.graph.disconnect(each);
      this.#settle();
    }
    this.#watchBehind(passage);
  }

  /** What else stands for the same path: a root may be an entry of another folder, too. */
  #twins({ within, name }: Passage): Passage[] {
    if (within === undefined) {
      const entry = this.graph.at(folderOf(name))?.entries.get(baseName(name));
      return entry instanceof Passage ? [entry] : [];
    }
    return within.arrivals.flatMap(({ path }) => this.#rootAt.get(joinPath(path, name)) ?? []);
  }

  /** Of every folder whose arrivals changed: under which path is each of its names looked at now? */
  #settle(): void {
    const changed = this.graph.takeChanged();
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
      this.#options.paths.forget(entry);
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
      this.leave(folder, name);
      folder.entries.set(name, entry.kind);
      return;
    }
    const kind = kindOf(entry);
    if (entry === "left_out") this.leave(folder, name);
    this.enter(folder, name, kind);
  }

  #abandon(folder: WatchedFolder): void {
    for (const name of [...folder.entries.keys()]) this.leave(folder, name);
    this.#options.onAbandoned(folder);
  }

  /** A name came that was not there, or as something else. */
  enter(folder: WatchedFolder, name: BytePath, kind: DirectoryEntry["kind"]): void {
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
      this.check(passage, this.#options.clock.monotonic());
    }
    if (path === undefined && kind !== "folder" && this.kindAt(folder, name) === "file") this.#unmatched(folder, name);
  }

  /** A name is gone, and what it was to the watcher with it. */
  leave(folder: WatchedFolder, name: BytePath): void {
    const entry = folder.entries.get(name);
    folder.entries.delete(name);
    if (entry instanceof WatchedPath) this.#options.paths.forget(entry);
    else if (entry === "left_out") this.#count(folder, -1);
    else if (entry instanceof Passage) {
      this.#unwatch(entry);
      folder.passages.delete(entry);
      this.graph.disconnect(entry);
      this.#settle();
    }
  }

  #unmatched(folder: WatchedFolder, name: BytePath): void {
    for (const { path } of folder.arrivals) this.#unmatchedPaths.push(joinPath(path, name));
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

  /** What lies behind a name, links followed. */
  kindAt(folder: WatchedFolder, name: BytePath): FileStat["kind"] | undefined {
    try {
      return this.#options.fileSystem.statSync(joinPath(folder.path, name))?.kind;
    } catch {
      return undefined;
    }
  }

  #watchFile(folder: WatchedFolder, name: BytePath, path: BytePath): void {
    if (!this.#hasRoom(path)) {
      folder.entries.set(name, "left_out");
      this.#count(folder, 1);
      return;
    }
    const watched = this.#options.paths.add(path, false);
    folder.entries.set(name, watched);
    this.#options.paths.look(watched);
  }

  /** Watches the name of a passage that leads to no folder, if it matches as that of a file. */
  #watchBehind(passage: Passage): void {
    const { within, name } = passage;
    if (within === undefined || !within.isReached || passage.watched !== undefined) return;
    const path = this.#matchingPath(within, name);
    if (path === undefined) return;
    if (!this.#hasRoom(path)) {
      if (!passage.isLeftOut) this.#count(within, 1);
      passage.isLeftOut = true;
      return;
    }
    if (passage.isLeftOut) this.#count(within, -1);
    passage.isLeftOut = false;
    const watched = this.#options.paths.add(path, passage.isLink);
    passage.watched = watched;
    this.#passageOf.set(watched, passage);
    this.#options.paths.look(watched);
  }

  #unwatch(passage: Passage): void {
    const { watched, within } = passage;
    if (passage.isLeftOut && within !== undefined) this.#count(within, -1);
    passage.isLeftOut = false;
    if (watched === undefined) return;
    passage.watched = undefined;
    this.#passageOf.delete(watched);
    this.#options.paths.forget(watched);
  }

  #count(folder: WatchedFolder, difference: number): void {
    folder.leftOut += difference;
    this.#options.limit.leftOut += difference;
  }

  #hasRoom(path: BytePath): boolean {
    return this.#options.limit.allows(path, this.#options.paths.matchingCount);
  }

  /** Watches what was left out, as far as there is room again. */
  takeIn(): void {
    if (this.#options.limit.leftOut === 0) return;
    for (const folder of this.graph.folders.values()) {
      if (folder.leftOut === 0) continue;
      for (const [name, entry] of folder.entries) {
        if (entry !== "left_out") continue;
        const path = this.#matchingPath(folder, name);
        if (path === undefined || !this.#hasRoom(path)) continue;
        this.#count(folder, -1);
        this.#watchFile(folder, name, path);
      }
      for (const passage of folder.passages) if (passage.isLeftOut) this.#watchBehind(passage);
    }
  }
}
