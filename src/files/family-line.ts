import { type BytePath, folderOf, pathToText } from "../runtime/byte-path.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileId } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import type { NewFiles } from "./new-files.ts";
import type { Finding, Like } from "./recogniser.ts";
import type { Candidate } from "./survey.ts";

/** Time stamps of files are as coarse as 2 s on some file systems, and the kernel's clock for them lags behind. */
const COARSE_TIME_MS = 2_100;

/** Where a member of the family stands on disk: its index among the candidates, oldest first; NaN: nowhere. */
type Ranks = ReadonlyMap<FileState, number>;

/** A family as it was recognised. */
export interface RecognisedFamily {
  readonly base: BytePath;
  /** Oldest first, what lies at the base itself last. */
  readonly candidates: readonly Candidate[];
  readonly findings: ReadonlyMap<Candidate, Finding>;
  /** Inode numbers that belonged to a known file and hold something else now. */
  readonly reborn: ReadonlySet<FileId>;
}

/**
 * The generations of one path in the order in which they were there, so that they are read in that order:
 *
 *     disk, oldest first    app.log.3   app.log.2   app.log.1   app.log
 *     what is known         K1 (14)     -           K3 (15)     -          K2 (14.5), deleted, but held open
 *     after `arrange`       K1 (14)     new (14.2)  K3 (15)     new (16)
 *     read one behind the other:  K1 <- new <- K2 <- K3 <- new
 *
 * A generation's number (`FileState.order`) is given once and stored; one that is found later goes between its
 * neighbours. Each one that has not begun waits for the nearest older one that is not finished, and none begins while an
 * older candidate is undecided.
 *
 * A candidate that no pattern matches is read where it is younger than anything known of this path: by its place among
 * the candidates, by its time of modification against the last look at what is gone, or since its inode number was that
 * of a known file when last seen. What is older was there before anybody wanted it.
 */
export class FamilyLine {
  readonly #options: DiscoveryOptions;
  readonly #newFiles: NewFiles;
  /** Families in which something is undecided -> who waits for that. */
  readonly #blocked = new Map<BytePath, readonly FileState[]>();

  constructor(options: DiscoveryOptions, newFiles: NewFiles) {
    this.#options = options;
    this.#newFiles = newFiles;
  }

  /** Whom a family that could not be looked at holds back: all that have not begun. */
  hold(base: BytePath): void {
    this.#block(
      base,
      this.#membersOf(base).filter((state) => !state.isReleased),
    );
  }

  /** Takes up the generations that were missed, numbers all, and lines up those that have not begun. */
  arrange(family: RecognisedFamily): void {
    const { base, candidates, findings } = family;
    const { fileRegistry } = this.#options;
    const members = this.#membersOf(base);
    if (members.length === 0) return;
    const ranks = this.#ranksOf(candidates, members);
    const isWanted = members.some((member) => member.names.includes(base));
    const blocked: FileState[] = [];
    let isUndecided = false;
    for (const [rank, candidate] of candidates.entries()) {
      const finding = findings.get(candidate)!;
      isUndecided ||= finding.kind === "undecided" || this.#isWaiting(candidate);
      const known = fileRegistry.byId(candidate.id);
      if (known !== undefined) {
        if (!ranks.has(known)) continue;
        if (isUndecided && !known.isReleased) blocked.push(known);
        if (known.order === undefined && ranks.size > 1) {
          this.#number(known, rank, candidate.stat.modifiedMs, ranks);
          if (!candidate.isHome) this.#settleUnread(known, candidate);
        }
        continue;
      }
      if (finding.kind !== "unknown" || !isWanted || !this.#isMissed(candidate, rank, family, ranks)) continue;
      if (finding.like !== undefined) this.#tellRepeat(candidate, finding.like);
      const missed = this.#newFiles.missed(candidate);
      ranks.set(missed, rank);
      this.#number(missed, rank, candidate.stat.modifiedMs, ranks);
      this.#settleUnread(missed, candidate);
      if (isUndecided) blocked.push(missed);
    }
    // A name that is the only one of its kind says nothing of an order: the file may have its place in another family, too.
    if (ranks.size > 1) {
      for (const [member, rank] of ranks) {
        if (member.order !== undefined) continue;
        this.#number(member, rank, undefined, ranks);
      }
    }
    this.#block(base, blocked);
    this.#link(this.#membersOf(base));
  }

  #tellRepeat(candidate: Candidate, like: Like): void {
    const file = pathToText(candidate.path);
    const message = `${file} may hold some of what was read as ${pathToText(like.path)}; it is read`;
    this.#options.events.emit("repeat", message, { file, bytes: candidate.stat.size });
  }

  #block(base: BytePath, blocked: readonly FileState[]): void {
    const before = this.#blocked.get(base) ?? [];
    if (blocked.length > 0) this.#blocked.set(base, blocked);
    else this.#blocked.delete(base);
    for (const state of blocked) state.isBlocked = true;
    for (const state of before) {
      if (blocked.includes(state)) continue;
      state.isBlocked = [...this.#blocked.values()].some((others) => others.includes(state));
      if (!state.isBlocked) this.#options.readers.read(state);
    }
  }

  /** Of an archive that is still written it cannot be told what it is. */
  #isWaiting({ path, id }: Candidate): boolean {
    const use = this.#options.fileRegistry.paths.get(path);
    return use?.kind === "waiting" && use.id === id;
  }

  #membersOf(base: BytePath): FileState[] {
    return [...this.#options.fileRegistry.family(base)].filter((state) => state.copyOf === undefined);
  }

  #ranksOf(candidates: readonly Candidate[], members: readonly FileState[]): Map<FileState, number> {
    const { fileRegistry } = this.#options;
    const ranks = new Map<FileState, number>();
    for (const [rank, candidate] of candidates.entries()) {
      const state = fileRegistry.byId(candidate.id);
      if (state !== undefined && members.includes(state)) ranks.set(state, rank);
    }
    for (const member of members) if (!ranks.has(member)) ranks.set(member, Number.NaN);
    return ranks;
  }

  /** Whether a candidate of which nothing is known is a generation that came and went unseen. */
  #isMissed(candidate: Candidate, rank: number, family: RecognisedFamily, ranks: Ranks): boolean {
    // What lies at a path is wanted where it matches, and is found by that.
    if (
      candidate.isGuess &&
      !family.candidates.some(
        (c) => folderOf(c.path) === folderOf(candidate.path) && family.findings.get(c)!.kind === "file",
      )
    )
      return false;
    if (candidate.isHome || this.#options.patterns.judge(candidate.path).kind === "included") return false;
    if (family.reborn.has(candidate.id)) return true;
    return [...ranks].some(([member, at]) => isBefore(member, at, rank, candidate.stat.modifiedMs));
  }

  /** Gives a generation its number, between those of its neighbours. */
  #number(state: FileState, rank: number, modifiedMs: number | undefined, ranks: Ranks): void {
    let next = Number.POSITIVE_INFINITY;
    for (const [other, at] of ranks) {
      if (other.order !== undefined && !isBefore(other, at, rank, modifiedMs)) next = Math.min(next, other.order);
    }
    let before = Number.NEGATIVE_INFINITY;
    for (const [other, at] of ranks) {
      if (other.order !== undefined && other.order < next && isBefore(other, at, rank, modifiedMs)) {
        before = Math.max(before, other.order);
      }
    }
    if (next === Number.POSITIVE_INFINITY)
      state.order = before === Number.NEGATIVE_INFINITY ? 1 : Math.floor(before) + 1;
    else state.order = before === Number.NEGATIVE_INFINITY ? next - 1 : (before + next) / 2;
  }

  /** Of a file that was lost before anything was read of it nothing proves where its content is; this is it. */
  #settleUnread(found: FileState, { base, format }: Candidate): void {
    // How much an archive holds is not known before it is read.
    const foundBytes = format === undefined ? found.size : Number.POSITIVE_INFINITY;
    for (const state of this.#membersOf(base)) {
      if (state === found || state.phase !== "missing" || state.given > 0 || state.isKnownByContent) continue;
      // One that never had neighbours may have no number yet.
      if (state.knownEnd > foundBytes) continue;
      state.size = 0;
      state.knownEnd = 0;
    }
  }

  #link(members: readonly FileState[]): void {
    const { readers } = this.#options;
    const unfinished = members
      .filter((state) => state.phase !== "finished")
      .sort((a, b) => (a.order ?? 0) - (b.order ?? 0));
    for (const [index, state] of unfinished.entries()) {
      const before = unfinished[index - 1];
      if (before === undefined || state.isReleased || state.waitedFor === before.key) continue;
      state.waitedFor = before.key;
      state.predecessor = before;
      readers.markEnd(before);
      readers.read(before);
    }
  }
}

/** Whether `member`, which is at `at` (NaN: nowhere), was there before what is at `rank`. */
function isBefore(member: FileState, at: number, rank: number, modifiedMs: number | undefined): boolean {
  if (!Number.isNaN(at)) return at < rank;
  if (modifiedMs === undefined) return true;
  // Of one clock, so exact: what was last written before this one was there is older.
  if (member.birthNs !== "0" && modifiedMs < Number(BigInt(member.birthNs) / 1_000_000n)) return false;
  return modifiedMs > member.lastSeenMs - COARSE_TIME_MS;
}
