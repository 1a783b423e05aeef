import { errnoOf, toError } from "../errors.ts";
import type { Clock } from "../runtime/clock.ts";
import type { DirectoryEntry, FileStat, FileSystem } from "../runtime/file-system.ts";
import type { FolderTroubles } from "./folder-trouble.ts";
import type { FolderWalk } from "./folder-walk.ts";
import type { FolderWatches } from "./folder-watch.ts";
import { kindOf, type WatchedFolder } from "./watched-folder.ts";
import { LOOKS_PER_TURN, nextTurn } from "./watched-paths.ts";

/**
 * Folder times are as coarse as 2 s on some file systems: a folder that changed so recently may change again within the
 * same tick, so it is listed again until it is older.
 */
const COARSE_TIME_MS = 2_100;

interface FolderListingsOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly idleScanIntervalMs: number;
  readonly walk: FolderWalk;
  readonly watches: FolderWatches<WatchedFolder>;
  readonly troubles: FolderTroubles;
}

/** Lists folders, and tells the walk which names came and went. */
export class FolderListings {
  readonly #options: FolderListingsOptions;

  constructor(options: FolderListingsOptions) {
    this.#options = options;
  }

  /** Lists the folders that changed, or were not listed for `idleScanIntervalMs`. */
  async listDue(nowMs: number): Promise<void> {
    const { idleScanIntervalMs, walk } = this.#options;
    // New folders join the map while it is walked.
    for (const folder of walk.graph.folders.values()) {
      if (folder.trouble !== undefined && folder.trouble.retryAtMs > nowMs) continue;
      const { listedAtMs, isSettled, listedModifiedMs, modifiedMs, trouble } = folder;
      const isFresh = listedAtMs !== undefined && nowMs - listedAtMs < idleScanIntervalMs;
      if (isFresh && isSettled && listedModifiedMs === modifiedMs && trouble === undefined) continue;
      await this.list(folder);
    }
  }

  /** Lists the folders that were never listed. */
  async listNew(): Promise<void> {
    for (const folder of this.#options.walk.graph.folders.values()) {
      if (folder.listedAtMs === undefined && folder.trouble === undefined) await this.list(folder);
    }
  }

  async list(folder: WatchedFolder): Promise<void> {
    const { fileSystem, clock, watches, troubles } = this.#options;
    const { path, modifiedMs } = folder;
    // Before listing, so that nothing can happen between the listing and the watch.
    watches.add(folder, path);
    const startedAtMs = clock.monotonic();
    let entries: DirectoryEntry[];
    let after: FileStat | undefined;
    try {
      entries = await fileSystem.readdir(path);
      after = fileSystem.statSync(path);
    } catch (error) {
      const code = errnoOf(error);
      if (code === "ENOENT" || code === "ENOTDIR") this.#lookBehind(folder);
      else troubles.failed(folder, path, toError(error));
      return;
    }
    if (after === undefined || `${after.device}:${after.inode}` !== folder.identity) {
      // The names may be those of another folder, which has come to this path meanwhile.
      this.#lookBehind(folder);
      return;
    }
    troubles.over(folder, path);
    folder.listedModifiedMs = modifiedMs;
    folder.listedAtMs = startedAtMs;
    folder.listingMs = clock.monotonic() - startedAtMs;
    folder.isSettled = clock.now() - modifiedMs > COARSE_TIME_MS;
    await this.#compare(folder, entries);
  }

  /** Something else lies where the folder was: wherever it is now, it is listed at the next look. */
  #lookBehind(folder: WatchedFolder): void {
    folder.isSettled = false;
    for (const passage of [...folder.incoming]) this.#options.walk.check(passage, this.#options.clock.monotonic());
  }

  async #compare(folder: WatchedFolder, entries: readonly DirectoryEntry[]): Promise<void> {
    const { walk } = this.#options;
    let entered = 0;
    for (const { name, kind } of entries) {
      const known = folder.entries.get(name);
      if (known !== undefined) {
        const before = kindOf(known);
        if (before === kind) continue;
        // The file system does not tell: then what lies there does, and a link is looked at anyway.
        if (kind === "unknown" && (before === "link" || before === walk.kindAt(folder, name))) continue;
      }
      entered += 1;
      if (entered % LOOKS_PER_TURN === 0) await nextTurn();
      if (known !== undefined) walk.leave(folder, name);
      walk.enter(folder, name, kind);
    }
    // A listing has no name twice: as many as are known now, and none of those is gone.
    if (entries.length === folder.entries.size) return;
    const present = new Set(entries.map(({ name }) => name));
    for (const name of [...folder.entries.keys()]) if (!present.has(name)) walk.leave(folder, name);
  }
}
