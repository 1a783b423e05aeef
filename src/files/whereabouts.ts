import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { familyOf } from "./family.ts";
import { isRotatedName } from "./file-registry.ts";
import { type FileState, leastSize, type RotationKind } from "./file-state.ts";
import { lookAt } from "./sighting.ts";
import type { Candidate } from "./survey.ts";

/**
 * Which path leads to which file: every change of that is made here, so that registry, watcher and readers never disagree.
 *
 *     place     the file is where this candidate is: a path that matches, or a rotated name that is looked after
 *     lose      a path leads to it no longer
 *     displace  what its inode holds is not it (any more): it is nowhere, until it is found again
 *
 * `touch` notes families whose members must be told apart anew, `open` paths of which it must be found out what they are.
 */
export class Whereabouts {
  readonly #options: DiscoveryOptions;
  /** Rotated names that match nothing, and whose file is still looked at. */
  readonly #followed = new Map<BytePath, FileState>();
  readonly #followedBy = new Map<FileState, BytePath>();
  /** Families, by the path that was rotated, to be recognised. */
  readonly touched = new Set<BytePath>();

  constructor(options: DiscoveryOptions) {
    this.#options = options;
  }

  /** Something in the families of this path has changed. */
  touch(path: BytePath): void {
    this.touched.add(this.homeOf(path));
  }

  /**
   * The path whose family it is of: what rotation would have made it of, if that is known or there; else its own. A name
   * alone is no proof: `worker.1.log` may be rotated from `worker.log`, or be a path like any other.
   */
  homeOf(path: BytePath): BytePath {
    const { base, compression } = familyOf(path);
    const { fileRegistry, contents, fileSystem } = this.#options;
    // Where rotation puts old ones elsewhere, that folder's name is not enough either: the base must be known.
    const elsewhere = () => fileRegistry.elsewhere(path)[0] ?? path;
    if (base === path) return elsewhere();
    if (compression !== undefined && contents.formatOf(path) === undefined) return path;
    const isThere = () => this.isIncluded(base) && lookAt(fileSystem, base).stat !== undefined;
    return fileRegistry.isKnown(base) || isThere() ? base : elsewhere();
  }

  touchAll(state: FileState): void {
    for (const name of state.names) this.touch(name);
  }

  /** The file that is looked at under a rotated name that matches nothing. */
  followedAt(path: BytePath): FileState | undefined {
    return this.#followed.get(path);
  }

  isIncluded(path: BytePath): boolean {
    return this.#options.patterns.judge(path).kind === "included";
  }

  /**
   * Where a symbolic link leads to, if that is a path which matches itself: the link is then only a way to it. No name of
   * the file's is made of it, since it may lead to another log the next minute.
   */
  async followedBehind(path: BytePath): Promise<BytePath | undefined> {
    const { watcher, fileSystem } = this.#options;
    if (!watcher.isLink(path)) return undefined;
    try {
      const real = await fileSystem.realpath(path);
      return real !== path && this.isIncluded(real) ? real : undefined;
    } catch {
      // It leads nowhere at the moment.
      return undefined;
    }
  }

  // ------------------------------------------------------------ found

  /** It is where the candidate is; its content was proved, or its tailer will. */
  async place(state: FileState, candidate: Candidate): Promise<void> {
    const { fileRegistry, readers } = this.#options;
    const other = fileRegistry.byId(candidate.id);
    if (other !== undefined && other !== state) {
      if (other.copyOf !== undefined) this.forgetCopy(other);
      else this.displace(other);
    }
    const isMoved = state.id !== undefined && state.id !== candidate.id;
    // Its tailer reads the old inode.
    if (isMoved) await readers.stop(state);
    fileRegistry.setId(state, candidate.id);
    state.fileSystem = candidate.id.slice(0, candidate.id.indexOf("\0"));
    state.inode = String(candidate.stat.inode);
    if (isMoved || state.birthNs === "0") state.birthNs = String(candidate.stat.birthNs);
    const isIncluded = this.isIncluded(candidate.path);
    if (isIncluded && (await this.followedBehind(candidate.path)) !== undefined) {
      this.claim(candidate.path, state, candidate);
      if (state.location === undefined) state.relocate(candidate.path);
      await this.#live(state, candidate);
      return;
    }
    if (isIncluded) {
      this.#unfollow(state);
      this.claim(candidate.path, state, candidate);
      if (state.location === undefined || isMoved || !state.paths.has(state.location)) state.relocate(candidate.path);
    } else if (state.paths.size === 0) {
      state.relocate(candidate.path);
      this.lookAfter(state, candidate.path);
    }
    fileRegistry.addName(state, candidate.path);
    if (state.phase !== "finished" || fileRegistry.ownerOf(candidate.path) === undefined)
      fileRegistry.setOwner(candidate.path, state);
    await this.#live(state, candidate);
  }

  /** What its place says of its life. */
  async #live(state: FileState, candidate: Candidate): Promise<void> {
    const { readers, clock } = this.#options;
    const isPlain = candidate.format === undefined;
    const isAtHome = this.#isAtHome(state);
    if (state.phase === "finished") {
      if (!(isAtHome && isPlain) && !(await this.#hasMore(state, candidate))) return;
      state.isCaughtUp = true;
      state.changedAtMs = clock.monotonic();
      if (isAtHome) state.live();
      else state.rotate(state.rotation ?? "renamed", clock.monotonic());
      if (isPlain) state.size = Math.max(state.offset, candidate.stat.size);
      if (isAtHome) readers.revive(state);
      else readers.rotate(state);
      readers.read(state);
      return;
    }
    if (isPlain) this.#grown(state, candidate.stat);
    if (!isAtHome && state.phase !== "rotated") this.rotated(state, state.rotation ?? "renamed");
    else if (isAtHome && state.phase !== "live") {
      state.live();
      readers.revive(state);
    }
    readers.read(state);
  }

  /** A tombstone grew: late bytes, perhaps from before it was compressed. */
  async #hasMore(state: FileState, candidate: Candidate): Promise<boolean> {
    if (candidate.format === undefined) return candidate.stat.size > state.size;
    if (state.archive !== undefined && !hasArchiveChanged(state, candidate.stat)) return false;
    try {
      const content = await this.#options.contents.open(candidate.path);
      try {
        const hasMore = (await content.read(Buffer.alloc(1), 0, 1, state.offset)) === 1;
        const isDamaged = state.archive?.damage !== undefined;
        // Not worth a look again while it stays so.
        if (!hasMore && !isDamaged)
          state.archive = { bytes: candidate.stat.size, modifiedMs: candidate.stat.modifiedMs };
        return hasMore || isDamaged;
      } finally {
        await content.close().catch(() => undefined);
      }
    } catch {
      return false;
    }
  }

  /** At a path that no rotation has given it. */
  #isAtHome(state: FileState): boolean {
    return [...state.paths].some(
      (path) =>
        !isRotatedName(path, state.names) &&
        !this.#options.fileRegistry.elsewhere(path).some((base) => state.names.includes(base)),
    );
  }

  /** Enters `path` as one of the file; the file that had it before has lost it. */
  claim(path: BytePath, state: FileState, { id, stat }: Pick<Candidate, "id" | "stat">): void {
    const { fileRegistry } = this.#options;
    const before = fileRegistry.paths.get(path);
    if (before?.kind === "file" && before.state !== state) this.lose(before.state, path);
    fileRegistry.setPath(path, { kind: "file", id, stat, state });
    state.paths.add(path);
  }

  /** Has a path looked at that does not match; whoever was there before has moved on, and is looked for. */
  lookAfter(state: FileState, path: BytePath): void {
    if (this.#followedBy.get(state) === path) return;
    this.#unfollow(state);
    const before = this.#followed.get(path);
    if (before !== undefined) {
      this.#unfollow(before);
      if (before.location === path && !this.#options.readers.holds(before)) before.location = undefined;
      this.touchAll(before);
    }
    this.#followed.set(path, state);
    this.#followedBy.set(state, path);
    this.#options.watcher.follow(path);
  }

  #unfollow(state: FileState): void {
    const path = this.#followedBy.get(state);
    if (path === undefined) return;
    this.#followedBy.delete(state);
    this.#followed.delete(path);
    this.#options.watcher.unfollow(path);
  }

  // ------------------------------------------------------------ lost

  /** `path` no longer leads to `state`. */
  lose(state: FileState, path: BytePath): void {
    state.paths.delete(path);
    this.#options.fileRegistry.removePath(path);
    if (state.location === path) state.location = [...state.paths][0];
    this.touchAll(state);
  }

  /** What lies under the name that was looked after is another file, or nothing. */
  strayed(state: FileState): void {
    this.#unfollow(state);
    if (!this.#options.readers.holds(state)) state.location = undefined;
    this.touchAll(state);
  }

  /** Nobody wants it any more where it is. */
  letGo(state: FileState): void {
    this.#unfollow(state);
  }

  /** What its inode holds is not what was read of it: it is nowhere, until it is found again. */
  displace(state: FileState): void {
    const { fileRegistry } = this.#options;
    this.#unfollow(state);
    for (const path of [...state.paths]) {
      state.paths.delete(path);
      fileRegistry.removePath(path);
    }
    state.location = undefined;
    fileRegistry.setId(state, undefined);
    fileRegistry.dropClaim(state);
    this.touchAll(state);
  }

  /** The file is not known any more. */
  drop(state: FileState): void {
    const { fileRegistry } = this.#options;
    this.displace(state);
    fileRegistry.remove(state);
  }

  // ------------------------------------------------------------ changed

  /** A known file changed where it is: there may be more to read, it may have been cut, or a tombstone grows again. */
  changed(state: FileState, stat: FileStat): void {
    const { readers } = this.#options;
    const isPlain = this.#options.contents.formatOf(state.location ?? state.path) === undefined;
    if (state.phase === "finished") {
      if (isPlain ? stat.size !== state.size : hasArchiveChanged(state, stat)) this.touchAll(state);
      return;
    }
    // A tailer that has it open sees for itself that it shrank.
    if (isPlain && stat.size < leastSize(state) && !readers.holds(state)) {
      this.touchAll(state);
      return;
    }
    if (isPlain) this.#grown(state, stat);
    readers.read(state);
  }

  #grown(state: FileState, stat: FileStat): void {
    const least = this.#options.readers.holds(state) ? state.size : state.offset;
    state.size = Math.max(least, stat.size);
    state.modifiedMs = stat.modifiedMs;
  }

  rotated(state: FileState, kind: RotationKind): void {
    const { events, readers, clock } = this.#options;
    state.rotate(kind, clock.monotonic());
    const text = pathToText(state.path);
    const how = kind === "renamed" ? "was renamed" : kind === "deleted" ? "was deleted" : "was copied and truncated";
    events.emit("file_rotated", `${text} ${how}; it is read to its end from byte ${state.offset} on`, {
      file: text,
      how: kind,
      offset: state.offset,
      ...(state.location === undefined ? {} : { now: pathToText(state.location) }),
    });
    readers.rotate(state);
  }

  /** What was read of it is not where it was: cut, replaced or rewritten. */
  cutOff(state: FileState): void {
    const text = pathToText(state.path);
    const place = state.location ?? state.newestName;
    const { stat } = lookAt(this.#options.fileSystem, place);
    if (stat !== undefined) state.rejected = { id: this.#options.ids.idOf(stat), ...stat };
    state.cutOff();
    const what = state.given > 0 ? `what was read of it up to byte ${state.given}` : "what was seen of it";
    this.#options.events.emit("file_truncated", `${text} no longer holds ${what}`, {
      file: text,
      offset: state.offset,
      size: state.size,
    });
    this.displace(state);
  }

  // ------------------------------------------------------------ copies

  /** What was stored of a file as a copy goes: it is none, or its original's only home. */
  forgetCopy(copy: FileState): void {
    this.#unfollow(copy);
    this.#options.fileRegistry.remove(copy);
    // Dying before this is durable leaves an entry that nothing refers to; the next start finds and drops it.
    this.#options.positions.save(new Map([[copy.key, undefined]])).catch(() => undefined);
  }
}

/** An archive that was read to its end is another one, or longer; of one that an older version read only its time tells. */
function hasArchiveChanged({ archive, lastSeenMs }: FileState, stat: FileStat): boolean {
  if (archive === undefined) return stat.modifiedMs > lastSeenMs;
  return stat.size !== archive.bytes || stat.modifiedMs !== archive.modifiedMs;
}
