import { toError } from "../errors.ts";
import { type BytePath, folderOf, pathToText } from "../runtime/byte-path.ts";
import { Copies } from "./copies.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { Evidence } from "./evidence.ts";
import { FamilyLine } from "./family-line.ts";
import type { FileId } from "./file-id.ts";
import { FileState } from "./file-state.ts";
import { Missing } from "./missing.ts";
import { NewFiles } from "./new-files.ts";
import { type Finding, Recogniser, type Recognition } from "./recogniser.ts";
import { lookAt, type Sighting } from "./sighting.ts";
import { type Candidate, Survey } from "./survey.ts";
import { UnsettledPaths } from "./unsettled-paths.ts";
import { Whereabouts } from "./whereabouts.ts";

/** Families that meet in one file (a hard link, a symbolic link's two names) are recognised together, up to so many. */
const MAX_BASES = 32;

/** How often one family is recognised in one pass. */
const MAX_ROUNDS = 3;

/** The survey of families that meet. */
interface Cluster {
  /** Oldest first, what lies at the base last; undefined: it cannot be told what is there. */
  readonly candidates: ReadonlyMap<BytePath, readonly Candidate[] | undefined>;
  readonly members: readonly FileState[];
}

/**
 * Which file is this? One pass at a time turns what the watcher saw, and what tailers found out, into files:
 *
 *     sightings -> sort       known path, same inode: read on. Anything else touches the families of that path
 *     families  -> survey     what lies at the path and under the names that rotation gives, in one instant
 *               -> recognise  which of it is which file that is known; what is a copy, what is unknown, what is lost
 *               -> apply      files are placed, copies set aside, new ones taken up, lost ones looked for
 *               -> line up    each waits for the one before it; generations never seen are read in between
 *
 * The same steps run after a downtime: what is stored is a claim then, until its content was compared. Nobody else changes
 * where a file is: tailers say that theirs was cut off or moved, and the next pass finds out.
 * Wherever the evidence is ambiguous bytes are repeated, never skipped, and an event says so.
 */
export class Discovery {
  readonly #options: DiscoveryOptions;
  readonly #whereabouts: Whereabouts;
  readonly #unsettled: UnsettledPaths;
  readonly #recogniser: Recogniser;
  readonly #newFiles: NewFiles;
  readonly #copies: Copies;
  readonly #missing: Missing;
  readonly #line: FamilyLine;
  /** Paths of which it is to be found out what they are. */
  readonly #open = new Map<BytePath, Sighting>();
  /** Families of which something could not be told: looked at again at the pace of the scan. */
  readonly #undecided = new Set<BytePath>();
  /** Nobody opens them before this pass has lined them up. */
  readonly #inDoubt = new Set<FileState>();
  /** With the inode in which that was found. */
  readonly #cutOff = new Map<FileState, FileId | undefined>();
  readonly #moved = new Map<FileState, FileId | undefined>();
  #idsForgottenMs: number;
  #lastSearchMs = Number.NEGATIVE_INFINITY;
  #isFirstPass = true;

  constructor(options: DiscoveryOptions) {
    this.#options = options;
    this.#idsForgottenMs = options.clock.monotonic();
    const { fileRegistry, readers, contents, ids, fileSystem } = options;
    const evidence = new Evidence(contents, ids);
    this.#whereabouts = new Whereabouts(options);
    this.#unsettled = new UnsettledPaths(options);
    this.#recogniser = new Recogniser({ fileRegistry, readers, evidence, contents, fileSystem, ids });
    this.#newFiles = new NewFiles(options, this.#whereabouts);
    this.#copies = new Copies(options, this.#whereabouts, this.#newFiles);
    this.#missing = new Missing(options, this.#whereabouts);
    this.#line = new FamilyLine(options, this.#newFiles);
  }

  /** True while something is still to be found out that another pass may settle. */
  get isUnsettled(): boolean {
    if (this.#whereabouts.touched.size > 0 || this.#undecided.size > 0 || this.#missing.size > 0) return true;
    if (this.#open.size > 0 || this.#cutOff.size > 0 || this.#moved.size > 0) return true;
    for (const use of this.#options.fileRegistry.paths.values()) if (use.kind === "waiting") return true;
    return false;
  }

  /** Takes up what the store says: claims, each to be proved. */
  load(): void {
    const { positions, source, fileRegistry } = this.#options;
    const states = [...positions.files()].map(([key, entry]) => {
      const position = { offset: positions.startOf(key), furthest: positions.furthestOf(key) };
      return new FileState(source, key, entry, position);
    });
    const byAge = states.sort((a, b) => (a.order ?? 0) - (b.order ?? 0) || a.lastSeenMs - b.lastSeenMs);
    for (const state of byAge) fileRegistry.add(state);
    const originals = byAge.filter(({ copyOf }) => copyOf === undefined);
    // The newest name is the surest: who was last seen there is its owner, whoever had it before.
    for (const state of originals) for (const name of state.names) fileRegistry.setOwner(name, state);
    for (const state of originals) fileRegistry.setOwner(state.newestName, state);
    for (const state of originals) {
      if (this.#isWanted(state)) this.#whereabouts.touchAll(state);
    }
  }

  // ------------------------------------------------------------ what tailers found out

  /** The content before its offset is not what was read; its tailer has ended. */
  truncated(state: FileState): void {
    state.isInDoubt = true;
    this.#cutOff.set(state, state.id);
  }

  /** Something else lies where the file was expected, or nothing. */
  moved(state: FileState): void {
    this.#moved.set(state, state.id);
  }

  /** The file is as if it had never been seen; not to be called during a pass. */
  forget(state: FileState): void {
    const { fileRegistry } = this.#options;
    for (const path of fileRegistry.copiesOf(state)) this.#reopen(path);
    for (const copy of [...fileRegistry.states]) if (copy.copyOf === state.key) this.#whereabouts.forgetCopy(copy);
    const paths = [...state.paths];
    this.#whereabouts.drop(state);
    for (const path of paths) this.#reopen(path);
    this.#cutOff.delete(state);
    this.#moved.delete(state);
    this.#missing.forget(state);
    // Whoever waits for it goes on.
    state.finish(this.#options.clock.now());
  }

  /** No path that matches leads to it any more, since others match now: it is as at a start, and keeps its position. */
  letGo(state: FileState): void {
    this.#whereabouts.letGo(state);
    this.#missing.forget(state);
    this.#cutOff.delete(state);
    this.#moved.delete(state);
  }

  /** See `Copies.settle`. */
  settleCopies(): void {
    this.#copies.settle();
  }

  // ------------------------------------------------------------ a pass

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
    await this.#options.places.refresh();
    this.#newFiles.startPass();
    const sightings = await watcher.look();
    for (const path of watcher.takeUnmatched()) if (this.#isBesideKnown(path)) this.#whereabouts.touch(path);
    const grown = sightings.filter((sighting) => !this.#sort(sighting));
    // What was not to be told last time is tried again at the pace of the scan, not at that of notifications.
    if (clock.monotonic() - this.#lastSearchMs >= scanIntervalMs) {
      this.#lastSearchMs = clock.monotonic();
      this.#missing.searchAgain();
      for (const base of this.#undecided) this.#whereabouts.touched.add(base);
      for (const path of this.#unsettled.reconsider()) this.#reopen(path);
    }
    this.#takeReports();
    // Nothing is read of a family before it was looked at: a copy that appeared may be the only sign of a truncation.
    const { touched } = this.#whereabouts;
    const waiting: Sighting[] = [];
    for (const sighting of grown) {
      if (touched.has(this.#whereabouts.homeOf(sighting.path))) waiting.push(sighting);
      else this.#grow(sighting);
    }
    await this.#recogniseTouched();
    for (const sighting of waiting) this.#grow(sighting);
    this.#unsettled.tellReadable();
    if (this.#isFirstPass) {
      this.#isFirstPass = false;
      this.#dropOrphanedCopies();
      this.#newFiles.endPass();
      this.#options.positions.started();
    }
  }

  #isBesideKnown(path: BytePath): boolean {
    return this.#options.fileRegistry.family(path).size > 0;
  }

  /** A tailer that ended says what it found; where its file is now is for this pass to tell. */
  #takeReports(): void {
    const { readers } = this.#options;
    for (const [state, id] of this.#cutOff) {
      state.isInDoubt = false;
      // One that was found elsewhere, or opened anew, proved its content.
      if (state.id !== id || readers.holds(state)) continue;
      const paths = [...state.paths];
      this.#whereabouts.cutOff(state);
      for (const path of paths) this.#reopen(path);
    }
    this.#cutOff.clear();
    for (const [state, id] of this.#moved) {
      if (state.id !== id) continue;
      for (const path of state.paths) this.#reopen(path);
      if (state.paths.size === 0) this.#whereabouts.strayed(state);
      this.#whereabouts.touchAll(state);
    }
    this.#moved.clear();
  }

  /** It is to be found out what lies there. */
  #reopen(path: BytePath): void {
    const sighting = { ...lookAt(this.#options.fileSystem, path), isLink: this.#options.watcher.isLink(path) };
    if (!this.#sort(sighting)) this.#grow(sighting);
  }

  /** A known file is where it was, and may have grown. */
  #grow({ path, stat }: Sighting): void {
    const use = this.#options.fileRegistry.paths.get(path);
    const state = this.#whereabouts.followedAt(path) ?? (use?.kind === "file" ? use.state : undefined);
    if (stat === undefined || state === undefined || this.#options.ids.idOf(stat) !== state.id) return;
    const hasChanged = use?.kind !== "file" || use.stat.size !== stat.size || use.stat.modifiedMs !== stat.modifiedMs;
    if (use?.kind === "file") use.stat = stat;
    if (hasChanged || state.phase !== "finished") this.#whereabouts.changed(state, stat);
  }

  /** False: a known file is still where it was (`#grow`). */
  #sort(sighting: Sighting): boolean {
    const { ids, fileRegistry } = this.#options;
    const { path, stat, error } = sighting;
    const followed = this.#whereabouts.followedAt(path);
    if (followed !== undefined) {
      if (stat === undefined || ids.idOf(stat) !== followed.id) this.#whereabouts.strayed(followed);
      else if (followed.copyOf === undefined) return false;
      else this.#whereabouts.touchAll(followed);
      return true;
    }
    if (!this.#whereabouts.isIncluded(path)) return true;
    const use = fileRegistry.paths.get(path);
    if (error !== undefined) {
      this.#unsettled.unreadable(path, error);
      return true;
    }
    this.#unsettled.lookedAt(path);
    if (stat === undefined) {
      this.#open.delete(path);
      if (use?.kind === "file") this.#whereabouts.lose(use.state, path);
      else if (use !== undefined) fileRegistry.removePath(path);
      this.#whereabouts.touch(path);
      return true;
    }
    const id = ids.idOf(stat);
    if (use?.kind === "file" && use.id === id && use.state.id === id) return false;
    if (use?.kind === "file") this.#whereabouts.lose(use.state, path);
    this.#open.set(path, sighting);
    this.#whereabouts.touch(path);
    return true;
  }

  async #recogniseTouched(): Promise<void> {
    const { fileSystem, ids, contents, clock, places } = this.#options;
    const survey = new Survey({ fileSystem, ids, contents, clock, places });
    const { touched } = this.#whereabouts;
    const seen = new Map<BytePath, number>();
    while (touched.size > 0) {
      const base = touched.values().next().value!;
      touched.delete(base);
      // What one family leads to in another is found out in this pass; what goes round in circles, in the next one.
      const times = (seen.get(base) ?? 0) + 1;
      seen.set(base, times);
      if (times > MAX_ROUNDS) {
        this.#undecided.add(base);
        continue;
      }
      try {
        await this.#recognise(base, survey);
      } catch (error) {
        this.#undecided.add(base);
        this.#options.log.debug(
          { error: toError(error).message },
          "discovery could not tell; the next pass looks again",
        );
      }
    }
    for (const state of this.#inDoubt) {
      state.isInDoubt = false;
      this.#options.readers.read(state);
    }
    this.#inDoubt.clear();
  }

  #doubt(state: FileState): void {
    state.isInDoubt = true;
    this.#inDoubt.add(state);
  }

  async #recognise(base: BytePath, survey: Survey): Promise<void> {
    const { touched } = this.#whereabouts;
    const near = await this.#survey(base, survey, false);
    for (const each of near.candidates.keys()) {
      touched.delete(each);
      this.#undecided.delete(each);
    }
    const first = await this.#recognised(near);
    if (this.#isAllThere(near, first)) {
      await this.#apply(near, first);
      return;
    }
    const wide = await this.#survey(base, survey, true);
    const second = await this.#recognised(wide);
    // What was refuted by the first look is not asked again.
    const displaced = new Set([...first.displaced, ...second.displaced]);
    const reborn = new Set([...first.reborn, ...second.reborn]);
    await this.#apply(wide, { ...second, displaced, reborn });
  }

  #recognised({ members, candidates }: Cluster): Promise<Recognition> {
    for (const state of members) if (!this.#options.readers.holds(state)) this.#doubt(state);
    return this.#recogniser.recognise(
      members,
      [...candidates.values()].flatMap((each) => each ?? []),
    );
  }

  /** Everything that may be of the families that meet in a member of `base`. */
  async #survey(base: BytePath, survey: Survey, isWide: boolean): Promise<Cluster> {
    const { fileRegistry } = this.#options;
    const candidates = new Map<BytePath, readonly Candidate[] | undefined>();
    const members = new Set<FileState>();
    const bases = [base];
    for (const each of bases) {
      if (candidates.has(each) || candidates.size >= MAX_BASES) continue;
      const kin = [...fileRegistry.family(each)].filter((state) => state.copyOf === undefined && this.#isWanted(state));
      candidates.set(each, await survey.family(each, isWide));
      for (const state of kin) {
        if (members.has(state)) continue;
        members.add(state);
        for (const name of state.names) bases.push(this.#whereabouts.homeOf(name));
      }
    }
    return { candidates, members: [...members] };
  }

  /**
   * The folder of a family answers for all of it: nothing of it is nowhere, and nothing came that may have replaced
   * something. Other folders are looked at only where it does not, since there may be many families in one.
   */
  #isAllThere({ members, candidates }: Cluster, { findings, lost, displaced }: Recognition): boolean {
    if (members.length === 0) return true;
    if (displaced.size > 0 || [...candidates.values()].includes(undefined)) return false;
    for (const { kind } of findings.values()) if (kind !== "file" && kind !== "copy" && kind !== "twin") return false;
    const folders = new Set([...candidates.keys()].map(folderOf));
    return lost.every((state) => state.phase === "finished" && folders.has(folderOf(state.newestName)));
  }

  /** Some path that it was at matches. */
  #isWanted({ names }: FileState): boolean {
    return names.some((name) => this.#whereabouts.isIncluded(name));
  }

  // ------------------------------------------------------------ what was found out

  async #apply(cluster: Cluster, recognition: Recognition): Promise<void> {
    const { readers, fileSystem, watcher } = this.#options;
    const { findings, displaced, lost, reborn } = recognition;
    for (const state of displaced) {
      // Its tailer reads what it was displaced from.
      await readers.stop(state);
      const paths = [...state.paths];
      if (state.phase === "finished" || !this.#isAtItsName(state, findings)) this.#whereabouts.displace(state);
      else this.#whereabouts.cutOff(state);
      for (const path of paths) this.#open.set(path, { ...lookAt(fileSystem, path), isLink: watcher.isLink(path) });
    }
    this.#leavePaths(cluster, findings);
    let canTell = true;
    for (const [base, candidates] of cluster.candidates) {
      if (candidates === undefined) {
        canTell = false;
        this.#undecided.add(base);
        continue;
      }
      for (const candidate of candidates) {
        const finding = findings.get(candidate)!;
        if (finding.kind === "undecided" || finding.kind === "unreadable") {
          canTell = false;
          // A run that ends with what is there now does not wait until an operator lets it look.
          if (finding.kind === "undecided" || !this.#options.isOnce) this.#undecided.add(base);
        }
        await this.#applyTo(candidate, finding);
      }
    }
    for (const state of cluster.members) {
      if (!readers.holds(state) || state.paths.size > 0 || state.location !== undefined) continue;
      // Its descriptor reaches the content, whatever became of its name.
      if (state.phase === "live" || state.phase === "missing") this.#whereabouts.rotated(state, "deleted");
    }
    for (const state of lost) {
      if (readers.holds(state) || this.#isPlaced(state)) continue;
      if (state.paths.size > 0) for (const path of [...state.paths]) this.#whereabouts.lose(state, path);
      this.#missing.lost(state, { canTell, isCut: displaced.has(state) });
    }
    for (const [base, candidates] of cluster.candidates) {
      this.#whereabouts.touched.delete(base);
      if (candidates === undefined) this.#line.hold(base);
      else this.#line.arrange({ base, candidates, findings, reborn });
    }
  }

  /** Paths at which something else lies by now, or nothing, before anything is placed: a file has no place but its own. */
  #leavePaths({ candidates, members }: Cluster, findings: Recognition["findings"]): void {
    const states = new Map<BytePath, FileState | undefined>();
    for (const [{ path }, finding] of findings) states.set(path, finding.kind === "file" ? finding.state : undefined);
    for (const state of members) {
      for (const path of [...state.paths]) {
        const canTell = candidates.get(this.#whereabouts.homeOf(path)) !== undefined;
        if (canTell && states.get(path) !== state) this.#whereabouts.lose(state, path);
      }
    }
  }

  /** What lies at one of its names now is what was displaced: it was cut where it was, not given to another file. */
  #isAtItsName(state: FileState, findings: Recognition["findings"]): boolean {
    for (const { path, id } of findings.keys()) {
      if (state.names.includes(path) && (state.id === id || `${state.fileSystem}\0${state.inode}` === id)) return true;
    }
    return false;
  }

  /** It was found in this very pass. */
  #isPlaced(state: FileState): boolean {
    return state.id !== undefined && (state.paths.size > 0 || state.location !== undefined);
  }

  async #applyTo(candidate: Candidate, finding: Finding): Promise<void> {
    const { path } = candidate;
    const isIncluded = this.#whereabouts.isIncluded(path);
    const sighting = this.#open.get(path);
    this.#open.delete(path);
    switch (finding.kind) {
      case "file":
        await this.#whereabouts.place(finding.state, candidate);
        return;
      case "copy":
        await this.#copies.setAside(candidate, finding);
        return;
      case "twin":
        if (isIncluded) this.#unsettled.twin(candidate);
        return;
      case "undecided":
        if (isIncluded) this.#unsettled.wait(candidate, "it cannot be told yet what it holds");
        return;
      case "unreadable":
        if (isIncluded) this.#unsettled.unreadable(path, finding.error);
        return;
      case "unknown":
        if (isIncluded) await this.#takeUp(candidate, finding, sighting?.isLink ?? this.#options.watcher.isLink(path));
    }
  }

  async #takeUp(candidate: Candidate, finding: Finding & { kind: "unknown" }, isLink: boolean): Promise<void> {
    const { fileRegistry } = this.#options;
    const known = fileRegistry.byId(candidate.id);
    if (known !== undefined && known.copyOf === undefined) {
      // Another name of what was taken up in this very pass.
      await this.#whereabouts.place(known, candidate);
      return;
    }
    const real = await this.#whereabouts.followedBehind(candidate.path);
    if (real !== undefined) {
      this.#unsettled.wait(candidate, `${pathToText(real)}, which it leads to, is found first`);
      this.#whereabouts.touch(real);
      this.#undecided.add(candidate.base);
      return;
    }
    if (known !== undefined) this.#whereabouts.forgetCopy(known);
    try {
      if (!(await this.#unsettled.isReady(candidate))) return;
    } catch (error) {
      this.#unsettled.unreadable(candidate.path, toError(error));
      return;
    }
    if (finding.like !== undefined) {
      const file = pathToText(candidate.path);
      const message = `${file} may hold some of what was read as ${pathToText(finding.like.path)}; it is read`;
      this.#options.events.emit("repeat", message, { file, bytes: candidate.stat.size });
    }
    const state = await this.#newFiles.found(candidate, isLink);
    if (state === undefined) return;
    this.#doubt(state);
    this.#whereabouts.touchAll(state);
  }

  /** Copies whose original is not known any more stand for nothing. */
  #dropOrphanedCopies(): void {
    const { fileRegistry } = this.#options;
    for (const state of [...fileRegistry.states]) {
      if (state.copyOf !== undefined && fileRegistry.get(state.copyOf) === undefined)
        this.#whereabouts.forgetCopy(state);
    }
  }
}
