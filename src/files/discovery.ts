import { toError } from "../errors.ts";
import { type BytePath, folderOf, pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { Random } from "../runtime/random.ts";
import type { SourcePositions } from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { formatOf } from "./archive.ts";
import { type Content, isEqualStretch } from "./content.ts";
import { familyOf } from "./family.ts";
import type { FileId, FileIds } from "./file-id.ts";
import { type FileRegistry, isRotatedName } from "./file-registry.ts";
import { EMPTY_MARK, FileState, type RotationKind } from "./file-state.ts";
import { FINGERPRINT_BYTES, GUARD_BYTES, marksMatch } from "./fingerprint.ts";
import type { PathPatterns } from "./glob.ts";
import type { Found, Rotation, SiblingFile } from "./rotation.ts";
import type { Sighting, Watcher } from "./watcher.ts";

export interface DiscoveryOptions {
  readonly source: string;
  readonly registry: FileRegistry;
  readonly rotation: Rotation;
  readonly watcher: Watcher;
  readonly patterns: PathPatterns;
  readonly ids: FileIds;
  readonly fileSystem: FileSystem;
  readonly positions: SourcePositions;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: EventSink;
  readonly log: Logger;
  readonly readFrom: "beginning" | "end";
  readonly archives: boolean;
  readonly rotateWaitMs: number;
  readonly scanIntervalMs: number;
  /** 0: off. */
  readonly ignoreOlderMs: number;
  readonly isOnce: boolean;
  readonly readers: Readers;
}

/** What discovery asks of whoever runs the tailers. */
export interface Readers {
  /** A tailer holds the file open: its content is reachable whatever happens to its names. */
  holds(state: FileState): boolean;
  /** There may be something to read. */
  read(state: FileState): void;
  /** The file is rotated: read to its end, and on until it is quiet. */
  rotate(state: FileState): void;
  /** The file is live again. */
  revive(state: FileState): void;
  /** Ends the tailer of this file, if there is one, and waits for that. */
  stop(state: FileState): Promise<void>;
  /** Tell when everything that is there now has been sent. */
  markEnd(state: FileState): void;
}

/** Paths that lead to one file which is not known yet. */
interface Group {
  readonly id: FileId;
  readonly stat: FileStat;
  readonly paths: BytePath[];
  isLink: boolean;
}

type Comparison = "match" | "mismatch" | "shorter";

/**
 * Which file is this? One pass at a time turns what the watcher saw into files, in five steps:
 *
 *     sightings -> sort      known path, same inode: read on. Path gone, or another inode: its file is *detached*
 *               -> attach    an inode that is known: the same file under a new name (proved by content)
 *               -> settle    a file without a path: held open, renamed, copied, archived, or missing
 *               -> identify  an unknown inode: the content of a known file, a copy, or a new file
 *               -> line up   a new file waits for the one before it; generations never seen are read in between
 *
 * The same steps run after a downtime: what is stored then stands for what was seen.
 * Wherever the evidence is ambiguous bytes are repeated, never skipped, and an event says so.
 */
export class Discovery {
  readonly #options: DiscoveryOptions;
  readonly #registry: FileRegistry;
  /** Paths to be looked into again: a tailer found something else there. */
  readonly #again = new Set<BytePath>();
  /** Files without a path that matches, to be settled in the next pass. */
  readonly #detached = new Set<FileState>();
  /** Files whose content was not found, and since when (monotonic). */
  readonly #missingSince = new Map<FileState, number>();
  /** Whole archives by path, with the stat at which that was found. */
  readonly #whole = new Map<BytePath, string>();
  /** Rotated names that match nothing, and whose file is still looked at. */
  readonly #followed = new Map<BytePath, FileState>();
  #isFirstPass = true;
  #idsForgottenMs: number;
  #lastSearchMs = Number.NEGATIVE_INFINITY;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#idsForgottenMs = options.clock.monotonic();
  }

  /** True while something is still to be found out that another pass may settle. */
  get isUnsettled(): boolean {
    if (this.#again.size > 0 || this.#detached.size > 0 || this.#missingSince.size > 0) return true;
    for (const use of this.#registry.paths.values()) if (use.kind === "waiting") return true;
    return false;
  }

  /** Takes up what the store says. */
  load(): void {
    const { positions, source, patterns } = this.#options;
    const states = [...positions.files()].map(
      ([key, entry]) => new FileState(source, key, entry, positions.startOf(key), true),
    );
    // Of several that claim a path or an inode the latest wins, and an unfinished one over a tombstone.
    states.sort(
      (a, b) => Number(b.phase === "finished") - Number(a.phase === "finished") || a.lastSeenMs - b.lastSeenMs,
    );
    for (const state of states) {
      this.#registry.add(state);
      if (state.id !== undefined) this.#registry.setId(state, state.id);
    }
    const byAge = [...states].sort((a, b) => a.lastSeenMs - b.lastSeenMs || a.generation - b.generation);
    for (const state of byAge) for (const name of state.names) this.#registry.setOwner(name, state);
    // The newest name is the surest: who was last seen there is its owner, whoever had it before.
    for (const state of byAge) this.#registry.setOwner(state.names[state.names.length - 1]!, state);
    for (const state of states) {
      const isWanted = state.names.some((name) => patterns.judge(name).kind === "included");
      if (isWanted) this.#detached.add(state);
    }
  }

  /** A tailer found the content before its offset changed: cut, replaced or rewritten. */
  truncated(state: FileState): void {
    const { events } = this.#options;
    const text = pathToText(state.path);
    state.rotation = "copy_truncated";
    events.emit("file_truncated", `${text} no longer holds what was read of it up to byte ${state.offset}`, {
      file: text,
      offset: state.offset,
      size: state.size,
    });
    for (const path of [...state.paths]) {
      this.#detachPath(state, path);
      this.#again.add(path);
    }
    this.#lookAgainAt(state);
    this.#registry.setId(state, undefined);
    this.#unfollow(state);
    state.location = undefined;
    this.#detached.add(state);
  }

  /** Something else lies where the file was expected, or nothing. */
  moved(state: FileState): void {
    for (const path of state.paths) this.#again.add(path);
    if (state.paths.size === 0) {
      this.#unfollow(state);
      state.location = undefined;
      this.#detached.add(state);
    }
  }

  /** One pass. Never rejects. */
  async pass(): Promise<void> {
    const { watcher, clock, ids, log, scanIntervalMs } = this.#options;
    try {
      if (clock.monotonic() - this.#idsForgottenMs > 60_000) {
        // Device numbers of what was unmounted are given to what is mounted next.
        ids.forget();
        this.#idsForgottenMs = clock.monotonic();
      }
      // What was not to be told last time is tried again at the pace of the scan, not at that of notifications.
      const isSearch = clock.monotonic() - this.#lastSearchMs >= scanIntervalMs;
      if (isSearch) this.#lastSearchMs = clock.monotonic();
      const sightings = await watcher.look();
      // Before anything is read: a copy that appeared may be the only sign of a truncation.
      await this.#considerSiblings([...sightings.map((sighting) => sighting.path), ...watcher.takeUnmatched()]);
      const groups = new Map<FileId, Group>();
      for (const path of [...this.#again]) {
        this.#again.delete(path);
        sightings.push(this.#lookAt(path));
      }
      for (const sighting of sightings) this.#sort(sighting, groups);
      if (isSearch) this.#reconsiderWaiting(groups);
      for (const group of [...groups.values()]) await this.#attach(group, groups);
      if (isSearch) for (const state of this.#missingSince.keys()) this.#detached.add(state);
      await this.#settleDetached(groups);
      const found: FileState[] = [];
      for (const group of inOrder(groups.values())) {
        const state = await this.#identify(group);
        if (state !== undefined) found.push(state);
      }
      this.#isFirstPass = false;
      for (const state of found) this.#options.readers.read(state);
    } catch (error) {
      // A pass is a look at the world; the next one looks again.
      log.error({ error: toError(error).stack }, "a discovery pass failed; the next one tries again");
    }
  }

  // ------------------------------------------------------------ sort

  #lookAt(path: BytePath): Sighting {
    try {
      const stat = this.#options.fileSystem.statSync(path);
      return { path, isLink: false, stat: stat?.kind === "file" ? stat : undefined, error: undefined };
    } catch (error) {
      return { path, isLink: false, stat: undefined, error: toError(error) };
    }
  }

  #sort(sighting: Sighting, groups: Map<FileId, Group>): void {
    const { ids } = this.#options;
    const { path, stat, error } = sighting;
    const followed = this.#followed.get(path);
    if (followed !== undefined) {
      this.#sortFollowed(followed, stat);
      return;
    }
    const use = this.#registry.paths.get(path);
    // Looked at for the sake of a file that is no longer there.
    if (use === undefined && this.#options.patterns.judge(path).kind !== "included") return;
    if (error !== undefined) {
      this.#unreadable(path, error);
      return;
    }
    if (stat === undefined) {
      if (use?.kind === "file") this.#lose(use.state, path);
      this.#registry.removePath(path);
      return;
    }
    const id = ids.idOf(stat);
    if (use?.kind === "file" && use.id === id) {
      const hasChanged = use.stat.size !== stat.size || use.stat.modifiedMs !== stat.modifiedMs;
      use.stat = stat;
      if (hasChanged || use.state.phase !== "finished") this.#changed(use.state, stat);
      return;
    }
    if (use?.kind === "unreadable") this.#readable(path);
    if (use?.kind === "file") this.#lose(use.state, path);
    const group = groups.get(id);
    if (group !== undefined) group.paths.push(path);
    else groups.set(id, { id, stat, paths: [path], isLink: sighting.isLink });
    if (use !== undefined && use.kind !== "file") this.#registry.removePath(path);
    if (sighting.isLink) groups.get(id)!.isLink = true;
  }

  /** A known file changed: there may be more to read, or a tombstone grows again. */
  #changed(state: FileState, stat: FileStat): void {
    const { readers } = this.#options;
    if (state.phase === "finished") {
      const isArchive = state.location !== undefined && this.#formatOf(state.location) !== undefined;
      if (isArchive || stat.size === state.size) return;
      state.phase = "rotated";
      state.isCaughtUp = true;
    }
    if (this.#formatOf(state.location ?? state.path) === undefined) state.size = Math.max(state.offset, stat.size);
    readers.read(state);
  }

  #sortFollowed(state: FileState, stat: FileStat | undefined): void {
    const { ids, readers } = this.#options;
    if (stat !== undefined && ids.idOf(stat) === state.id) {
      if (state.phase !== "finished") readers.read(state);
      else this.#changed(state, stat);
      return;
    }
    this.#unfollow(state);
    if (!readers.holds(state)) state.location = undefined;
    this.#detached.add(state);
  }

  #unreadable(path: BytePath, error: Error): void {
    const use = this.#registry.paths.get(path);
    if (use?.kind === "unreadable") return;
    const text = pathToText(path);
    this.#options.events.emit(
      "file_unreadable",
      `${text} cannot be looked at (${error.message}); its position is kept`,
      {
        file: text,
        error: error.message,
      },
    );
    // A file that is known stays: its tailer tries again by itself.
    if (use === undefined || use.kind !== "file") this.#registry.setPath(path, { kind: "unreadable", error });
  }

  #readable(path: BytePath): void {
    const text = pathToText(path);
    this.#options.events.emit("file_readable", `${text} can be read again`, { file: text });
  }

  #detachPath(state: FileState, path: BytePath): void {
    state.paths.delete(path);
    this.#registry.removePath(path);
    if (state.location === path && state.paths.size > 0) state.location = [...state.paths][0]!;
  }

  /** `path` no longer leads to `state`. */
  #lose(state: FileState, path: BytePath): void {
    this.#detachPath(state, path);
    if (state.paths.size > 0) return;
    state.location = undefined;
    this.#detached.add(state);
  }

  /** What could not be told before, and whether it can be now. */
  #reconsiderWaiting(groups: Map<FileId, Group>): void {
    for (const [path, use] of [...this.#registry.paths]) {
      if (use.kind !== "waiting" && use.kind !== "unreadable") continue;
      const sighting = this.#lookAt(path);
      if (sighting.error !== undefined) continue;
      if (use.kind === "unreadable") this.#readable(path);
      if (sighting.stat === undefined) {
        this.#registry.removePath(path);
        continue;
      }
      const id = this.#options.ids.idOf(sighting.stat);
      const group = groups.get(id);
      if (group === undefined) groups.set(id, { id, stat: sighting.stat, paths: [path], isLink: false });
      else if (!group.paths.includes(path)) group.paths.push(path);
    }
  }

  // ------------------------------------------------------------ attach

  /** If the inode is known and the content is right, its paths are names of that file. */
  async #attach(group: Group, groups: Map<FileId, Group>): Promise<void> {
    const { readers } = this.#options;
    const state = this.#registry.byId(group.id);
    if (state === undefined) return;
    if (!readers.holds(state) && !(await this.#isStill(state, group))) {
      // The inode number was given to another file, or the file was rewritten.
      this.#registry.setId(state, undefined);
      this.#unfollow(state);
      state.location = undefined;
      if (state.phase !== "finished") {
        state.rotation ??= state.names.some((name) => group.paths.includes(name)) ? "copy_truncated" : undefined;
        this.#detached.add(state);
      }
      return;
    }
    groups.delete(group.id);
    for (const path of group.paths) this.#adopt(state, path, group);
  }

  async #isStill(state: FileState, group: Group): Promise<boolean> {
    const path = group.paths[0]!;
    if (state.fingerprint.length === 0) return group.stat.size >= state.offset;
    const isPlain = this.#formatOf(path) === undefined;
    if (isPlain && group.stat.size < state.offset) return false;
    if (isPlain && state.names.includes(path)) {
      // A tailer that opens it proves the content before anything else.
      if (state.phase !== "finished") return true;
      // A tombstone that nobody touched since: not worth a look inside.
      if (group.stat.size === state.size && group.stat.modifiedMs < state.lastSeenMs - 2000) return true;
    }
    return (await this.#compare(path, state)) === "match";
  }

  /** `path` leads to `state` from now on. */
  #adopt(state: FileState, path: BytePath, group: Group): void {
    const { readers, clock } = this.#options;
    this.#unfollow(state);
    this.#detached.delete(state);
    this.#missingSince.delete(state);
    this.#registry.setId(state, group.id);
    this.#registry.setPath(path, { kind: "file", id: group.id, stat: group.stat, state });
    state.fileSystem = group.id.slice(0, group.id.indexOf("\0"));
    state.inode = String(group.stat.inode);
    state.birthNs = String(group.stat.birthNs);
    state.paths.add(path);
    state.location = path;
    this.#registry.addName(state, path);
    if (state.phase !== "finished" || this.#registry.ownerOf(path) === undefined) this.#registry.setOwner(path, state);
    const isRotated = [...state.paths].every((name) => isRotatedName(name, state.names));
    if (state.phase === "finished") {
      this.#changed(state, group.stat);
      return;
    }
    if (isRotated && state.phase !== "rotated") this.#rotated(state, state.rotation ?? "renamed");
    else if (!isRotated) {
      const wasRotated = state.phase !== "live";
      state.phase = "live";
      state.rotation = undefined;
      state.tombstoneSinceMs = undefined;
      if (wasRotated) readers.revive(state);
    }
    if (this.#formatOf(path) === undefined) state.size = Math.max(state.offset, group.stat.size);
    state.changedAtMs = clock.monotonic();
    readers.read(state);
  }

  // ------------------------------------------------------------ settle

  /** Files that have no path which matches: where is their content now? */
  async #settleDetached(groups: Map<FileId, Group>): Promise<void> {
    for (const state of [...this.#detached]) {
      this.#detached.delete(state);
      if (state.paths.size > 0) {
        this.#missingSince.delete(state);
        continue;
      }
      await this.#settle(state, groups);
    }
  }

  async #settle(state: FileState, groups: Map<FileId, Group>): Promise<void> {
    const { rotation, readers } = this.#options;
    if (this.#takeCopy(state)) return;
    if (this.#isFirstPass && state.phase === "finished" && !this.#isOwner(state)) {
      this.#followTombstone(state, groups);
      return;
    }
    const found = await rotation.find(state, (sibling) => this.#isOther(sibling, state));
    if (readers.holds(state)) {
      // Its descriptor reaches the content; the name is only for later.
      const isRenamed = found !== undefined && found !== "unknown" && found.sibling.id === state.id;
      if (isRenamed) this.#follow(state, found.sibling, groups);
      if (state.phase === "live" || state.phase === "missing") {
        this.#rotated(state, isRenamed ? "renamed" : "deleted");
      }
      if (isRenamed) await this.#lineUp(state, found, groups);
      return;
    }
    if (found === "unknown") {
      this.#miss(state, false);
      return;
    }
    if (found !== undefined) {
      this.#missingSince.delete(state);
      const hasGrown = this.#formatOf(found.sibling.path) === undefined && found.sibling.stat.size !== state.size;
      this.#follow(state, found.sibling, groups);
      if (state.phase !== "finished") this.#rotated(state, state.rotation ?? "renamed");
      else if (hasGrown) this.#changed(state, found.sibling.stat);
      await this.#lineUp(state, found, groups);
      readers.read(state);
      return;
    }
    state.location = undefined;
    if (state.phase === "finished") {
      this.#registry.setId(state, undefined);
      return;
    }
    this.#miss(state, true);
  }

  /** True if no younger file was seen at one of its paths. */
  #isOwner(state: FileState): boolean {
    return state.names.some((name) => familyOf(name).base === name && this.#registry.ownerOf(name) === state);
  }

  /** At the start there may be thousands of tombstones: each is looked for under its last name only. */
  #followTombstone(state: FileState, groups: Map<FileId, Group>): void {
    const { ids } = this.#options;
    const path = state.names[state.names.length - 1]!;
    const { stat } = this.#lookAt(path);
    if (stat === undefined || ids.idOf(stat) !== state.id) {
      this.#registry.setId(state, undefined);
      return;
    }
    const format = this.#formatOf(path);
    this.#follow(state, { path, stat, id: state.id, format, hasPlainTwin: false }, groups);
    this.#changed(state, stat);
  }

  /** A copy that was set aside now is the only one. */
  #takeCopy(state: FileState): boolean {
    if (this.#options.readers.holds(state)) return false;
    for (const path of this.#registry.copiesOf(state)) {
      const use = this.#registry.paths.get(path);
      if (use?.kind !== "copy") continue;
      const isPlain = this.#formatOf(path) === undefined;
      if (isPlain && use.stat.size < state.offset) continue;
      this.#adopt(state, path, { id: use.id, stat: use.stat, paths: [path], isLink: false });
      return true;
    }
    return false;
  }

  /** A sibling that is surely another file: the home of one that is known and was not set aside as a copy. */
  #isOther(sibling: SiblingFile, state: FileState): boolean {
    const known = this.#registry.byId(sibling.id);
    if (known === undefined || known === state) return false;
    return known.paths.size > 0 || this.#options.readers.holds(known) || known.location === sibling.path;
  }

  /** The file lies under a name that need not match; it is looked at there. */
  #follow(state: FileState, sibling: SiblingFile, groups: Map<FileId, Group>): void {
    const { patterns } = this.#options;
    if (patterns.judge(sibling.path).kind === "included") {
      groups.delete(sibling.id);
      this.#adopt(state, sibling.path, { id: sibling.id, stat: sibling.stat, paths: [sibling.path], isLink: false });
      return;
    }
    this.#registry.setId(state, sibling.id);
    state.fileSystem = sibling.id.slice(0, sibling.id.indexOf("\0"));
    state.inode = String(sibling.stat.inode);
    state.birthNs = String(sibling.stat.birthNs);
    state.location = sibling.path;
    this.#registry.addName(state, sibling.path);
    this.#lookAfter(state, sibling.path);
  }

  /** Has a path looked at that does not match; whoever was there before has moved on, and is looked for. */
  #lookAfter(state: FileState, path: BytePath): void {
    this.#unfollow(state);
    const before = this.#followed.get(path);
    if (before !== undefined && before !== state) {
      if (before.location === path && !this.#options.readers.holds(before)) before.location = undefined;
      this.#detached.add(before);
    }
    this.#followed.set(path, state);
    this.#options.watcher.follow(path);
  }

  #unfollow(state: FileState): void {
    for (const [path, followed] of this.#followed) {
      if (followed !== state) continue;
      this.#followed.delete(path);
      this.#options.watcher.unfollow(path);
    }
  }

  #rotated(state: FileState, kind: RotationKind): void {
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

  /** Not to be found. Renames and compression take their moment, so it is searched for a while. */
  #miss(state: FileState, canTell: boolean): void {
    const { clock, rotateWaitMs, isOnce, events, fileSystem, ids } = this.#options;
    const nowMs = clock.monotonic();
    const isFirst = !this.#missingSince.has(state);
    const sinceMs = this.#missingSince.get(state) ?? nowMs;
    this.#missingSince.set(state, sinceMs);
    state.phase = "missing";
    // Nothing is known to be unread: what comes next at its path need not wait for it.
    state.isCaughtUp ||= state.size <= state.offset;
    const folder = folderOf(state.names[state.names.length - 1]!);
    let isHomeThere = false;
    try {
      const stat = fileSystem.statSync(folder);
      isHomeThere = stat?.kind === "folder" && ids.fileSystemOf(stat) === state.fileSystem;
    } catch {
      // Cannot be told; kept.
    }
    const text = pathToText(state.path);
    if (!canTell || !isHomeThere) {
      if (isFirst) {
        const reason = canTell ? "its folder or mount is gone" : "its folder cannot be read";
        events.emit("file_unreadable", `${text} is not there (${reason}); its position ${state.offset} is kept`, {
          file: text,
          offset: state.offset,
        });
      }
      state.isCaughtUp = true;
      if (isOnce) this.#missingSince.delete(state);
      return;
    }
    if (nowMs - sinceMs < rotateWaitMs && !(isOnce && !isFirst)) return;
    this.#giveUp(state);
  }

  /** The content has no name any more, and nobody holds it open. */
  #giveUp(state: FileState): void {
    const { clock, events, positions } = this.#options;
    this.#missingSince.delete(state);
    const text = pathToText(state.path);
    const lostBytes = state.size - state.offset;
    const isReplaced = state.paths.size === 0 && this.#hasSuccessor(state);
    if (lostBytes > 0 || (isReplaced && state.rotation === undefined)) {
      const what = lostBytes > 0 ? `${lostBytes} bytes` : "whatever was written after the last look";
      events.emit("gap", `${text} is gone, and with it ${what} from byte ${state.offset} on`, {
        file: text,
        offset: state.offset,
        ...(lostBytes > 0 ? { bytes: lostBytes } : {}),
      });
    }
    state.size = state.offset;
    state.readEnd = state.offset;
    state.phase = "finished";
    state.isCaughtUp = true;
    state.tombstoneSinceMs ??= clock.now();
    this.#registry.setId(state, undefined);
    if (state.isSaved) positions.saveLazily(new Map([[state.key, state.toEntry()]]));
  }

  #hasSuccessor(state: FileState): boolean {
    const owner = this.#registry.ownerOf(state.path);
    return owner !== undefined && owner !== state;
  }

  // ------------------------------------------------------------ identify

  /** What an unknown inode is; the state if there is something new to read. */
  async #identify(group: Group): Promise<FileState | undefined> {
    const path = preferredPath(group.paths);
    const { clock, readers } = this.#options;
    try {
      if (!(await this.#isReadyArchive(path, group))) return undefined;
      const verdict = await this.#recognise(path, group);
      if (verdict.kind === "file") {
        for (const each of group.paths) this.#adopt(verdict.state, each, group);
        readers.read(verdict.state);
        return undefined;
      }
      if (verdict.kind === "copy") {
        for (const each of group.paths) {
          this.#registry.setPath(each, {
            kind: "copy",
            id: group.id,
            stat: group.stat,
            of: verdict.of,
            common: verdict.common,
            sinceMs: clock.monotonic(),
          });
        }
        return undefined;
      }
      if (verdict.kind === "waiting") {
        this.#wait(group, verdict.reason);
        return undefined;
      }
    } catch (error) {
      for (const each of group.paths) this.#unreadable(each, toError(error));
      return undefined;
    }
    return this.#found(path, group);
  }

  #wait(group: Group, reason: string): void {
    const { clock } = this.#options;
    for (const path of group.paths) {
      const before = this.#registry.paths.get(path);
      const isSame =
        before?.kind === "waiting" &&
        before.id === group.id &&
        before.stat.size === group.stat.size &&
        before.reason === reason;
      this.#registry.setPath(path, {
        kind: "waiting",
        id: group.id,
        stat: group.stat,
        reason,
        sinceMs: isSame ? before.sinceMs : clock.monotonic(),
      });
    }
  }

  /** How long a waiting group has not changed, milliseconds. */
  #quietMs(path: BytePath, group: Group): number {
    const before = this.#registry.paths.get(path);
    if (before?.kind !== "waiting" || before.id !== group.id || before.stat.size !== group.stat.size) return 0;
    return this.#options.clock.monotonic() - before.sinceMs;
  }

  /** An archive counts when it is whole, or when what it is made of is gone and nobody writes it any more. */
  async #isReadyArchive(path: BytePath, group: Group): Promise<boolean> {
    const { rotation, rotateWaitMs, isOnce } = this.#options;
    if (this.#formatOf(path) === undefined) return true;
    const version = `${group.id}:${group.stat.size}:${group.stat.modifiedMs}`;
    if (this.#whole.get(path) === version) return true;
    if (await rotation.isWhole(path)) {
      this.#whole.set(path, version);
      return true;
    }
    const twin = path.slice(0, path.lastIndexOf(".")) as BytePath;
    const hasTwin = this.#options.fileSystem.statSync(twin) !== undefined;
    if (!hasTwin && (isOnce || this.#quietMs(path, group) >= rotateWaitMs)) return true;
    this.#wait(group, "the archive is not complete");
    return false;
  }

  async #recognise(
    path: BytePath,
    group: Group,
  ): Promise<
    | { kind: "file"; state: FileState }
    | { kind: "copy"; of: FileState; common: number }
    | { kind: "waiting"; reason: string }
    | { kind: "new" }
  > {
    const { rotateWaitMs, isOnce, events } = this.#options;
    const candidates = this.#candidates(path);
    if (candidates.length === 0) return { kind: "new" };
    const isPlain = this.#formatOf(path) === undefined;
    let isShorterThan: FileState | undefined;
    const content = await this.#options.rotation.open(path);
    try {
      for (const state of candidates) {
        const comparison = await this.#compareContent(content, group.stat.size, isPlain, state);
        if (comparison === "match") {
          if (this.#isHomeless(state) && !this.#options.readers.holds(state)) return { kind: "file", state };
          const common = await this.#commonLength(content, isPlain ? group.stat.size : undefined, state);
          return { kind: "copy", of: state, common };
        }
        if (comparison === "shorter" && isRotatedName(path, state.names)) {
          const isPrefix = isPlain ? await this.#isPrefix(content, group.stat.size, state) : undefined;
          if (isPrefix === true) return { kind: "copy", of: state, common: group.stat.size };
          if (isPrefix === undefined) isShorterThan = state;
        }
      }
    } finally {
      await content.close().catch(() => undefined);
    }
    if (isShorterThan === undefined || group.stat.size === 0) return { kind: "new" };
    if (!isOnce && this.#quietMs(path, group) < rotateWaitMs) {
      return { kind: "waiting", reason: `it may become a copy of ${pathToText(isShorterThan.path)}` };
    }
    const text = pathToText(path);
    events.emit("repeat", `${text} may be a part of what was read as ${pathToText(isShorterThan.path)}; it is read`, {
      file: text,
      bytes: group.stat.size,
    });
    return { kind: "new" };
  }

  /**
   * Files whose content this path may hold, those that look for their content first:
   * - at a path itself: what was there and is nowhere else (restored, or saved by an editor). What was rotated away and
   *   still exists is another file, however equal the first bytes are.
   * - at a rotated name: what is live at the path it was rotated from (a copy before the truncation), what is nowhere
   *   else, and for an archive what had its name without the compression
   */
  #candidates(path: BytePath): FileState[] {
    const { base } = familyOf(path);
    const twin = this.#formatOf(path) === undefined ? undefined : path.slice(0, path.lastIndexOf("."));
    const family = [...this.#registry.family(path)].filter((state) => {
      if (state.fingerprint.length === 0 || !isOfFamily(path, state)) return false;
      if (base === path)
        return this.#isHomeless(state) && !this.#options.readers.holds(state) && state.phase !== "finished";
      return this.#isHomeless(state) || state.paths.has(base) || state.names.some((name) => name === twin);
    });
    const urgency = (state: FileState) => (this.#isHomeless(state) && state.phase !== "finished" ? 1 : 0);
    return family.sort(
      (a, b) => urgency(b) - urgency(a) || b.identity.guardEnd - a.identity.guardEnd || b.lastSeenMs - a.lastSeenMs,
    );
  }

  /** Nothing else leads to its content. */
  #isHomeless(state: FileState): boolean {
    return state.paths.size === 0 && state.location === undefined;
  }

  async #compare(path: BytePath, state: FileState): Promise<Comparison | "unreadable"> {
    let content: Content | undefined;
    try {
      content = await this.#options.rotation.open(path);
      const { size } = await content.stat();
      return await this.#compareContent(content, size, this.#formatOf(path) === undefined, state);
    } catch {
      return "unreadable";
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  async #compareContent(content: Content, size: number, isPlain: boolean, state: FileState): Promise<Comparison> {
    if (state.fingerprint.length === 0) return "mismatch";
    const result = await marksMatch(content, state.identity);
    if (result !== "match" || state.offset === 0) return result;
    // The stored guard may end before the offset: content that ends before it cannot be read on.
    if (isPlain) return size >= state.offset ? "match" : "shorter";
    return (await content.read(Buffer.alloc(1), 0, 1, state.offset - 1)) === 1 ? "match" : "shorter";
  }

  /** How many bytes a copy surely has in common with its original. */
  async #commonLength(content: Content, size: number | undefined, state: FileState): Promise<number> {
    if (state.location === undefined || size === undefined) return state.offset;
    let original: Content | undefined;
    try {
      original = await this.#options.rotation.open(state.location);
      const end = Math.min(size, (await original.stat()).size);
      if (end < state.offset) return state.offset;
      return (await isEqualStretch(content, original, Math.max(0, end - GUARD_BYTES), end)) ? end : state.offset;
    } catch {
      return state.offset;
    } finally {
      await original?.close().catch(() => undefined);
    }
  }

  /** Whether content that is shorter than what was read is the beginning of it; undefined: cannot be told. */
  async #isPrefix(content: Content, size: number, state: FileState): Promise<boolean | undefined> {
    if (size === 0) return undefined;
    if (state.location !== undefined && this.#formatOf(state.location) === undefined) {
      let original: Content | undefined;
      try {
        original = await this.#options.rotation.open(state.location);
        if ((await marksMatch(original, state.identity)) === "match") {
          const isSameStart = await isEqualStretch(content, original, 0, Math.min(size, FINGERPRINT_BYTES));
          return isSameStart && (await isEqualStretch(content, original, Math.max(0, size - GUARD_BYTES), size));
        }
      } catch {
        // Gone meanwhile.
      } finally {
        await original?.close().catch(() => undefined);
      }
    }
    const marks = state.identityWithin(size);
    if (marks === undefined || size < marks.fingerprint.length) return undefined;
    return (await marksMatch(content, marks)) === "match";
  }

  // ------------------------------------------------------------ new files

  /** A file that nobody has seen before. */
  async #found(path: BytePath, group: Group): Promise<FileState | undefined> {
    const { clock, ignoreOlderMs, readFrom } = this.#options;
    const before = this.#registry.ownerOf(path);
    const isSuccessor = before !== undefined;
    const ageMs = clock.now() - group.stat.modifiedMs;
    if (!isSuccessor && ignoreOlderMs > 0 && ageMs > ignoreOlderMs) {
      const reason = `it was last modified ${Math.round(ageMs / 1000)} s ago, and ignore_older_ms is ${ignoreOlderMs}`;
      for (const each of group.paths) {
        this.#registry.setPath(each, { kind: "ignored", id: group.id, stat: group.stat, reason });
      }
      return undefined;
    }
    const names = [...group.paths];
    if (group.isLink) names.push(...(await this.#realNames(group.paths)));
    const isTruncation = before !== undefined && before.rotation === "copy_truncated";
    const state = this.#newState(names, group, isTruncation ? before.generation + 1 : 0);
    const isLate = !this.#isFirstPass || isSuccessor || this.#formatOf(path) !== undefined;
    if (readFrom === "end" && !isLate) state.startAt = group.stat.size;
    for (const each of group.paths) {
      this.#registry.setPath(each, { kind: "file", id: group.id, stat: group.stat, state });
      state.paths.add(each);
    }
    state.location = path;
    for (const name of names) this.#registry.setOwner(name, state);
    if (before !== undefined) await this.#lineUpBehind(before, path, state);
    this.#announce(state);
    return state;
  }

  #newState(names: readonly BytePath[], file: { id: FileId; stat: FileStat }, generation: number): FileState {
    const { source, random, clock } = this.#options;
    const fileSystem = file.id.slice(0, file.id.indexOf("\0"));
    const state = new FileState(
      source,
      random.hex(16),
      {
        generation,
        fileSystem,
        inode: String(file.stat.inode),
        birthNs: String(file.stat.birthNs),
        fingerprint: EMPTY_MARK,
        guard: EMPTY_MARK,
        guardEnd: 0,
        names: [...new Set(names)],
        lastSize: 0,
        lastSeenMs: clock.now(),
        boundaries: [],
      },
      0,
      false,
    );
    state.changedAtMs = clock.monotonic();
    if (this.#formatOf(names[names.length - 1]!) === undefined) state.size = file.stat.size;
    this.#registry.add(state);
    this.#registry.setId(state, file.id);
    return state;
  }

  #announce(state: FileState): void {
    const text = pathToText(state.path);
    this.#options.events.emit("file_opened", `${text} is read from byte ${state.startAt ?? state.offset} on`, {
      file: text,
      offset: state.startAt ?? state.offset,
      generation: state.generation,
    });
  }

  async #realNames(paths: readonly BytePath[]): Promise<BytePath[]> {
    const real: BytePath[] = [];
    for (const path of paths) {
      try {
        real.push(await this.#options.fileSystem.realpath(path));
      } catch {
        // Gone meanwhile.
      }
    }
    return real.filter((path) => !paths.includes(path));
  }

  // ------------------------------------------------------------ line up

  /** A new file at `path` waits for the one before it, and for generations in between that were never seen. */
  async #lineUpBehind(before: FileState, path: BytePath, state: FileState): Promise<void> {
    const { rotation, readers } = this.#options;
    state.predecessor = before;
    readers.markEnd(before);
    const siblings = await rotation.siblings(familyOf(path).base === path ? path : familyOf(path).base);
    if (siblings === undefined) return;
    const rank = siblings.findIndex((sibling) => before.id !== undefined && sibling.id === before.id);
    const missed = await this.#missed(before, path, siblings, rank, state);
    let last = before;
    for (const each of missed) {
      each.predecessor = last;
      readers.markEnd(each);
      last = each;
      readers.read(each);
    }
    state.predecessor = last;
  }

  /** A file lost its path: generations that came and went since are read behind it, and before what is there now. */
  async #lineUp(state: FileState, found: Found, groups: Map<FileId, Group>): Promise<void> {
    const { readers } = this.#options;
    const home = state.names.find((name) => familyOf(found.sibling.path).base === name);
    // A new file at the path lines up by itself.
    if (home === undefined || this.#registry.ownerOf(home) !== state) return;
    if ([...groups.values()].some((group) => group.paths.includes(home))) return;
    let last = state;
    for (const each of await this.#missed(state, home, found.siblings, found.rank, undefined)) {
      each.predecessor = last;
      readers.markEnd(last);
      last = each;
      this.#registry.setOwner(home, each);
      readers.read(each);
    }
  }

  /**
   * Generations of `path` between `before` and now that nobody has seen: younger siblings than the one that holds
   * `before`, or, where that is not to be found, those modified since it was last seen. Oldest first.
   */
  async #missed(
    before: FileState,
    path: BytePath,
    siblings: readonly SiblingFile[],
    rank: number,
    current: FileState | undefined,
  ): Promise<FileState[]> {
    const { patterns, readers } = this.#options;
    const missed: FileState[] = [];
    for (const [index, sibling] of siblings.entries()) {
      if (index <= rank) continue;
      if (rank < 0 && sibling.stat.modifiedMs <= before.lastSeenMs) continue;
      const known = this.#registry.byId(sibling.id);
      if (known !== undefined) {
        // One that was found in this very pass stands in the same line.
        const isNew = known !== before && known !== current && known.predecessor === undefined && !known.isSaved;
        if (isNew && known.offset === 0) missed.push(known);
        continue;
      }
      if (this.#registry.useOfId(sibling.id) !== undefined) continue;
      // What matches is found by itself.
      if (patterns.judge(sibling.path).kind === "included") continue;
      if (await this.#isKnownContent(sibling, current)) continue;
      const state = this.#newState([path, sibling.path], sibling, 0);
      state.phase = "rotated";
      state.rotation = "renamed";
      state.location = sibling.path;
      this.#lookAfter(state, sibling.path);
      readers.rotate(state);
      this.#announce(state);
      missed.push(state);
    }
    return missed;
  }

  /** True if a file that is known gives (or gave) what is in this sibling. */
  async #isKnownContent(sibling: SiblingFile, current: FileState | undefined): Promise<boolean> {
    let content: Content | undefined;
    try {
      content = await this.#options.rotation.open(sibling.path);
      if (sibling.hasPlainTwin) return true;
      for (const state of this.#candidates(sibling.path)) {
        if (state === current) continue;
        const isPlain = sibling.format === undefined;
        const comparison = await this.#compareContent(content, sibling.stat.size, isPlain, state);
        if (comparison === "match") return true;
        if (comparison === "shorter" && isPlain && (await this.#isPrefix(content, sibling.stat.size, state)))
          return true;
      }
      return current !== undefined && (await this.#isCopyOfNew(content, sibling, current));
    } catch {
      return false;
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  /** A sibling that is the beginning of a file not read yet: copied, not yet truncated. */
  async #isCopyOfNew(content: Content, sibling: SiblingFile, state: FileState): Promise<boolean> {
    const size = sibling.stat.size;
    if (state.location === undefined || sibling.format !== undefined || size === 0) return false;
    const original = await this.#options.rotation.open(state.location);
    try {
      if ((await original.stat()).size < size) return false;
      const isSameStart = await isEqualStretch(content, original, 0, Math.min(size, FINGERPRINT_BYTES));
      return isSameStart && (await isEqualStretch(content, original, Math.max(0, size - GUARD_BYTES), size));
    } finally {
      await original.close().catch(() => undefined);
    }
  }

  // ------------------------------------------------------------ siblings that appear

  /**
   * A sibling appeared beside a live file: perhaps a copy made to truncate it. If the file no longer continues what is in
   * the copy, it was truncated and refilled, and equal bytes around the offset would hide that.
   */
  async #considerSiblings(paths: readonly BytePath[]): Promise<void> {
    for (const path of paths) {
      const { base } = familyOf(path);
      if (base === path || this.#registry.paths.has(path) || this.#formatOf(path) !== undefined) continue;
      const state = this.#registry.ownerOf(base);
      if (state === undefined || state.phase !== "live" || state.fingerprint.length === 0) continue;
      if (await this.#showsTruncation(path, base, state)) {
        await this.#options.readers.stop(state);
        this.truncated(state);
        this.#again.add(base);
      }
    }
  }

  /** True if `path` holds what `state` was up to its offset and beyond, and `base` goes on otherwise. */
  async #showsTruncation(path: BytePath, base: BytePath, state: FileState): Promise<boolean> {
    const { fileSystem, ids, rotation } = this.#options;
    const opened: Content[] = [];
    try {
      const copy = fileSystem.statSync(path);
      const original = fileSystem.statSync(base);
      if (copy?.kind !== "file" || original?.kind !== "file" || copy.size < state.offset) return false;
      if (ids.idOf(original) !== state.id || ids.idOf(copy) === state.id) return false;
      const copied = await rotation.open(path);
      opened.push(copied);
      if ((await this.#compareContent(copied, copy.size, true, state)) !== "match") return false;
      const current = await rotation.open(base);
      opened.push(current);
      const end = Math.min(copy.size, original.size);
      return !(await isEqualStretch(copied, current, Math.min(state.offset, Math.max(0, end - GUARD_BYTES)), end));
    } catch {
      // Gone meanwhile.
      return false;
    } finally {
      for (const content of opened) await content.close().catch(() => undefined);
    }
  }

  // ------------------------------------------------------------ copies that stay

  /**
   * A copy whose original is committed as far as both are equal becomes a file of its own: a tombstone if it has nothing
   * more, else it is read from there on. So a restart need not recognise it again, when the original may have moved on.
   */
  async settleCopies(): Promise<void> {
    const { clock, positions, rotateWaitMs, rotation } = this.#options;
    for (const path of this.#registry.copyPaths) {
      const use = this.#registry.paths.get(path);
      if (use?.kind !== "copy" || clock.monotonic() - use.sinceMs < rotateWaitMs) continue;
      const committed = Math.max(positions.committedOf(use.of.key), use.of.start);
      if (committed < use.common || use.of.phase === "missing") continue;
      if (this.#formatOf(path) !== undefined) continue;
      let content: Content | undefined;
      try {
        content = await rotation.open(path);
        const stat = await content.stat();
        if (stat.size !== use.stat.size) continue;
        const state = this.#newState([path], { id: use.id, stat: use.stat }, 0);
        state.start = use.common;
        state.offset = use.common;
        state.readEnd = use.common;
        state.rangeFrom = use.common > 0 ? 0 : undefined;
        state.location = path;
        state.paths.add(path);
        this.#registry.setPath(path, { kind: "file", id: use.id, stat: use.stat, state });
        this.#registry.setOwner(path, state);
        await state.learn(content);
        if (stat.size === use.common) {
          state.phase = "finished";
          state.isCaughtUp = true;
          state.tombstoneSinceMs = clock.now();
        }
        await positions.save(new Map([[state.key, state.toEntry()]]));
        state.isSaved = true;
        if (state.phase !== "finished") this.#options.readers.read(state);
      } catch (error) {
        this.#options.log.debug({ path: pathToText(path), error: toError(error).message }, "a copy is not settled yet");
      } finally {
        await content?.close().catch(() => undefined);
      }
    }
  }

  #lookAgainAt(state: FileState): void {
    for (const path of state.paths) this.#again.add(path);
  }

  #formatOf(path: BytePath): ReturnType<typeof formatOf> {
    return this.#options.archives ? formatOf(path) : undefined;
  }
}

/** A path that is no rotated name first, then the oldest. */
function inOrder(groups: Iterable<Group>): Group[] {
  const isRotated = (group: Group) => Number(group.paths.every((path) => familyOf(path).base !== path));
  return [...groups].sort((a, b) => a.stat.modifiedMs - b.stat.modifiedMs || isRotated(b) - isRotated(a));
}

function preferredPath(paths: readonly BytePath[]): BytePath {
  return paths.find((path) => familyOf(path).base === path) ?? paths[0]!;
}

function isOfFamily(path: BytePath, state: FileState): boolean {
  const { base } = familyOf(path);
  if (base === path) return state.names.includes(path);
  return state.names.some((name) => name === base || familyOf(name).base === base);
}
