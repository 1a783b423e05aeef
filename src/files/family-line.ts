import type { BytePath } from "../runtime/byte-path.ts";
import type { Agenda } from "./agenda.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileState } from "./file-state.ts";
import type { NewFiles } from "./new-files.ts";
import type { Recogniser } from "./recogniser.ts";
import type { SiblingFile } from "./rotation.ts";
import { lookAt } from "./sighting.ts";

/** Time stamps of files are as coarse as 2 s on some file systems, and the kernel's clock for them lags behind. */
const COARSE_TIME_MS = 2_100;

/** Where a member of the family stands on disk: its index among the siblings, oldest first; the path itself is behind them. */
type Ranks = ReadonlyMap<FileState, number>;

/**
 * The generations of one path in the order in which they were there, so that they are read in that order:
 *
 *     disk, oldest first    app.log.3   app.log.2   app.log.1   app.log
 *     what is known         K1 (14)     -           K3 (15)     -          K2 (14.5), deleted, but held open
 *     after `arrange`       K1 (14)     new (14.2)  K3 (15)     new (16)
 *     read one behind the other:  K1 <- new <- K2 <- K3 <- new
 *
 * A generation's number (`FileState.order`) is given once and stored; one that is found later goes between its
 * neighbours. Each one that has not begun waits for the nearest older one that is not finished.
 *
 * A sibling that no pattern matches is read where it is younger than anything known of this path: by its place among
 * the siblings, by its time of modification against the last look at what is gone, or since its inode number was that
 * of a known file when last seen. What is older was there before anybody wanted it.
 */
export class FamilyLine {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #recogniser: Recogniser;
  readonly #newFiles: NewFiles;

  constructor(options: DiscoveryOptions, agenda: Agenda, recogniser: Recogniser, newFiles: NewFiles) {
    this.#options = options;
    this.#agenda = agenda;
    this.#recogniser = recogniser;
    this.#newFiles = newFiles;
  }

  /** Puts every family that has changed in order; what cannot be told now is tried again the next time. */
  async arrange(): Promise<void> {
    const { families } = this.#agenda;
    for (const home of [...families]) {
      families.delete(home);
      if (!(await this.#arrange(home))) families.add(home);
    }
  }

  async #arrange(home: BytePath): Promise<boolean> {
    const { fileRegistry, rotation } = this.#options;
    const members = this.#membersOf(home);
    const only = members.length === 1 ? members[0] : undefined;
    if (members.length === 0 || only?.paths.has(home)) {
      // What is at the path is all that was ever there.
      if (only !== undefined) only.order ??= 1;
      return true;
    }
    const siblings = await rotation.siblings(home);
    if (siblings === undefined) return false;
    if (this.#hasUnknown(home)) {
      // A sibling may be a copy of what is there now, so that is found out first; until then nothing new has its place.
      this.#agenda.again.add(home);
      for (const member of members) member.isBlocked ||= member.order === undefined;
      return false;
    }
    for (const member of members) member.isBlocked = false;
    const ranks = this.#ranksOf(home, members, siblings);
    const isWanted = members.some((member) => member.names.includes(home));
    let isSettled = true;
    let isBlocked = false;
    for (const [rank, sibling] of siblings.entries()) {
      const known = fileRegistry.byId(sibling.id);
      // What cannot be told yet may be a generation of its own: what is younger waits.
      isBlocked ||= fileRegistry.paths.get(sibling.path)?.kind === "waiting";
      if (known !== undefined) {
        known.isBlocked = isBlocked && ranks.has(known);
        if (ranks.has(known) && known.order === undefined) this.#number(known, rank, sibling.stat.modifiedMs, ranks);
        continue;
      }
      const isMissed = isWanted && (await this.#isMissed(sibling, rank, home, ranks));
      if (isMissed === undefined) {
        // Read first, what is younger would be out of order.
        isBlocked = true;
        isSettled = false;
      }
      if (isMissed !== true) continue;
      const missed = this.#newFiles.takeUp(sibling, home);
      ranks.set(missed, rank);
      this.#agenda.rebornIds.delete(sibling.id);
      this.#number(missed, rank, sibling.stat.modifiedMs, ranks);
      this.#settleUnread(missed);
    }
    const current = fileRegistry.ownerOf(home);
    if (current?.paths.has(home)) current.isBlocked = isBlocked;
    for (const member of members) {
      if (member.order === undefined) this.#number(member, ranks.get(member) ?? siblings.length, undefined, ranks);
    }
    this.#link(this.#membersOf(home));
    return isSettled && !isBlocked;
  }

  /** A file lies at the path that was not there when this pass began. */
  #hasUnknown(home: BytePath): boolean {
    const { fileRegistry, patterns, fileSystem, ids } = this.#options;
    if (patterns.judge(home).kind !== "included") return false;
    const { stat } = lookAt(fileSystem, home);
    const use = fileRegistry.paths.get(home);
    return stat !== undefined && (use === undefined || (use.kind !== "unreadable" && use.id !== ids.idOf(stat)));
  }

  #membersOf(home: BytePath): FileState[] {
    return [...this.#options.fileRegistry.family(home)].filter((state) => state.copyOf === undefined);
  }

  #ranksOf(home: BytePath, members: readonly FileState[], siblings: readonly SiblingFile[]): Map<FileState, number> {
    const { fileRegistry } = this.#options;
    // A number of undefined rank: nothing on disk says where it stands.
    const ranks = new Map<FileState, number>();
    for (const [rank, sibling] of siblings.entries()) {
      const state = fileRegistry.byId(sibling.id);
      if (state !== undefined && members.includes(state)) ranks.set(state, rank);
    }
    const owner = fileRegistry.ownerOf(home);
    if (owner?.paths.has(home)) ranks.set(owner, siblings.length);
    for (const member of members) if (!ranks.has(member)) ranks.set(member, Number.NaN);
    return ranks;
  }

  /** Whether a sibling that nobody knows is a generation that came and went unseen; undefined: cannot be told now. */
  async #isMissed(sibling: SiblingFile, rank: number, home: BytePath, ranks: Ranks): Promise<boolean | undefined> {
    const { fileRegistry, patterns } = this.#options;
    // What matches is found by itself.
    if (patterns.judge(sibling.path).kind === "included") return false;
    const isYounger =
      this.#agenda.rebornIds.has(sibling.id) ||
      [...ranks].some(([member, at]) => isBefore(member, at, rank, sibling.stat.modifiedMs));
    if (!isYounger) return false;
    const owner = fileRegistry.ownerOf(home);
    const current = owner?.paths.has(home) ? owner : undefined;
    const isKnown = await this.#recogniser.isKnownContent(sibling, current);
    return isKnown === undefined ? undefined : !isKnown;
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
  #settleUnread(found: FileState): void {
    for (const home of found.names) {
      for (const state of this.#membersOf(home)) {
        if (state.phase !== "missing" || state.offset > 0 || state.fingerprint.length > 0) continue;
        if (state.order !== undefined && found.order !== undefined && state.size <= found.size) state.size = 0;
      }
    }
  }

  #link(members: readonly FileState[]): void {
    const { readers } = this.#options;
    const unfinished = members
      .filter((state) => state.phase !== "finished")
      .sort((a, b) => (a.order ?? 0) - (b.order ?? 0));
    for (const [index, state] of unfinished.entries()) {
      const before = unfinished[index - 1];
      if (before === undefined || state.isReleased || state.linkedTo === before) continue;
      state.linkedTo = before;
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
