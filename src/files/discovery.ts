import { toError } from "../errors.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { Agenda } from "./agenda.ts";
import { Evidence } from "./content-evidence.ts";
import { Copies } from "./copies.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { FamilyLine } from "./family-line.ts";
import { FileState } from "./file-state.ts";
import { LateBytes } from "./late-bytes.ts";
import { NewFiles } from "./new-files.ts";
import { Recogniser } from "./recogniser.ts";
import { Search } from "./search.ts";
import { type Group, inOrder, lookAt, preferredPath, type Sighting } from "./sighting.ts";
import { UnsettledPaths } from "./unsettled-paths.ts";
import { Whereabouts } from "./whereabouts.ts";

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
  readonly #agenda = new Agenda();
  readonly #evidence: Evidence;
  readonly #whereabouts: Whereabouts;
  readonly #unsettled: UnsettledPaths;
  readonly #recogniser: Recogniser;
  readonly #newFiles: NewFiles;
  readonly #copies: Copies;
  readonly #lateBytes: LateBytes;
  readonly #search: Search;
  readonly #line: FamilyLine;
  #idsForgottenMs: number;
  #lastSearchMs = Number.NEGATIVE_INFINITY;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#idsForgottenMs = options.clock.monotonic();
    const agenda = this.#agenda;
    this.#evidence = new Evidence(options);
    this.#whereabouts = new Whereabouts(options, agenda);
    this.#unsettled = new UnsettledPaths(options, agenda);
    this.#recogniser = new Recogniser(options, agenda, this.#evidence, this.#unsettled, this.#whereabouts);
    this.#newFiles = new NewFiles(options, agenda, this.#whereabouts);
    this.#copies = new Copies(options, agenda, this.#evidence, this.#whereabouts, this.#newFiles);
    this.#lateBytes = new LateBytes(options, agenda, this.#evidence, this.#recogniser, this.#whereabouts);
    this.#search = new Search(options, agenda, this.#whereabouts, this.#copies, this.#lateBytes);
    this.#line = new FamilyLine(options, agenda, this.#recogniser, this.#newFiles);
  }

  /** True while something is still to be found out that another pass may settle. */
  get isUnsettled(): boolean {
    const { again, detached, missingSince, doubted } = this.#agenda;
    if (again.size > 0 || detached.size > 0 || missingSince.size > 0 || doubted.size > 0) return true;
    for (const use of this.#options.fileRegistry.paths.values()) if (use.kind === "waiting") return true;
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
      this.#options.fileRegistry.add(state);
      if (state.id !== undefined) this.#options.fileRegistry.setId(state, state.id);
    }
    // An inode number leads to one file only: the others have lost it to a truncation or to reuse.
    for (const state of states)
      if (state.id !== undefined && this.#options.fileRegistry.byId(state.id) !== state) state.id = undefined;
    const byAge = [...states].sort((a, b) => (a.order ?? 0) - (b.order ?? 0) || a.lastSeenMs - b.lastSeenMs);
    for (const state of byAge) {
      if (state.copyOf === undefined) for (const name of state.names) this.#options.fileRegistry.setOwner(name, state);
    }
    // The newest name is the surest: who was last seen there is its owner, whoever had it before.
    for (const state of byAge) {
      if (state.copyOf === undefined) this.#options.fileRegistry.setOwner(state.names[state.names.length - 1]!, state);
    }
    for (const state of states) {
      if (state.copyOf !== undefined) {
        state.location = state.names[state.names.length - 1]!;
        if (patterns.judge(state.location).kind !== "included") this.#whereabouts.lookAfter(state, state.location);
        this.#agenda.copies.add(state);
        continue;
      }
      const isWanted = state.names.some((name) => patterns.judge(name).kind === "included");
      if (!isWanted) continue;
      this.#agenda.detached.add(state);
      this.#agenda.touchAll(state);
    }
  }

  /** A tailer found the content before its offset changed: cut, replaced or rewritten. */
  truncated(state: FileState): void {
    this.#whereabouts.truncated(state);
  }

  /** The file is as if it had never been seen; not to be called during a pass. */
  forget(state: FileState): void {
    const { fileRegistry } = this.#options;
    for (const path of fileRegistry.copiesOf(state)) fileRegistry.removePath(path);
    for (const copy of [...fileRegistry.states]) {
      if (copy.copyOf === state.key && copy.id !== undefined) this.#whereabouts.forgetCopy(copy.id);
    }
    this.#whereabouts.unfollow(state);
    fileRegistry.remove(state);
    for (const path of state.paths) {
      fileRegistry.removePath(path);
      this.#agenda.again.add(path);
    }
    this.#agenda.drop(state);
    // Whoever waits for it goes on.
    state.phase = "finished";
    state.isCaughtUp = true;
  }

  /** See `Copies.settle`. */
  settleCopies(): Promise<void> {
    return this.#copies.settle();
  }

  /** Something else lies where the file was expected, or nothing. */
  moved(state: FileState): void {
    for (const path of state.paths) this.#agenda.again.add(path);
    if (state.paths.size === 0) {
      this.#whereabouts.unfollow(state);
      state.location = undefined;
      this.#agenda.detached.add(state);
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
    this.#agenda.lookedAtMs = clock.now();
    const sightings = await watcher.look();
    // Before anything is read: a copy that appeared may be the only sign of a truncation.
    const unmatched = watcher.takeUnmatched();
    for (const path of [...sightings.map((sighting) => sighting.path), ...unmatched]) await this.#copies.consider(path);
    this.#agenda.startPass();
    for (const sighting of sightings) {
      this.#sort(sighting);
      // Together with what its path is now: a rotation changes both, and each may be noticed first.
      if (sighting.stat !== undefined) this.#agenda.lookAtBase(sighting.path);
    }
    this.#sortAgain();
    await this.#lookAtAllDoubted();
    this.#sortAgain();
    if (isSearch) this.#unsettled.reconsider();
    for (const group of [...this.#agenda.groups.values()]) {
      await this.#attempt(
        () => this.#attach(group),
        () => {
          this.#agenda.groups.delete(group.id);
          for (const path of group.paths) this.#agenda.again.add(path);
        },
      );
    }
    if (isSearch) for (const state of this.#agenda.missingSince.keys()) this.#agenda.detached.add(state);
    for (const copy of [...this.#agenda.copies]) {
      await this.#attempt(
        () => this.#copies.lookAt(copy),
        () => this.#agenda.copies.add(copy),
      );
    }
    for (const state of [...this.#agenda.detached]) {
      this.#agenda.detached.delete(state);
      await this.#attempt(
        () => this.#search.settleDetached(state),
        () => this.#agenda.detached.add(state),
      );
    }
    await this.#lookAtAllDoubted();
    const found: FileState[] = [];
    for (const group of inOrder(this.#agenda.groups.values())) {
      const state = await this.#identify(group);
      if (state !== undefined) found.push(state);
    }
    await this.#lookAtAllDoubted();
    for (const path of unmatched) this.#agenda.touch(path);
    await this.#attempt(
      () => this.#line.arrange(),
      () => {},
    );
    this.#agenda.isFirstPass = false;
    this.#unsettled.tellReadable();
    this.#lateBytes.endFirstPass();
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

  #sortAgain(): void {
    const paths = [...this.#agenda.again];
    this.#agenda.again.clear();
    for (const path of paths) this.#sort(lookAt(this.#options.fileSystem, path));
  }

  async #lookAtAllDoubted(): Promise<void> {
    for (const state of [...this.#agenda.doubted]) {
      await this.#attempt(
        () => this.#lateBytes.lookAt(state),
        () => this.#agenda.doubted.add(state),
      );
    }
  }

  #sort(sighting: Sighting): void {
    const { ids } = this.#options;
    const { path, stat, error } = sighting;
    this.#agenda.withdraw(path);
    const followed = this.#whereabouts.followedAt(path);
    if (followed !== undefined) {
      this.#sortFollowed(followed, stat);
      return;
    }
    const use = this.#options.fileRegistry.paths.get(path);
    // Looked at for the sake of a file that is no longer there.
    if (use === undefined && this.#options.patterns.judge(path).kind !== "included") return;
    if (error !== undefined) {
      this.#unsettled.unreadable(path, error);
      return;
    }
    this.#unsettled.lookedAt(path);
    if (stat === undefined) {
      if (use?.kind === "file") this.#whereabouts.lose(use.state, path);
      if (use?.kind === "copy") this.#whereabouts.forgetCopy(use.id);
      this.#options.fileRegistry.removePath(path);
      return;
    }
    const id = ids.idOf(stat);
    if (use?.kind === "file" && use.id === id) {
      const hasChanged = use.stat.size !== stat.size || use.stat.modifiedMs !== stat.modifiedMs;
      use.stat = stat;
      if (hasChanged || use.state.phase !== "finished") this.#whereabouts.changed(use.state, stat);
      return;
    }
    if (use?.kind === "file") this.#whereabouts.lose(use.state, path);
    this.#agenda.enter(path, id, stat, sighting.isLink);
    // What is unreadable is so until it was looked into.
    if (use !== undefined && use.kind !== "file" && use.kind !== "unreadable")
      this.#options.fileRegistry.removePath(path);
  }

  #sortFollowed(state: FileState, stat: FileStat | undefined): void {
    const { ids, readers } = this.#options;
    if (state.copyOf !== undefined) {
      this.#agenda.copies.add(state);
      return;
    }
    if (stat !== undefined && ids.idOf(stat) === state.id) {
      if (state.phase !== "finished") readers.read(state);
      else this.#whereabouts.changed(state, stat);
      return;
    }
    this.#whereabouts.unfollow(state);
    if (!readers.holds(state)) state.location = undefined;
    this.#agenda.detached.add(state);
  }

  /** If the inode is known and the content is right, its paths are names of that file. */
  async #attach(group: Group): Promise<void> {
    const { readers } = this.#options;
    const state = this.#options.fileRegistry.byId(group.id);
    if (state === undefined) return;
    if (state.copyOf !== undefined) {
      if (group.stat.size === state.size && this.#copies.recall(state, group)) this.#agenda.groups.delete(group.id);
      else this.#whereabouts.forgetCopy(group.id);
      return;
    }
    // One that is held has the same content as long as it is where it was: its tailer verifies that.
    const isInPlace = readers.holds(state) && group.paths.some((path) => path === state.location);
    if (!isInPlace && !(await this.#recogniser.isStill(state, group))) {
      await readers.stop(state);
      // The inode number was given to another file, or the file was rewritten.
      this.#agenda.reborn(group.id);
      this.#agenda.touchAll(state);
      this.#options.fileRegistry.setId(state, undefined);
      this.#whereabouts.unfollow(state);
      state.location = undefined;
      if (state.phase !== "finished") {
        if (state.names.some((name) => group.paths.includes(name))) this.#whereabouts.tellTruncation(state);
        this.#agenda.detached.add(state);
      }
      return;
    }
    this.#agenda.groups.delete(group.id);
    for (const path of group.paths) this.#whereabouts.adopt(state, path, group);
  }

  /** What an unknown inode is; the state if there is something new to read. */
  async #identify(group: Group): Promise<FileState | undefined> {
    const path = preferredPath(group.paths);
    const { readers } = this.#options;
    const known = this.#options.fileRegistry.byId(group.id);
    if (known !== undefined && known.copyOf === undefined) {
      // Found by another way in this very pass.
      for (const each of group.paths) this.#whereabouts.adopt(known, each, group);
      return undefined;
    }
    try {
      if (!(await this.#unsettled.isReady(path, group))) return undefined;
      const verdict = await this.#recogniser.recognise(path, group);
      if (verdict.kind === "file") {
        for (const each of group.paths) this.#whereabouts.adopt(verdict.state, each, group);
        readers.read(verdict.state);
        return undefined;
      }
      if (verdict.kind === "copy") {
        this.#copies.setAside(group, verdict.of, verdict);
        await this.#copies.remember(path, group, verdict.of, verdict.common);
        return undefined;
      }
      if (verdict.kind === "waiting") {
        this.#unsettled.wait(group, verdict.reason);
        return undefined;
      }
    } catch (error) {
      for (const each of group.paths) this.#unsettled.unreadable(each, toError(error));
      return undefined;
    }
    return this.#newFiles.found(path, group);
  }
}
