import { toError } from "../errors.ts";
import { type BytePath, folderOf, pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { Random } from "../runtime/random.ts";
import type { SourcePositions } from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { formatOf } from "./archive.ts";
import { type Content, isBeginningOf, isEqualStretch } from "./content.ts";
import { familyOf } from "./family.ts";
import { FamilyLine } from "./family-line.ts";
import type { FileId, FileIds } from "./file-id.ts";
import { type FileRegistry, isRotatedName } from "./file-registry.ts";
import { EMPTY_MARK, FileState, type RotationKind } from "./file-state.ts";
import { FINGERPRINT_BYTES, GUARD_BYTES, marksMatch } from "./fingerprint.ts";
import type { PathPatterns } from "./glob.ts";
import type { Readers } from "./readers.ts";
import type { Rotation, SiblingFile } from "./rotation.ts";
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

/** Paths that lead to one file which is not known yet. */
interface Group {
  readonly id: FileId;
  readonly stat: FileStat;
  readonly paths: BytePath[];
  isLink: boolean;
}

/** How much of two files is compared before one counts as the beginning of the other. */
const COMPARED_BYTES = 64 * 1024;

interface Common {
  /** Bytes. */
  readonly common: number;
  readonly isProven: boolean;
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
  readonly #line: FamilyLine;
  /** Copies under names that match nothing, which changed. */
  readonly #copies = new Set<FileState>();
  /** Tombstones whose size is another than it was. */
  readonly #doubted = new Set<FileState>();
  /** Rotated names that match nothing, and whose file is still looked at. */
  readonly #followed = new Map<BytePath, FileState>();
  /** Of the first pass: siblings by inode, for the tombstones of a path. */
  readonly #listings = new Map<BytePath, Map<FileId, SiblingFile>>();
  #isFirstPass = true;
  #idsForgottenMs: number;
  #lastSearchMs = Number.NEGATIVE_INFINITY;
  /** Wall clock, before the look that this pass is about. */
  #lookedAtMs: number;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#idsForgottenMs = options.clock.monotonic();
    this.#lookedAtMs = options.clock.now();
    this.#line = new FamilyLine({
      registry: options.registry,
      rotation: options.rotation,
      patterns: options.patterns,
      readers: options.readers,
      isKnownContent: (sibling, current) => this.#isKnownContent(sibling, current),
      takeUp: (sibling, home) => this.#takeUp(sibling, home),
    });
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
    // An inode number leads to one file only: the others have lost it to a truncation or to reuse.
    for (const state of states)
      if (state.id !== undefined && this.#registry.byId(state.id) !== state) state.id = undefined;
    const byAge = [...states].sort((a, b) => (a.order ?? 0) - (b.order ?? 0) || a.lastSeenMs - b.lastSeenMs);
    for (const state of byAge) {
      if (state.copyOf === undefined) for (const name of state.names) this.#registry.setOwner(name, state);
    }
    // The newest name is the surest: who was last seen there is its owner, whoever had it before.
    for (const state of byAge) {
      if (state.copyOf === undefined) this.#registry.setOwner(state.names[state.names.length - 1]!, state);
    }
    for (const state of states) {
      if (state.copyOf !== undefined) {
        state.location = state.names[state.names.length - 1]!;
        if (patterns.judge(state.location).kind !== "included") this.#lookAfter(state, state.location);
        this.#copies.add(state);
        continue;
      }
      const isWanted = state.names.some((name) => patterns.judge(name).kind === "included");
      if (!isWanted) continue;
      this.#detached.add(state);
      this.#line.touchAll(state);
    }
  }

  /** A tailer found the content before its offset changed: cut, replaced or rewritten. */
  truncated(state: FileState): void {
    this.#tellTruncation(state);
    if (state.id !== undefined) this.#line.reborn(state.id);
    this.#line.touchAll(state);
    for (const path of [...state.paths]) {
      this.#detachPath(state, path);
      this.#again.add(path);
    }
    this.#registry.setId(state, undefined);
    this.#unfollow(state);
    state.location = undefined;
    this.#detached.add(state);
  }

  #tellTruncation(state: FileState): void {
    const text = pathToText(state.path);
    state.rotation = "copy_truncated";
    const what = state.offset > 0 ? `what was read of it up to byte ${state.offset}` : "what was seen of it";
    this.#options.events.emit("file_truncated", `${text} no longer holds ${what}`, {
      file: text,
      offset: state.offset,
      size: state.size,
    });
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

  /**
   * One pass. Never rejects: what fails (a file that vanished in between, a commit that does not get through) is looked
   * at again in the next one.
   */
  async pass(): Promise<void> {
    const { watcher, clock, ids, scanIntervalMs } = this.#options;
    if (clock.monotonic() - this.#idsForgottenMs > 60_000) {
      // Device numbers of what was unmounted are given to what is mounted next.
      ids.forget();
      this.#idsForgottenMs = clock.monotonic();
    }
    // What was not to be told last time is tried again at the pace of the scan, not at that of notifications.
    const isSearch = clock.monotonic() - this.#lastSearchMs >= scanIntervalMs;
    if (isSearch) this.#lastSearchMs = clock.monotonic();
    this.#lookedAtMs = clock.now();
    const sightings = await watcher.look();
    // Before anything is read: a copy that appeared may be the only sign of a truncation.
    const unmatched = watcher.takeUnmatched();
    for (const path of [...sightings.map((sighting) => sighting.path), ...unmatched]) await this.#considerSibling(path);
    const groups = new Map<FileId, Group>();
    for (const sighting of sightings) this.#sort(sighting, groups);
    this.#sortAgain(groups);
    await this.#lookAtAllDoubted();
    this.#sortAgain(groups);
    if (isSearch) this.#reconsiderWaiting(groups);
    for (const group of [...groups.values()]) {
      await this.#attempt(
        () => this.#attach(group, groups),
        () => {
          groups.delete(group.id);
          for (const path of group.paths) this.#again.add(path);
        },
      );
    }
    if (isSearch) for (const state of this.#missingSince.keys()) this.#detached.add(state);
    for (const copy of [...this.#copies]) {
      await this.#attempt(
        () => this.#lookAtCopy(copy),
        () => this.#copies.add(copy),
      );
    }
    for (const state of [...this.#detached]) {
      this.#detached.delete(state);
      await this.#attempt(
        () => this.#settleDetached(state, groups),
        () => this.#detached.add(state),
      );
    }
    await this.#lookAtAllDoubted();
    const found: FileState[] = [];
    for (const group of inOrder(groups.values())) {
      const state = await this.#identify(group);
      if (state !== undefined) found.push(state);
    }
    for (const path of unmatched) this.#line.touch(path);
    await this.#attempt(
      () => this.#line.arrange(),
      () => {},
    );
    this.#isFirstPass = false;
    this.#listings.clear();
    for (const state of found) this.#options.readers.read(state);
  }

  async #attempt(step: () => Promise<void>, onFailure: () => void): Promise<void> {
    try {
      await step();
    } catch (error) {
      onFailure();
      this.#options.log.debug({ error: toError(error).message }, "discovery could not tell; the next pass looks again");
    }
  }

  #sortAgain(groups: Map<FileId, Group>): void {
    const paths = [...this.#again];
    this.#again.clear();
    for (const path of paths) this.#sort(this.#lookAt(path), groups);
  }

  async #lookAtAllDoubted(): Promise<void> {
    for (const state of [...this.#doubted]) {
      await this.#attempt(
        () => this.#lookAtDoubted(state),
        () => this.#doubted.add(state),
      );
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
      if (use?.kind === "copy") this.#dropCopy(use.id);
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
    const isPlain = this.#formatOf(state.location ?? state.path) === undefined;
    if (state.phase === "finished") {
      if (isPlain && stat.size !== state.size) this.#doubted.add(state);
      return;
    }
    if (isPlain && stat.size < leastSize(state) && !readers.holds(state)) {
      // No tailer will tell for now, and what it held may be in a copy.
      this.truncated(state);
      return;
    }
    if (isPlain) state.size = Math.max(state.offset, stat.size);
    readers.read(state);
  }

  /** A tombstone is longer or shorter than it was: late bytes, or another file on its inode number. */
  async #lookAtDoubted(state: FileState): Promise<void> {
    this.#doubted.delete(state);
    const { location } = state;
    if (state.phase !== "finished" || location === undefined) return;
    const { stat, error } = this.#lookAt(location);
    if (error !== undefined) return;
    const isSame = stat !== undefined && this.#options.ids.idOf(stat) === state.id;
    if (isSame && (await this.#isStill(state, { id: state.id!, stat, paths: [location], isLink: false }))) {
      if (!(await this.#hasMore(state, location, stat))) return;
      state.phase = this.#isAtHome(state) ? "live" : "rotated";
      state.tombstoneSinceMs = undefined;
      state.isCaughtUp = true;
      if (this.#formatOf(location) === undefined) state.size = stat.size;
      if (state.phase === "rotated") this.#options.readers.rotate(state);
      else this.#options.readers.revive(state);
      this.#options.readers.read(state);
      return;
    }
    if (state.id !== undefined) this.#line.reborn(state.id);
    this.#line.touchAll(state);
    this.#registry.setId(state, undefined);
    this.#unfollow(state);
    for (const path of [...state.paths]) {
      this.#detachPath(state, path);
      this.#again.add(path);
    }
    state.location = undefined;
  }

  /** Late bytes may have gone into a file before it was compressed. */
  async #hasMore(state: FileState, path: BytePath, stat: FileStat): Promise<boolean> {
    if (this.#formatOf(path) === undefined) return stat.size > state.size;
    const content = await this.#options.rotation.open(path);
    try {
      return (await content.read(Buffer.alloc(1), 0, 1, state.offset)) === 1;
    } catch {
      return false;
    } finally {
      await content.close().catch(() => undefined);
    }
  }

  /** At a path that no rotation has given it. */
  #isAtHome(state: FileState): boolean {
    return [...state.paths].some((path) => !isRotatedName(path, state.names));
  }

  #sortFollowed(state: FileState, stat: FileStat | undefined): void {
    const { ids, readers } = this.#options;
    if (state.copyOf !== undefined) {
      this.#copies.add(state);
      return;
    }
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
      const isOpen = use.kind === "copy" ? !use.isProven : use.kind === "waiting" || use.kind === "unreadable";
      if (!isOpen) continue;
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
    if (state.copyOf !== undefined) {
      if (group.stat.size === state.size && this.#recallCopy(state, group)) groups.delete(group.id);
      else this.#dropCopy(group.id);
      return;
    }
    // One that is held has the same content as long as it is where it was: its tailer verifies that.
    const isInPlace = readers.holds(state) && group.paths.some((path) => path === state.location);
    if (!isInPlace && !(await this.#isStill(state, group))) {
      await readers.stop(state);
      // The inode number was given to another file, or the file was rewritten.
      this.#line.reborn(group.id);
      this.#line.touchAll(state);
      this.#registry.setId(state, undefined);
      this.#unfollow(state);
      state.location = undefined;
      if (state.phase !== "finished") {
        if (state.names.some((name) => group.paths.includes(name))) this.#tellTruncation(state);
        this.#detached.add(state);
      }
      return;
    }
    groups.delete(group.id);
    for (const path of group.paths) this.#adopt(state, path, group);
  }

  async #isStill(state: FileState, group: Group): Promise<boolean> {
    const path = group.paths[0]!;
    const isPlain = this.#formatOf(path) === undefined;
    if (state.fingerprint.length === 0) {
      // An archive is never the file it was made of, and a tombstone of no bytes is worth nothing once it was moved.
      if (!isPlain || group.stat.size < leastSize(state) || !isOfFamily(path, state)) return false;
      if (state.phase === "finished" && state.location !== path) return false;
      const { base } = familyOf(path);
      const sibling = { path, stat: group.stat, id: group.id, format: undefined, hasPlainTwin: false };
      return base === path || (await this.#isKnownContent(sibling, this.#registry.ownerOf(base))) === false;
    }
    if (isPlain && group.stat.size < leastSize(state)) return false;
    // Not touched since it was last seen: not worth a look inside.
    const isUntouched = group.stat.size === state.size && group.stat.modifiedMs < state.lastSeenMs - 2000;
    if (isPlain && isUntouched && state.names.includes(path)) return true;
    const comparison = await this.#compare(path, state);
    // What cannot be opened now is proved by the tailer that opens it.
    return comparison === "match" || comparison === "unreadable";
  }

  /** `path` leads to `state` from now on. */
  #adopt(state: FileState, path: BytePath, group: Group): void {
    const { readers, clock } = this.#options;
    this.#unfollow(state);
    this.#detached.delete(state);
    this.#missingSince.delete(state);
    this.#dropCopy(group.id);
    this.#registry.setId(state, group.id);
    this.#registry.setPath(path, { kind: "file", id: group.id, stat: group.stat, state });
    state.fileSystem = group.id.slice(0, group.id.indexOf("\0"));
    state.inode = String(group.stat.inode);
    state.paths.add(path);
    state.relocate(path);
    this.#registry.addName(state, path);
    if (state.phase !== "finished" || this.#registry.ownerOf(path) === undefined) this.#registry.setOwner(path, state);
    this.#line.touch(path);
    const isRotated = !this.#isAtHome(state);
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
  async #settleDetached(state: FileState, groups: Map<FileId, Group>): Promise<void> {
    if (state.paths.size > 0) this.#missingSince.delete(state);
    else await this.#settle(state, groups);
  }

  async #settle(state: FileState, groups: Map<FileId, Group>): Promise<void> {
    const { rotation, readers } = this.#options;
    if (this.#takeCopy(state, groups)) return;
    if (this.#isFirstPass && state.phase === "finished" && !this.#isOwner(state)) {
      await this.#followTombstone(state, groups);
      return;
    }
    let isReborn = false;
    const found = await rotation.find(state, {
      isOther: (sibling) => this.#isOther(sibling, state),
      onReused: (id) => {
        isReborn = true;
        this.#line.reborn(id);
        this.#line.touchAll(state);
        this.#registry.setId(state, undefined);
      },
    });
    if (isReborn) await readers.stop(state);
    if (readers.holds(state)) {
      // Its descriptor reaches the content; the name is only for later.
      const isRenamed = found !== undefined && found !== "unknown" && found.sibling.id === state.id;
      if (isRenamed) this.#follow(state, found.sibling, groups);
      if (state.phase === "live" || state.phase === "missing") {
        this.#rotated(state, isRenamed ? "renamed" : "deleted");
      }
      this.#line.touchAll(state);
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
      else if (hasGrown || found.sibling.format !== undefined) this.#doubted.add(state);
      this.#line.touchAll(state);
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

  /** At the start there may be thousands of tombstones: all of a family are looked for in one listing. */
  async #followTombstone(state: FileState, groups: Map<FileId, Group>): Promise<void> {
    for (const base of this.#options.rotation.basesOf(state.names)) {
      let siblings = this.#listings.get(base);
      if (siblings === undefined) {
        siblings = new Map((await this.#options.rotation.siblings(base))?.map((sibling) => [sibling.id, sibling]));
        this.#listings.set(base, siblings);
      }
      const sibling = state.id === undefined ? undefined : siblings.get(state.id);
      if (sibling === undefined || (state.fingerprint.length === 0 && sibling.path !== lastName(state))) continue;
      this.#follow(state, sibling, groups);
      this.#changed(state, sibling.stat);
      return;
    }
    this.#registry.setId(state, undefined);
  }

  /** A copy that was set aside now is the only one. */
  #takeCopy(state: FileState, groups: Map<FileId, Group>): boolean {
    if (this.#options.readers.holds(state)) return false;
    for (const path of this.#registry.copiesOf(state)) {
      const use = this.#registry.paths.get(path);
      if (use?.kind !== "copy") continue;
      const isPlain = this.#formatOf(path) === undefined;
      if (isPlain && use.stat.size < state.offset) continue;
      groups.delete(use.id);
      this.#adopt(state, path, { id: use.id, stat: use.stat, paths: [path], isLink: false });
      return true;
    }
    return false;
  }

  /** A sibling that is surely another file: the home of one that is known and was not set aside as a copy. */
  #isOther(sibling: SiblingFile, state: FileState): boolean {
    const known = this.#registry.byId(sibling.id);
    if (known === undefined || known === state || known.copyOf !== undefined) return false;
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
    this.#dropCopy(sibling.id);
    this.#registry.setId(state, sibling.id);
    state.fileSystem = sibling.id.slice(0, sibling.id.indexOf("\0"));
    state.inode = String(sibling.stat.inode);
    state.relocate(sibling.path);
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
    this.#line.touchAll(state);
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
    const { readers } = this.#options;
    const known = this.#registry.byId(group.id);
    if (known !== undefined && known.copyOf === undefined) {
      // Found by another way in this very pass.
      for (const each of group.paths) this.#adopt(known, each, group);
      return undefined;
    }
    try {
      if (!(await this.#isReadyArchive(path, group))) return undefined;
      const verdict = await this.#recognise(path, group);
      if (verdict.kind === "file") {
        for (const each of group.paths) this.#adopt(verdict.state, each, group);
        readers.read(verdict.state);
        return undefined;
      }
      if (verdict.kind === "copy") {
        this.#setAside(group, verdict.of, verdict);
        await this.#rememberCopy(path, group, verdict.of, verdict.common);
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
    | ({ kind: "copy"; of: FileState } & Common)
    | { kind: "waiting"; reason: string }
    | { kind: "new" }
  > {
    const { rotateWaitMs, isOnce, events } = this.#options;
    const candidates = this.#candidates(path);
    const unread = await this.#unreadOriginal(path, group);
    if (unread !== undefined) return { kind: "copy", of: unread, common: group.stat.size, isProven: true };
    if (candidates.length === 0) return { kind: "new" };
    const isPlain = this.#formatOf(path) === undefined;
    let isShorterThan: FileState | undefined;
    const content = await this.#options.rotation.open(path);
    try {
      for (const state of candidates) {
        const comparison = await this.#compareContent(content, group.stat.size, isPlain, state);
        if (comparison === "match") {
          if (this.#isHomeless(state) && !this.#options.readers.holds(state)) return { kind: "file", state };
          const shared = await this.#commonLength(content, isPlain ? group.stat.size : undefined, state);
          return { kind: "copy", of: state, ...shared };
        }
        if (comparison === "shorter" && isRotatedName(path, state.names)) {
          const isPrefix = isPlain ? await this.#isPrefix(content, group.stat.size, state) : undefined;
          if (isPrefix === true) return { kind: "copy", of: state, common: group.stat.size, isProven: true };
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

  /** The live file that this is a copy of, where nothing of it has been read yet that could be compared. */
  async #unreadOriginal(path: BytePath, group: Group): Promise<FileState | undefined> {
    const { base } = familyOf(path);
    const state = base === path ? undefined : this.#registry.ownerOf(base);
    if (state === undefined || !state.paths.has(base) || state.fingerprint.length > 0) return undefined;
    const { stat } = group;
    const content = await this.#options.rotation.open(path);
    try {
      const sibling = { path, stat, id: group.id, format: this.#formatOf(path), hasPlainTwin: false };
      return (await this.#isCopyOfNew(content, sibling, state)) ? state : undefined;
    } finally {
      await content.close().catch(() => undefined);
    }
  }

  /**
   * Files whose content this path may hold, those that look for their content first:
   * - at a path itself: what was there and is nowhere else (restored, or saved by an editor). What was rotated away and
   *   still exists is another file, however equal the first bytes are.
   * - at a rotated name: what is live at the path it was rotated from (a copy before the truncation), what is nowhere
   *   else, and for an archive whatever there was
   */
  #candidates(path: BytePath): FileState[] {
    const { base } = familyOf(path);
    const twin = this.#formatOf(path) === undefined ? undefined : path.slice(0, path.lastIndexOf("."));
    const family = [...this.#registry.family(path)].filter((state) => {
      if (state.fingerprint.length === 0 || state.copyOf !== undefined || !isOfFamily(path, state)) return false;
      if (base === path)
        return this.#isHomeless(state) && !this.#options.readers.holds(state) && state.phase !== "finished";
      return twin !== undefined || this.#isGone(state) || state.paths.has(base);
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

  /** Its inode is not where it was last: content found elsewhere may be its own. */
  #isGone(state: FileState): boolean {
    if (state.location === undefined) return state.paths.size === 0;
    const { stat } = this.#lookAt(state.location);
    return stat === undefined || this.#options.ids.idOf(stat) !== state.id;
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

  /** How many bytes a copy surely has in common with its original, and whether it can be told. */
  async #commonLength(content: Content, size: number | undefined, state: FileState): Promise<Common> {
    const atLeast = { common: state.offset, isProven: false };
    if (size === undefined) return { common: state.offset, isProven: true };
    if (state.location === undefined) return { ...atLeast, isProven: state.phase === "finished" };
    let original: Content | undefined;
    try {
      original = await this.#options.rotation.open(state.location);
      const end = Math.min(size, (await original.stat()).size);
      if (end < state.offset) return atLeast;
      const isEqual = await isEqualStretch(content, original, Math.max(0, end - GUARD_BYTES), end);
      return { common: isEqual ? end : state.offset, isProven: true };
    } catch {
      return atLeast;
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
    for (const name of names) this.#line.touch(name);
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
        // Whoever comes after it is modified later than this.
        lastSeenMs: Math.min(this.#lookedAtMs, Math.max(file.stat.modifiedMs, Number(file.stat.birthNs) / 1e6)),
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

  // ------------------------------------------------------------ generations never seen

  /** A sibling that matches nothing, and is a generation of `home` that came and went unseen. */
  #takeUp(sibling: SiblingFile, home: BytePath): FileState {
    const state = this.#newState([home, sibling.path], sibling, 0);
    state.phase = "rotated";
    state.rotation = "renamed";
    state.location = sibling.path;
    this.#lookAfter(state, sibling.path);
    this.#options.readers.rotate(state);
    this.#announce(state);
    return state;
  }

  /** Whether a file that is known gives (or gave) what is in this sibling; undefined: that cannot be told now. */
  async #isKnownContent(sibling: SiblingFile, current: FileState | undefined): Promise<boolean | undefined> {
    if (sibling.hasPlainTwin) return true;
    let content: Content | undefined;
    try {
      content = await this.#options.rotation.open(sibling.path);
      const isPlain = sibling.format === undefined;
      for (const state of this.#candidates(sibling.path)) {
        const comparison = await this.#compareContent(content, sibling.stat.size, isPlain, state);
        if (comparison === "match") {
          const isLonger = !isPlain && state.phase === "finished" && this.#isGone(state);
          if (isLonger) this.#takeArchive(state, sibling);
          return true;
        }
        if (comparison === "shorter" && isPlain && (await this.#isPrefix(content, sibling.stat.size, state)))
          return true;
      }
      if (current === undefined) return false;
      const isUnread = current.fingerprint.length === 0;
      if (await this.#isCopyOfNew(content, sibling, current)) return true;
      // Read, and perhaps truncated, in the meantime.
      return isUnread && current.fingerprint.length > 0 ? undefined : false;
    } catch {
      return undefined;
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  /** A tombstone was compressed, perhaps with bytes that came late. */
  #takeArchive(state: FileState, sibling: SiblingFile): void {
    this.#registry.setId(state, sibling.id);
    state.relocate(sibling.path);
    this.#registry.addName(state, sibling.path);
    this.#lookAfter(state, sibling.path);
    this.#doubted.add(state);
  }

  /** A sibling that is the beginning of a file not read yet: copied, perhaps compressed, not yet truncated. */
  async #isCopyOfNew(content: Content, sibling: SiblingFile, state: FileState): Promise<boolean> {
    if (state.location === undefined || sibling.stat.size === 0) return false;
    const original = await this.#options.rotation.open(state.location);
    try {
      if (sibling.format !== undefined) return await isBeginningOf(content, original);
      const size = sibling.stat.size;
      if ((await original.stat()).size < size) return false;
      const isSameStart = await isEqualStretch(content, original, 0, Math.min(size, FINGERPRINT_BYTES));
      return isSameStart && (await isEqualStretch(content, original, Math.max(0, size - COMPARED_BYTES), size));
    } finally {
      await original.close().catch(() => undefined);
    }
  }

  // ------------------------------------------------------------ siblings that appear

  /**
   * A sibling appeared beside a live file: perhaps a copy made to truncate it. If the file no longer continues what is in
   * the copy, it was truncated and refilled, and equal bytes around the offset would hide that.
   */
  async #considerSibling(path: BytePath): Promise<void> {
    const { base } = familyOf(path);
    if (base === path || this.#registry.paths.has(path) || this.#formatOf(path) !== undefined) return;
    const state = this.#registry.ownerOf(base);
    if (state === undefined || state.phase !== "live" || state.fingerprint.length === 0) return;
    if ((await this.#relation(path, base, state)) !== "replaced") return;
    await this.#options.readers.stop(state);
    this.truncated(state);
    this.#again.add(base);
  }

  /**
   * What a rotated name says about the live file at `base`: "replaced" if it holds what that file was up to its offset
   * and beyond, and `base` goes on otherwise; "copy" if it is its beginning, which is noted.
   */
  async #relation(path: BytePath, base: BytePath, state: FileState): Promise<"replaced" | "copy" | "none"> {
    const { fileSystem, ids, rotation, patterns } = this.#options;
    const opened: Content[] = [];
    try {
      const copy = fileSystem.statSync(path);
      const original = fileSystem.statSync(base);
      if (copy?.kind !== "file" || original?.kind !== "file" || copy.size === 0) return "none";
      const id = ids.idOf(copy);
      const known = this.#registry.byId(id);
      if (ids.idOf(original) !== state.id || (known !== undefined && known.copyOf === undefined)) return "none";
      const copied = await rotation.open(path);
      const current = await rotation.open(base);
      opened.push(copied, current);
      const end = Math.min(copy.size, original.size);
      const isSame =
        (await isEqualStretch(copied, current, 0, Math.min(end, FINGERPRINT_BYTES))) &&
        (await isEqualStretch(copied, current, Math.max(0, end - COMPARED_BYTES), end));
      if (isSame && copy.size <= original.size) {
        // Perhaps both are a younger generation by now, and the truncation before it is yet to be noticed.
        if ((await this.#compareContent(current, original.size, true, state)) !== "match") return "none";
        const isWanted = patterns.judge(path).kind === "included";
        if (!isWanted) await this.#rememberCopy(path, { id, stat: copy }, state, copy.size);
        return "copy";
      }
      if (copy.size < state.offset) return "none";
      return (await this.#compareContent(copied, copy.size, true, state)) === "match" && !isSame ? "replaced" : "none";
    } catch {
      // Gone meanwhile.
      return "none";
    } finally {
      for (const content of opened) await content.close().catch(() => undefined);
    }
  }

  // ------------------------------------------------------------ copies that stay

  /** Nothing is read from these paths while they hold what the original gives. */
  #setAside(group: Group, of: FileState, { common, isProven }: Common): void {
    const { clock } = this.#options;
    for (const path of group.paths) {
      const before = this.#registry.paths.get(path);
      const isSame = before?.kind === "copy" && before.id === group.id && before.stat.size === group.stat.size;
      const sinceMs = isSame ? before.sinceMs : clock.monotonic();
      this.#registry.setPath(path, { kind: "copy", id: group.id, stat: group.stat, of, common, isProven, sinceMs });
    }
  }

  /**
   * Makes it durable that a file is a copy, and of what: after a restart the original may have been truncated, and its
   * fingerprint may reach further than the copy does.
   */
  async #rememberCopy(
    path: BytePath,
    file: { id: FileId; stat: FileStat },
    of: FileState,
    common: number,
  ): Promise<void> {
    const { positions, clock, patterns } = this.#options;
    const known = this.#registry.byId(file.id);
    if (this.#formatOf(path) !== undefined || common === 0 || !of.isSaved) return;
    if (known !== undefined && known.copyOf === undefined) return;
    const content = await this.#options.rotation.open(path);
    try {
      const copy = known ?? this.#newState([path], file, 0);
      copy.copyOf = of.key;
      copy.phase = "finished";
      copy.isCaughtUp = true;
      copy.start = common;
      copy.offset = common;
      copy.readEnd = common;
      copy.size = common;
      copy.location = path;
      copy.tombstoneSinceMs ??= clock.now();
      await copy.learn(content);
      if (patterns.judge(path).kind !== "included") this.#lookAfter(copy, path);
      copy.isSaved = true;
      await positions.save(new Map([[copy.key, copy.toEntry()]]));
    } finally {
      await content.close().catch(() => undefined);
    }
  }

  /** After a restart: a file that is stored as a copy and has not changed is one still. */
  #recallCopy(copy: FileState, group: Group): boolean {
    const original = this.#registry.get(copy.copyOf!);
    if (original === undefined) return false;
    this.#setAside(group, original, { common: copy.start, isProven: true });
    copy.location = preferredPath(group.paths);
    return true;
  }

  /** The file is no copy, or its original's only home: what was stored of it as a copy goes. */
  #dropCopy(id: FileId): void {
    const copy = this.#registry.byId(id);
    if (copy === undefined || copy.copyOf === undefined) return;
    this.#unfollow(copy);
    this.#registry.remove(copy);
    // Dying before this is durable leaves an entry that nothing refers to; the next start finds and drops it.
    this.#options.positions.save(new Map([[copy.key, undefined]])).catch(() => undefined);
  }

  /** A copy under a name that matches nothing changed: still being copied, renamed, or gone. */
  async #lookAtCopy(copy: FileState): Promise<void> {
    this.#copies.delete(copy);
    const path = copy.location;
    const original = this.#registry.get(copy.copyOf ?? "");
    const { stat } = path === undefined ? { stat: undefined } : this.#lookAt(path);
    const isSame = stat !== undefined && this.#options.ids.idOf(stat) === copy.id;
    if (isSame && stat.size === copy.size) return;
    const base = path === undefined ? undefined : familyOf(path).base;
    if (isSame && path !== undefined && base !== undefined && original?.paths.has(base)) {
      if ((await this.#relation(path, base, original)) === "copy") return;
    }
    if (isSame || copy.id === undefined || !(await this.#isRenamedCopy(copy))) {
      if (copy.id !== undefined) this.#dropCopy(copy.id);
    }
  }

  async #isRenamedCopy(copy: FileState): Promise<boolean> {
    const found = await this.#options.rotation.find(copy, {
      isOther: (sibling) => sibling.id !== copy.id,
      onReused: (id) => this.#line.reborn(id),
    });
    if (found === undefined || found === "unknown") return found === "unknown";
    if (this.#options.patterns.judge(found.sibling.path).kind === "included") return true;
    copy.location = found.sibling.path;
    this.#registry.addName(copy, found.sibling.path);
    this.#lookAfter(copy, found.sibling.path);
    return true;
  }

  /**
   * A copy that holds more than its original ever gave (somebody appends to it) becomes a file of its own, read from
   * there on, once it is quiet and the original is committed as far as both are equal.
   */
  async settleCopies(): Promise<void> {
    const { clock, positions, rotateWaitMs, ids, readers } = this.#options;
    for (const path of this.#registry.copyPaths) {
      const use = this.#registry.paths.get(path);
      if (use?.kind === "copy" && use.of.isSaved && this.#registry.byId(use.id) === undefined) {
        await this.#rememberCopy(path, use, use.of, use.common).catch(() => undefined);
      }
      if (use?.kind !== "copy" || !use.isProven || use.stat.size <= use.common || this.#formatOf(path) !== undefined)
        continue;
      if (clock.monotonic() - use.sinceMs < rotateWaitMs || use.of.phase === "missing") continue;
      if (Math.max(positions.committedOf(use.of.key), use.of.start) < use.common) continue;
      const state = this.#registry.byId(use.id);
      const { stat } = this.#lookAt(path);
      if (state?.copyOf === undefined || stat === undefined || ids.idOf(stat) !== use.id) continue;
      state.copyOf = undefined;
      state.phase = "rotated";
      state.rotation = "renamed";
      state.tombstoneSinceMs = undefined;
      state.rangeFrom = 0;
      state.size = stat.size;
      state.paths.add(path);
      this.#registry.setPath(path, { kind: "file", id: use.id, stat, state });
      this.#announce(state);
      readers.rotate(state);
    }
  }

  #formatOf(path: BytePath): ReturnType<typeof formatOf> {
    return this.#options.archives ? formatOf(path) : undefined;
  }
}

/** Paths that are no rotated name first, since others may turn out to be copies of them; then the oldest. */
function inOrder(groups: Iterable<Group>): Group[] {
  const isRotated = (group: Group) => Number(group.paths.every((path) => familyOf(path).base !== path));
  return [...groups].sort((a, b) => isRotated(a) - isRotated(b) || a.stat.modifiedMs - b.stat.modifiedMs);
}

function preferredPath(paths: readonly BytePath[]): BytePath {
  return paths.find((path) => familyOf(path).base === path) ?? paths[0]!;
}

/** A plain file that is shorter than this was truncated: of what was given out, or, before that, of what was seen. */
function leastSize(state: FileState): number {
  return state.offset === 0 ? state.size : state.offset;
}

function lastName(state: FileState): BytePath {
  return state.names[state.names.length - 1]!;
}

function isOfFamily(path: BytePath, state: FileState): boolean {
  const { base } = familyOf(path);
  if (base === path) return state.names.includes(path);
  return state.names.some((name) => name === base || familyOf(name).base === base);
}
