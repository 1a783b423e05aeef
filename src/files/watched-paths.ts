import { setImmediate as turn } from "node:timers";
import { errnoOf, toError } from "../errors.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { Sighting } from "./sighting.ts";

/** A file that did not change for so long is looked at in slices only. */
const QUIET_MS = 60_000;

/** So much is looked at in one turn of the event loop: some ten milliseconds. */
export const LOOKS_PER_TURN = 2000;

/** A path that is looked at: there is one for each file that matches, so it holds no more than it must. */
export class WatchedPath {
  readonly path: BytePath;
  readonly isLink: boolean;
  /** Undefined: nothing is there, or it is no regular file. */
  stat: FileStat | undefined;
  error: Error | undefined;
  /** Monotonic. */
  changedAtMs: number;
  /** Wall clock, of the last time that something was found there. */
  seenAtMs = 0;

  constructor(path: BytePath, isLink: boolean, nowMs: number) {
    this.path = path;
    this.isLink = isLink;
    this.changedAtMs = nowMs;
  }
}

export interface WatchedPathsOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly idleScanIntervalMs: number;
  /** What is there now, file or not; told at every look, also if nothing changed. */
  readonly onLooked: (watched: WatchedPath, stat: FileStat | undefined) => void;
}

/** The paths that are looked at one by one, and what became of them since they were asked last. */
export class WatchedPaths {
  readonly #options: WatchedPathsOptions;
  readonly #active = new Set<WatchedPath>();
  readonly #idle = new Set<WatchedPath>();
  /** Paths that are looked at though they match nothing. */
  readonly #followed = new Map<BytePath, WatchedPath>();
  #sightings = new Map<BytePath, Sighting>();

  constructor(options: WatchedPathsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#active.size + this.#idle.size;
  }

  /** Without those that are followed. */
  get matchingCount(): number {
    return this.size - this.#followed.size;
  }

  followedAt(path: BytePath): WatchedPath | undefined {
    return this.#followed.get(path);
  }

  /** Looks at a path that matches nothing. */
  follow(path: BytePath): void {
    if (this.#followed.has(path)) return;
    const watched = this.add(path, false);
    this.#followed.set(path, watched);
    this.look(watched);
  }

  /** Ends `follow`. */
  unfollow(path: BytePath): void {
    const watched = this.#followed.get(path);
    if (watched === undefined) return;
    this.#followed.delete(path);
    this.#remove(watched);
  }

  /** From now on the path is looked at; it is not yet. */
  add(path: BytePath, isLink: boolean): WatchedPath {
    const watched = new WatchedPath(path, isLink, this.#options.clock.monotonic());
    this.#active.add(watched);
    return watched;
  }

  /** Looks at it no more. */
  #remove(watched: WatchedPath): void {
    this.#active.delete(watched);
    this.#idle.delete(watched);
  }

  /** Looks at it no more, since there is nothing any longer. */
  forget(watched: WatchedPath): void {
    this.#remove(watched);
    const { path, isLink } = watched;
    this.#sightings.set(path, { path, isLink, stat: undefined, error: undefined });
  }

  /** Look at this path at the next scan, however quiet it is. */
  wake(watched: WatchedPath): void {
    if (!this.#idle.delete(watched)) return;
    watched.changedAtMs = this.#options.clock.monotonic();
    this.#active.add(watched);
  }

  /**
   * Looks at all that changed within QUIET_MS, and at a share of the others; others have their turn meanwhile.
   *
   * @param elapsedMs since the last scan
   */
  async scan(nowMs: number, elapsedMs: number): Promise<void> {
    let looks = 0;
    for (const watched of this.#active) {
      looks += 1;
      if (looks % LOOKS_PER_TURN === 0) await nextTurn();
      this.look(watched);
      if (nowMs - watched.changedAtMs >= QUIET_MS && this.#active.delete(watched)) this.#idle.add(watched);
    }
    const share = Math.min(1, elapsedMs / this.#options.idleScanIntervalMs);
    let count = Math.ceil(this.#idle.size * share);
    for (const watched of this.#idle) {
      if (count <= 0) break;
      count -= 1;
      if (count % LOOKS_PER_TURN === LOOKS_PER_TURN - 1) await nextTurn();
      // To the end of the line: a set keeps the order of insertion. It may have left the set meanwhile.
      if (!this.#idle.delete(watched)) continue;
      this.#idle.add(watched);
      this.look(watched);
    }
  }

  look(watched: WatchedPath): void {
    const { fileSystem, clock, onLooked } = this.#options;
    const { path, isLink } = watched;
    const nowMs = clock.now();
    let found: FileStat | undefined;
    try {
      found = fileSystem.statSync(path);
    } catch (error) {
      // A link round in a circle leads nowhere.
      if (errnoOf(error) !== "ELOOP") {
        if (watched.error === undefined) {
          this.#sightings.set(path, { path, isLink, stat: undefined, error: toError(error) });
        }
        watched.error = toError(error);
        return;
      }
    }
    const stat = found?.kind === "file" ? found : undefined;
    if (stat !== undefined) watched.seenAtMs = nowMs;
    const hadError = watched.error !== undefined;
    watched.error = undefined;
    if (hadError || !isSameStat(watched.stat, stat)) {
      // One that was quiet already when it was found is no busy file: ten thousand of those cost nothing but a look.
      const isQuiet = watched.stat === undefined && stat !== undefined && nowMs - stat.modifiedMs >= QUIET_MS;
      watched.stat = stat;
      watched.changedAtMs = clock.monotonic() - (isQuiet ? QUIET_MS : 0);
      if (this.#idle.delete(watched)) this.#active.add(watched);
      this.#sightings.set(path, { path, isLink, stat, error: undefined });
    }
    onLooked(watched, found);
  }

  /** What changed since the last call. */
  take(): Sighting[] {
    const sightings = [...this.#sightings.values()];
    this.#sightings = new Map();
    return sightings;
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

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => void turn(resolve));
}
