import { errnoOf, toError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import { type BytePath, folderOf, joinPath, pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { DirectoryEntry, FileStat, FileSystem, FolderChange } from "../runtime/file-system.ts";
import type { Random } from "../runtime/random.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { FolderWatches } from "./folder-watch.ts";
import type { PathPatterns, Place } from "./glob.ts";
import type { Sighting } from "./sighting.ts";

export interface WatcherOptions {
  readonly patterns: PathPatterns;
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly log: Logger;
  readonly scanIntervalMs: number;
  readonly idleScanIntervalMs: number;
  /** Something was notified: look soon. */
  readonly onHint: (change: FolderChange) => void;
}

/** Names notified in one folder between two looks; beyond them the whole folder is looked at. */
const MAX_HINTS = 1000;

/** A file that did not change for so long is looked at in slices only. */
const QUIET_MS = 60_000;

/**
 * Folder times are as coarse as 2 s on some file systems: a folder that changed so recently may change again within the
 * same tick, so it is listed again until it is older.
 */
const COARSE_TIME_MS = 2_100;

interface Folder {
  readonly path: BytePath;
  places: readonly Place[];
  /** Device and inode at the last listing. */
  identity: string | undefined;
  modifiedMs: number;
  /** Monotonic; undefined: never listed. */
  listedAtMs: number | undefined;
  isSettled: boolean;
  readonly kinds: Map<BytePath, DirectoryEntry["kind"]>;
  /** Identities of the folders above, so that a symbolic link cannot lead round in a circle. */
  readonly above: ReadonlySet<string>;
  trouble: { readonly backoff: Backoff; retryAtMs: number; error: Error } | undefined;
}

interface Watched {
  readonly path: BytePath;
  readonly isLink: boolean;
  stat: FileStat | undefined;
  error: Error | undefined;
  /** Monotonic. */
  changedAtMs: number;
  /** Wall clock, of the last time that something was found there. */
  seenAtMs: number;
}

/**
 * Discovery: which paths match, and what lies there now.
 *
 *     folders --(listing: time stamp changed, notified, or idle_scan_interval_ms over)--> paths
 *     paths   --(stat: each scan; quiet for a minute: in slices; notified: at once)-----> sightings
 *
 * The scan is the truth, notifications only make it sooner. The watcher knows paths, not files: which file is behind a
 * path is the manager's business. A quiet file costs one stat per idle_scan_interval_ms and no descriptor.
 */
export class Watcher {
  readonly #options: WatcherOptions;
  readonly #watches: FolderWatches;
  readonly #folders = new Map<BytePath, Folder>();
  readonly #roots: ReadonlyMap<BytePath, readonly Place[]>;
  readonly #active = new Map<BytePath, Watched>();
  readonly #idle = new Map<BytePath, Watched>();
  readonly #hints = new Map<BytePath, Set<BytePath> | "all">();
  #lastScanMs: number | undefined;
  #sightings: Map<BytePath, Sighting> = new Map();
  #newSiblings: BytePath[] = [];

  constructor(options: WatcherOptions) {
    this.#options = options;
    this.#roots = options.patterns.roots;
    this.#watches = new FolderWatches(options.fileSystem, options.log, (folder, name, change) => {
      const names = this.#hints.get(folder);
      if (name === undefined) this.#hints.set(folder, "all");
      else if (names === undefined) this.#hints.set(folder, new Set([name]));
      else if (names !== "all" && names.add(name).size > MAX_HINTS) this.#hints.set(folder, "all");
      options.onHint(name === undefined ? "entry" : change);
    });
  }

  /** Paths that are looked at. */
  get pathCount(): number {
    return this.#active.size + this.#idle.size;
  }

  /** The last name of the path is a symbolic link. */
  isLink(path: BytePath): boolean {
    return (this.#active.get(path) ?? this.#idle.get(path))?.isLink ?? false;
  }

  /** Why a folder cannot be read, if it cannot. */
  troubleOf(folder: BytePath): Error | undefined {
    return this.#folders.get(folder)?.trouble?.error;
  }

  /** Names that appeared in listed folders since the last call and match nothing: perhaps siblings of a followed file. */
  takeUnmatched(): readonly BytePath[] {
    return this.#newSiblings.splice(0);
  }

  /** Looks at this path as at those that match (a rotated file whose new name matches nothing). */
  follow(path: BytePath): void {
    if (!this.#active.has(path) && !this.#idle.has(path)) this.#watch(path, false);
  }

  /** Ends `follow`; a path that matches goes on being looked at. */
  unfollow(path: BytePath): void {
    if (this.#folders.get(folderOf(path))?.kinds.has(path) && this.#isWanted(path)) return;
    this.#active.delete(path);
    this.#idle.delete(path);
  }

  /** Wall clock, of the last time that a file was found at this path; 0: never. */
  seenAtMs(path: BytePath): number {
    return (this.#active.get(path) ?? this.#idle.get(path))?.seenAtMs ?? 0;
  }

  /** Look at this path at the next look, however quiet it is. */
  hint(path: BytePath): void {
    const watched = this.#idle.get(path);
    if (watched === undefined) return;
    this.#idle.delete(path);
    watched.changedAtMs = this.#options.clock.monotonic();
    this.#active.set(path, watched);
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
    if (isScan) await this.#scanFolders(nowMs);
    for (const [folder, names] of hints) await this.#followHint(folder, names);
    if (isScan) {
      this.#scanPaths(nowMs);
      this.#lastScanMs = nowMs;
    }
    const sightings = [...this.#sightings.values()];
    this.#sightings = new Map();
    return sightings;
  }

  close(): void {
    this.#watches.close();
  }

  // ------------------------------------------------------------ folders

  async #scanFolders(nowMs: number): Promise<void> {
    for (const [root, places] of this.#roots) {
      if (!this.#folders.has(root)) this.#addFolder(root, places, new Set());
    }
    // New folders join the map while it is walked, and are visited in the same walk.
    for (const folder of this.#folders.values()) {
      if (folder.trouble !== undefined && folder.trouble.retryAtMs > nowMs) continue;
      await this.#checkFolder(folder, nowMs);
    }
  }

  async #checkFolder(folder: Folder, nowMs: number): Promise<void> {
    let stat: FileStat | undefined;
    try {
      stat = this.#options.fileSystem.statSync(folder.path);
    } catch (error) {
      this.#troubled(folder, toError(error));
      return;
    }
    if (stat === undefined || stat.kind !== "folder") {
      this.#emptyFolder(folder);
      return;
    }
    const identity = `${stat.device}:${stat.inode}`;
    const isSame = folder.identity === identity && folder.modifiedMs === stat.modifiedMs;
    const isOld = folder.listedAtMs === undefined || nowMs - folder.listedAtMs >= this.#options.idleScanIntervalMs;
    if (isSame && folder.isSettled && !isOld && folder.trouble === undefined) return;
    if (folder.identity !== identity) this.#watches.remove(folder.path);
    await this.#list(folder, stat, identity);
  }

  async #list(folder: Folder, stat: FileStat, identity: string): Promise<void> {
    const { fileSystem, clock, events } = this.#options;
    // Before listing, so that nothing can happen between the listing and the watch.
    this.#watches.add(folder.path);
    const startedAtMs = clock.monotonic();
    let entries: DirectoryEntry[];
    try {
      entries = await fileSystem.readdir(folder.path);
    } catch (error) {
      const code = errnoOf(error);
      if (code === "ENOENT" || code === "ENOTDIR") this.#emptyFolder(folder);
      else this.#troubled(folder, toError(error));
      return;
    }
    if (folder.trouble !== undefined) {
      folder.trouble = undefined;
      events.emit("file_readable", `${pathToText(folder.path)} can be read again`, { folder: pathToText(folder.path) });
    }
    folder.identity = identity;
    folder.modifiedMs = stat.modifiedMs;
    folder.listedAtMs = startedAtMs;
    folder.isSettled = clock.now() - stat.modifiedMs > COARSE_TIME_MS;
    this.#compare(folder, entries, identity);
  }

  #compare(folder: Folder, entries: readonly DirectoryEntry[], identity: string): void {
    const above = new Set([...folder.above, identity]);
    for (const entry of entries) {
      const path = joinPath(folder.path, entry.name);
      if (folder.kinds.get(path) === entry.kind) continue;
      folder.kinds.set(path, entry.kind);
      this.#enter(folder, entry, path, above);
    }
    // A listing has no name twice: as many as are known now, and none of those is gone.
    if (entries.length === folder.kinds.size) return;
    const present = new Set(entries.map(({ name }) => joinPath(folder.path, name)));
    for (const path of [...folder.kinds.keys()]) {
      if (present.has(path)) continue;
      folder.kinds.delete(path);
      this.#forgetPath(path);
      const below = this.#folders.get(path);
      if (below !== undefined && !this.#roots.has(path)) this.#removeFolder(below);
    }
  }

  #enter(folder: Folder, entry: DirectoryEntry, path: BytePath, above: ReadonlySet<string>): void {
    let kind = entry.kind;
    if (kind === "link" || kind === "unknown") kind = this.#kindBehind(path) ?? kind;
    if (kind === "folder") {
      this.#forgetPath(path);
      const places = this.#options.patterns.below(folder.places, entry.name);
      if (places.length === 0 || this.#folders.has(path)) return;
      const identity = this.#identityOf(path);
      if (identity !== undefined && !above.has(identity)) this.#addFolder(path, places, above);
      return;
    }
    if (kind === "other") return;
    if (this.#isWanted(path)) this.#watch(path, entry.kind === "link");
    else this.#newSiblings.push(path);
  }

  /** What a symbolic link leads to; undefined: nowhere, or that cannot be told now. */
  #kindBehind(path: BytePath): FileStat["kind"] | undefined {
    try {
      return this.#options.fileSystem.statSync(path)?.kind;
    } catch {
      return undefined;
    }
  }

  #identityOf(path: BytePath): string | undefined {
    try {
      const stat = this.#options.fileSystem.statSync(path);
      return stat === undefined ? undefined : `${stat.device}:${stat.inode}`;
    } catch {
      return undefined;
    }
  }

  #addFolder(path: BytePath, places: readonly Place[], above: ReadonlySet<string>): void {
    this.#folders.set(path, {
      path,
      places,
      identity: undefined,
      modifiedMs: 0,
      listedAtMs: undefined,
      isSettled: false,
      kinds: new Map(),
      above,
      trouble: undefined,
    });
  }

  #emptyFolder(folder: Folder): void {
    folder.identity = undefined;
    folder.listedAtMs = undefined;
    folder.trouble = undefined;
    this.#watches.remove(folder.path);
    for (const path of folder.kinds.keys()) {
      this.#forgetPath(path);
      const below = this.#folders.get(path);
      if (below !== undefined && !this.#roots.has(path)) this.#removeFolder(below);
    }
    folder.kinds.clear();
  }

  #removeFolder(folder: Folder): void {
    this.#emptyFolder(folder);
    this.#folders.delete(folder.path);
  }

  #troubled(folder: Folder, error: Error): void {
    const { clock, random, events } = this.#options;
    if (folder.trouble === undefined) {
      const text = pathToText(folder.path);
      folder.trouble = { backoff: new Backoff({ initialMs: 1000, maxMs: 30_000 }, random), retryAtMs: 0, error };
      events.emit("file_unreadable", `the folder ${text} cannot be read (${error.message}); positions are kept`, {
        folder: text,
        error: error.message,
      });
    }
    folder.trouble.error = error;
    folder.trouble.retryAtMs = clock.monotonic() + folder.trouble.backoff.next();
  }

  // ------------------------------------------------------------ paths

  async #followHint(folderPath: BytePath, names: ReadonlySet<BytePath> | "all"): Promise<void> {
    const folder = this.#folders.get(folderPath);
    if (folder === undefined || folder.identity === undefined) return;
    let hasMoved = names === "all";
    if (names !== "all") {
      for (const name of names) {
        const path = joinPath(folderPath, name);
        const watched = this.#active.get(path) ?? this.#idle.get(path);
        if (watched === undefined) {
          // Somebody writes a file that nobody wants: no reason to list. A name never seen is one.
          if (!folder.kinds.has(path)) hasMoved = true;
          else if (this.#identityOf(path) === undefined) hasMoved = true;
          continue;
        }
        const before = watched.stat;
        this.#lookAt(watched);
        const now = watched.stat;
        if (before === undefined || now === undefined || before.inode !== now.inode || before.device !== now.device) {
          hasMoved = true;
        }
      }
    }
    if (hasMoved) {
      folder.isSettled = false;
      await this.#checkFolder(folder, this.#options.clock.monotonic());
      // What the listing brought in (a new subfolder) is listed too.
      for (const below of this.#folders.values()) {
        if (below.listedAtMs === undefined && below.trouble === undefined && below.path.startsWith(folderPath)) {
          await this.#checkFolder(below, this.#options.clock.monotonic());
        }
      }
    }
  }

  #scanPaths(nowMs: number): void {
    for (const watched of this.#active.values()) {
      this.#lookAt(watched);
      if (nowMs - watched.changedAtMs >= QUIET_MS && this.#active.delete(watched.path)) {
        this.#idle.set(watched.path, watched);
      }
    }
    const elapsedMs = nowMs - (this.#lastScanMs ?? nowMs);
    const share = Math.min(1, elapsedMs / this.#options.idleScanIntervalMs);
    let count = Math.ceil(this.#idle.size * share);
    for (const [path, watched] of this.#idle) {
      if (count <= 0) break;
      count -= 1;
      // To the end of the line: a map keeps the order of insertion.
      this.#idle.delete(path);
      this.#idle.set(path, watched);
      this.#lookAt(watched);
    }
  }

  #watch(path: BytePath, isLink: boolean): void {
    if (this.#active.has(path) || this.#idle.has(path)) return;
    const watched: Watched = { path, isLink, stat: undefined, error: undefined, changedAtMs: 0, seenAtMs: 0 };
    watched.changedAtMs = this.#options.clock.monotonic();
    this.#active.set(path, watched);
    this.#lookAt(watched);
  }

  #forgetPath(path: BytePath): void {
    const watched = this.#active.get(path) ?? this.#idle.get(path);
    if (watched === undefined) return;
    this.#active.delete(path);
    this.#idle.delete(path);
    this.#sightings.set(path, { path, isLink: watched.isLink, stat: undefined, error: undefined });
  }

  #lookAt(watched: Watched): void {
    const { fileSystem, clock } = this.#options;
    const { path, isLink } = watched;
    const nowMs = clock.now();
    let stat: FileStat | undefined;
    try {
      stat = fileSystem.statSync(path);
    } catch (error) {
      if (watched.error === undefined) {
        this.#sightings.set(path, { path, isLink, stat: undefined, error: toError(error) });
      }
      watched.error = toError(error);
      return;
    }
    if (stat?.kind !== "file") stat = undefined;
    if (stat !== undefined) watched.seenAtMs = nowMs;
    const hadError = watched.error !== undefined;
    watched.error = undefined;
    if (!hadError && isSameStat(watched.stat, stat)) return;
    watched.stat = stat;
    watched.changedAtMs = clock.monotonic();
    if (this.#idle.delete(path)) this.#active.set(path, watched);
    this.#sightings.set(path, { path, isLink, stat, error: undefined });
  }

  #isWanted(path: BytePath): boolean {
    return this.#options.patterns.judge(path).kind === "included";
  }
}

function isSameStat(before: FileStat | undefined, now: FileStat | undefined): boolean {
  if (before === undefined || now === undefined) return before === now;
  return (
    before.inode === now.inode &&
    before.device === now.device &&
    before.size === now.size &&
    before.modifiedMs === now.modifiedMs &&
    before.birthNs === now.birthNs &&
    before.links === now.links
  );
}
