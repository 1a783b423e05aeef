import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { Agenda } from "./agenda.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileId } from "./file-id.ts";
import { isRotatedName } from "./file-registry.ts";
import { type FileState, leastSize, type RotationKind } from "./file-state.ts";
import type { SiblingFile } from "./rotation.ts";
import { type Group, lookAt } from "./sighting.ts";

/**
 * Which path leads to which file: every change of that is made here, so that fileRegistry, watcher and agenda never disagree.
 *
 *     adopt    a path that matches leads to the file
 *     follow   the file lies under a rotated name, which need not match; it is looked at there
 *     lose     a path leads to it no longer; without any it is *detached*, and searched for
 */
export class Whereabouts {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  /** Rotated names that match nothing, and whose file is still looked at. */
  readonly #followed = new Map<BytePath, FileState>();

  constructor(options: DiscoveryOptions, agenda: Agenda) {
    this.#options = options;
    this.#agenda = agenda;
  }

  /** The file that is looked at under a rotated name that matches nothing. */
  followedAt(path: BytePath): FileState | undefined {
    return this.#followed.get(path);
  }

  /** Enters `path` as one of the file; whoever had it before has lost it. */
  claim(path: BytePath, state: FileState, { id, stat }: Pick<Group, "id" | "stat">): void {
    const before = this.#options.fileRegistry.paths.get(path);
    if (before?.kind === "file" && before.state !== state) this.lose(before.state, path);
    this.#options.fileRegistry.setPath(path, { kind: "file", id, stat, state });
    state.paths.add(path);
  }

  /** `path` leads to `state` from now on. */
  adopt(state: FileState, path: BytePath, group: Group): void {
    const { readers, clock } = this.#options;
    this.unfollow(state);
    this.#agenda.detached.delete(state);
    this.#agenda.missingSince.delete(state);
    this.forgetCopy(group.id);
    // An archive of a tombstone may hold bytes that came late.
    const isPacked = state.id !== group.id && this.#options.rotation.formatOf(path) !== undefined;
    if (isPacked && state.phase === "finished") this.#agenda.doubted.add(state);
    this.#options.fileRegistry.setId(state, group.id);
    this.claim(path, state, group);
    state.fileSystem = group.id.slice(0, group.id.indexOf("\0"));
    state.inode = String(group.stat.inode);
    state.relocate(path);
    this.#options.fileRegistry.addName(state, path);
    if (state.phase !== "finished" || this.#options.fileRegistry.ownerOf(path) === undefined)
      this.#options.fileRegistry.setOwner(path, state);
    this.#agenda.touch(path);
    const isRotated = !this.isAtHome(state);
    if (state.phase === "finished") {
      this.changed(state, group.stat);
      return;
    }
    if (isRotated && state.phase !== "rotated") this.rotated(state, state.rotation ?? "renamed");
    else if (!isRotated) {
      const wasRotated = state.phase !== "live";
      state.phase = "live";
      state.rotation = undefined;
      state.tombstoneSinceMs = undefined;
      if (wasRotated) readers.revive(state);
    }
    if (this.#options.rotation.formatOf(path) === undefined) state.size = Math.max(state.offset, group.stat.size);
    state.changedAtMs = clock.monotonic();
    readers.read(state);
  }

  /** `path` no longer leads to `state`. */
  lose(state: FileState, path: BytePath): void {
    this.detachPath(state, path);
    if (state.paths.size > 0) return;
    state.location = undefined;
    this.#agenda.detached.add(state);
  }

  detachPath(state: FileState, path: BytePath): void {
    state.paths.delete(path);
    this.#options.fileRegistry.removePath(path);
    if (state.location === path && state.paths.size > 0) state.location = [...state.paths][0]!;
  }

  /** The file lies under a name that need not match; it is looked at there. */
  follow(state: FileState, sibling: SiblingFile): void {
    const { patterns } = this.#options;
    if (patterns.judge(sibling.path).kind === "included") {
      this.#agenda.groups.delete(sibling.id);
      this.adopt(state, sibling.path, { id: sibling.id, stat: sibling.stat, paths: [sibling.path], isLink: false });
      return;
    }
    this.forgetCopy(sibling.id);
    this.#options.fileRegistry.setId(state, sibling.id);
    state.fileSystem = sibling.id.slice(0, sibling.id.indexOf("\0"));
    state.inode = String(sibling.stat.inode);
    state.relocate(sibling.path);
    this.#options.fileRegistry.addName(state, sibling.path);
    this.lookAfter(state, sibling.path);
  }

  /** Has a path looked at that does not match; whoever was there before has moved on, and is looked for. */
  lookAfter(state: FileState, path: BytePath): void {
    this.unfollow(state);
    const before = this.#followed.get(path);
    if (before !== undefined && before !== state) {
      if (before.location === path && !this.#options.readers.holds(before)) before.location = undefined;
      this.#agenda.detached.add(before);
    }
    this.#followed.set(path, state);
    this.#options.watcher.follow(path);
  }

  unfollow(state: FileState): void {
    for (const [path, followed] of this.#followed) {
      if (followed !== state) continue;
      this.#followed.delete(path);
      this.#options.watcher.unfollow(path);
    }
  }

  rotated(state: FileState, kind: RotationKind): void {
    const { events, readers, clock } = this.#options;
    state.phase = "rotated";
    state.rotation = kind;
    state.changedAtMs = clock.monotonic();
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

  /** A tailer found the content before its offset changed: cut, replaced or rewritten. */
  truncated(state: FileState): void {
    this.tellTruncation(state);
    if (state.id !== undefined) this.#agenda.reborn(state.id);
    this.#agenda.touchAll(state);
    for (const path of [...state.paths]) {
      this.detachPath(state, path);
      this.#agenda.again.add(path);
    }
    this.#options.fileRegistry.setId(state, undefined);
    this.unfollow(state);
    state.location = undefined;
    this.#agenda.detached.add(state);
  }

  tellTruncation(state: FileState): void {
    const text = pathToText(state.path);
    state.rotation = "copy_truncated";
    const what = state.offset > 0 ? `what was read of it up to byte ${state.offset}` : "what was seen of it";
    this.#options.events.emit("file_truncated", `${text} no longer holds ${what}`, {
      file: text,
      offset: state.offset,
      size: state.size,
    });
  }

  /** At a path that no rotation has given it. */
  isAtHome(state: FileState): boolean {
    return [...state.paths].some((path) => !isRotatedName(path, state.names));
  }

  /** A known file changed: there may be more to read, or a tombstone grows again. */
  changed(state: FileState, stat: FileStat): void {
    const { readers } = this.#options;
    const isPlain = this.#options.rotation.formatOf(state.location ?? state.path) === undefined;
    if (state.phase === "finished") {
      if (isPlain ? stat.size !== state.size : hasArchiveChanged(state, stat)) this.#agenda.doubted.add(state);
      return;
    }
    if (isPlain && stat.size < leastSize(state) && !readers.holds(state)) {
      // No tailer will tell for now, and what it held may be in a copy.
      this.truncated(state);
      return;
    }
    // A tailer that has it open must see itself that it shrank.
    const least = readers.holds(state) ? state.size : state.offset;
    if (isPlain) state.size = Math.max(least, stat.size);
    readers.read(state);
  }

  /** The file is no copy, or its original's only home: what was stored of it as a copy goes. */
  forgetCopy(id: FileId): void {
    const copy = this.#options.fileRegistry.byId(id);
    if (copy === undefined || copy.copyOf === undefined) return;
    this.unfollow(copy);
    this.#options.fileRegistry.remove(copy);
    // Dying before this is durable leaves an entry that nothing refers to; the next start finds and drops it.
    this.#options.positions.save(new Map([[copy.key, undefined]])).catch(() => undefined);
  }

  /** Nothing else leads to its content. */
  isHomeless(state: FileState): boolean {
    return state.paths.size === 0 && state.location === undefined;
  }

  /** Its inode is not where it was last: content found elsewhere may be its own. */
  isGone(state: FileState): boolean {
    if (state.location === undefined) return state.paths.size === 0;
    const { stat } = lookAt(this.#options.fileSystem, state.location);
    return stat === undefined || this.#options.ids.idOf(stat) !== state.id;
  }
}

/** An archive that was read to its end is another one, or longer; of one that an older version read only its time tells. */
function hasArchiveChanged({ archive, lastSeenMs }: FileState, stat: FileStat): boolean {
  if (archive === undefined) return stat.modifiedMs > lastSeenMs;
  return stat.size !== archive.bytes || stat.modifiedMs !== archive.modifiedMs;
}
