import type { FileSystem } from "../runtime/file-system.ts";
import type { Content } from "./content.ts";
import type { Contents } from "./contents.ts";
import type { Evidence } from "./evidence.ts";
import { familyOf } from "./family.ts";
import type { FileId, FileIds } from "./file-id.ts";
import type { FileRegistry } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";
import { FINGERPRINT_BYTES } from "./fingerprint.ts";
import { judge, type Verdict } from "./judge.ts";
import type { Readers } from "./readers.ts";
import { lookAt } from "./sighting.ts";
import type { Candidate } from "./survey.ts";

/** What a candidate is. */
export type Finding =
  /** It holds the content of a file that is known; `isSaved`: under a new inode, as an editor saves it. */
  | { readonly kind: "file"; readonly state: FileState; readonly isSaved: boolean }
  /** It holds what another gives already, `common` bytes of it at least. */
  | { readonly kind: "copy"; readonly of: FileState; readonly common: number; readonly isProven: boolean }
  /** An archive whose plain file is still there, which holds the content. */
  | { readonly kind: "twin" }
  /** It cannot be told now; the next look may tell. */
  | { readonly kind: "undecided" }
  | { readonly kind: "unreadable"; readonly error: Error }
  /** No content that is known. `like`: equal as far as can be told, but that proves nothing. */
  | { readonly kind: "unknown"; readonly like: Like | undefined };

/** What some content may be, for all that its bytes tell. */
export type Like = Pick<FileState, "path">;

export interface Recognition {
  readonly findings: ReadonlyMap<Candidate, Finding>;
  /** Files of the family whose content is in none of the candidates, and that no tailer holds open. */
  readonly lost: readonly FileState[];
  /** Files whose path holds something else by now, or what they were was cut off: they are at no path any more. */
  readonly displaced: ReadonlySet<FileState>;
  /** Inode numbers that belonged to a known file and hold something else now: surely younger than that. */
  readonly reborn: ReadonlySet<FileId>;
}

/** Tombstones that a candidate is compared with, the newest; older ones are long gone from any disk. */
const MAX_TOMBSTONES = 64;
/** An archive keeps the modification time of what is in it, to the second. */
const ARCHIVE_TIME_MS = 2_100;

interface RecogniserOptions {
  readonly fileSystem: FileSystem;
  readonly ids: FileIds;
  readonly fileRegistry: FileRegistry;
  readonly readers: Readers;
  readonly evidence: Evidence;
  readonly contents: Contents;
}

/**
 * Says of all files of one family at once which of them is which file that is known (ADR 0016). It changes nothing but what
 * is proved: claims that are refuted, and looks at which content was compared.
 *
 *     1 by number   the inode is known: held open (sure), untouched since it was proved, or its content is right
 *     2 by content  a file that is at none of its inodes: renamed across file systems, copied, compressed, restored
 *     3 saved       the path's own file, held open and without a name: an editor put the same content into a new inode
 *     4 copies      what a file that is there gives already: made to truncate it, or an archive of it
 *
 * What is left is unknown; what was looked for in vain is lost.
 */
export class Recogniser {
  readonly #options: RecogniserOptions;

  constructor(options: RecogniserOptions) {
    this.#options = options;
  }

  /** @param candidates oldest first, what lies at the path itself last */
  async recognise(members: readonly FileState[], candidates: readonly Candidate[]): Promise<Recognition> {
    const round = new Round(this.#options, members, candidates);
    await round.byNumber();
    await round.byContent();
    await round.saved();
    await round.copies();
    return round.result();
  }
}

/** One recognition. */
class Round {
  readonly #options: RecogniserOptions;
  readonly #members: readonly FileState[];
  /** One for each inode: the path itself, or else the youngest name. */
  readonly #candidates: readonly Candidate[];
  readonly #aliases: readonly Candidate[];
  readonly #findings = new Map<Candidate, Finding>();
  readonly #found = new Map<FileState, Candidate>();
  readonly #displaced = new Set<FileState>();
  readonly #reborn = new Set<FileId>();
  readonly #verdicts = new Map<Candidate, ReadonlyMap<FileState, Verdict>>();
  readonly #like = new Map<Candidate, Like>();
  /** Had no proof in this run before: what happened to their paths meanwhile was not seen. */
  readonly #recalled = new Set<FileState>();

  constructor(options: RecogniserOptions, members: readonly FileState[], candidates: readonly Candidate[]) {
    this.#options = options;
    this.#members = members;
    const byId = new Map<FileId, Candidate>();
    for (const candidate of candidates) {
      const before = byId.get(candidate.id);
      if (before === undefined || !before.isHome) byId.set(candidate.id, candidate);
    }
    this.#candidates = [...byId.values()];
    this.#aliases = candidates.filter((candidate) => byId.get(candidate.id) !== candidate);
  }

  // ------------------------------------------------------------ 1 by number

  async byNumber(): Promise<void> {
    for (const candidate of this.#candidates) {
      const finding = await this.#byNumber(candidate);
      if (finding === undefined) continue;
      this.#findings.set(candidate, finding);
      if (finding.kind === "file") this.#found.set(finding.state, candidate);
    }
  }

  async #byNumber(candidate: Candidate): Promise<Finding | undefined> {
    const { fileRegistry, readers } = this.#options;
    const known = fileRegistry.byId(candidate.id);
    if (known !== undefined) {
      if (known.copyOf === undefined && (readers.holds(known) || this.#isStillThere(known, candidate)))
        return { kind: "file", state: known, isSaved: false };
      const answer = isUntouched(known, candidate) ? "yes" : await this.#isStill(known, candidate);
      if (answer === "yes") return this.#asKnown(known, candidate);
      if (answer === "unknown") return { kind: "undecided" };
      if (answer instanceof Error) return { kind: "unreadable", error: answer };
      await readers.stop(known);
      this.#displace(known, candidate.id);
    }
    for (const claimant of fileRegistry.claimants(candidate.id)) {
      const answer = await this.#isStill(claimant, candidate);
      if (answer === "unknown") return { kind: "undecided" };
      if (answer instanceof Error) return { kind: "unreadable", error: answer };
      if (answer === "yes") {
        this.#recalled.add(claimant);
        return this.#asKnown(claimant, candidate);
      }
      fileRegistry.dropClaim(claimant);
      this.#displace(claimant, candidate.id);
    }
    return undefined;
  }

  /** Its own path leads to that very inode at this instant, which so has two names: no number was given to another file. */
  #isStillThere(state: FileState, { path, id }: Candidate): boolean {
    const { location } = state;
    if (location === undefined || location === path || state.given > 0) return false;
    const { stat } = lookAt(this.#options.fileSystem, location);
    return stat !== undefined && this.#options.ids.idOf(stat) === id && stat.size >= state.size;
  }

  #displace(state: FileState, id: FileId): void {
    this.#displaced.add(state);
    this.#reborn.add(id);
  }

  #asKnown(state: FileState, candidate: Candidate): Finding | undefined {
    if (state.copyOf === undefined) return { kind: "file", state, isSaved: false };
    const original = this.#options.fileRegistry.get(state.copyOf);
    // A copy that grew is looked at anew; one whose original is forgotten stands for itself.
    if (original === undefined || candidate.stat.size !== state.size) return undefined;
    return { kind: "copy", of: original, common: state.start, isProven: true };
  }

  /** Whether the inode of a file still holds it. */
  async #isStill(state: FileState, candidate: Candidate): Promise<"yes" | "no" | "unknown" | Error> {
    if (isSameLook(state.rejected, candidate)) return "no";
    const isPlain = candidate.format === undefined;
    // One of which nothing could be decompressed: whatever is in it now is to be read.
    if (!isPlain && state.archive !== undefined && state.given === 0)
      return state.newestName === candidate.path ? "yes" : "no";
    if (!isPlain && !state.isKnownByContent) return "no";
    const comparison = await this.#options.evidence.compare(candidate, state);
    switch (comparison.verdict) {
      case "same":
        state.proved = { id: candidate.id, ...comparison.stat };
        return "yes";
      case "alike":
        return (await this.#isUnread(state, candidate, comparison.stat.size)) ? "yes" : "no";
      case "unreadable":
        // The tailer that opens it proves it; a tombstone has none.
        if (state.phase === "finished" || state.copyOf !== undefined) return comparison.error;
        state.isUnproven = true;
        return "yes";
      case "gone":
        return "unknown";
      case "shorter":
      case "other":
        return "no";
    }
  }

  /**
   * Nothing tells its content from any other. Nothing was given out of it either, so whatever its inode holds is read from
   * its start, as this file or as another: what must not happen is that it takes a copy of something that is known.
   */
  async #isUnread(state: FileState, candidate: Candidate, size: number): Promise<boolean> {
    if (state.given > state.start) return size >= state.given;
    if (size < state.size || !isOfFamily(candidate, state)) return false;
    if (state.phase === "finished" && !state.names.includes(candidate.path)) return false;
    const birthNs = String(candidate.stat.birthNs);
    if (state.birthNs !== "0" && birthNs !== "0") return state.birthNs === birthNs;
    if (candidate.isHome) return true;
    const home = this.#candidates.find(({ isHome, base }) => isHome && base === candidate.base);
    if (home === undefined || home.id === candidate.id) return true;
    return (await this.#withContentAt(home, (content) => this.#options.evidence.isCopyOf(candidate, content))) !== true;
  }

  // ------------------------------------------------------------ 2 by content

  async byContent(): Promise<void> {
    const lost = this.#lost();
    if (lost.length === 0) return;
    const urgency = (state: FileState) => Number(state.phase !== "finished");
    const inOrder = lost
      .filter((state) => state.isKnownByContent)
      .sort(
        (a, b) => urgency(b) - urgency(a) || b.evidence.guard.end - a.evidence.guard.end || b.lastSeenMs - a.lastSeenMs,
      );
    for (const state of lost) {
      const copy = this.#candidates.find((candidate) => this.#isWholeCopy(candidate, state));
      if (copy === undefined) continue;
      this.#findings.set(copy, { kind: "file", state, isSaved: false });
      this.#found.set(state, copy);
    }
    for (const state of inOrder) {
      if (this.#found.has(state)) continue;
      for (const candidate of this.#unknown()) {
        if (candidate.hasPlainTwin || !(await this.#mayHold(candidate, state))) continue;
        this.#findings.set(candidate, { kind: "file", state, isSaved: candidate.isHome });
        this.#found.set(state, candidate);
        break;
      }
    }
  }

  /**
   * It was noted as a copy of this very file, and reaches as far as anything that was given out of that; of one that was
   * read to its end, further.
   */
  #isWholeCopy(candidate: Candidate, state: FileState): boolean {
    const finding = this.#findings.get(candidate);
    if (finding?.kind !== "copy" || finding.of !== state) return false;
    if (state.phase === "finished")
      return candidate.format === undefined && finding.common >= state.given && candidate.stat.size > state.size;
    return candidate.format !== undefined || candidate.stat.size >= state.given;
  }

  /** Whether a candidate on another inode holds the content of a file that is at none of its own. */
  async #mayHold(candidate: Candidate, state: FileState): Promise<boolean> {
    const { fileRegistry, evidence } = this.#options;
    const isPlain = candidate.format === undefined;
    if (isPlain && candidate.stat.size < state.given) return false;
    if (isSameLook(state.rejected, candidate) || !isOfFamily(candidate, state)) return false;
    if (candidate.isHome) {
      // At the path itself lies what was there last and is nowhere else (restored, or saved by an editor); what was
      // rotated away from there is another file, however equal it begins.
      if (fileRegistry.ownerOf(candidate.path) !== state) return false;
      if (fileRegistry.isRotationOf(state.newestName, candidate.path)) return false;
      if (state.rotation === "copy_truncated") return false;
    }
    if (state.phase === "finished") {
      // Nothing was given out of it: whoever holds the same is to be read.
      if (state.given === 0) return false;
      // It was a file of its own, read to its end: one that begins with all of it and is longer is more likely a younger
      // one with the same header than a copy that went on.
      if (isPlain && candidate.stat.size > state.size) {
        if ((await this.#verdictsOf(candidate))?.get(state) === "same") this.#like.set(candidate, state);
        return false;
      }
    }
    const verdict = (await this.#verdictsOf(candidate))?.get(state);
    if (verdict !== "same") return false;
    if (!(await evidence.isRepetitive(candidate, state))) return true;
    // All lines are equal: the times must agree, too.
    const isLike = isPlain
      ? state.phase !== "finished" && candidate.stat.modifiedMs >= state.modifiedMs - ARCHIVE_TIME_MS
      : state.modifiedMs > 0 && Math.abs(candidate.stat.modifiedMs - state.modifiedMs) <= ARCHIVE_TIME_MS;
    if (!isLike) this.#like.set(candidate, state);
    return isLike;
  }

  /** What the judge says of a candidate and each file that it may be; undefined: it cannot be looked into now. */
  async #verdictsOf(candidate: Candidate): Promise<ReadonlyMap<FileState, Verdict> | undefined> {
    const before = this.#verdicts.get(candidate);
    if (before !== undefined) return before;
    const known = this.#members.filter((state) => state.isKnownByContent);
    const tombstones = known
      .filter(({ phase }) => phase === "finished")
      .sort((a, b) => b.lastSeenMs - a.lastSeenMs)
      .slice(0, MAX_TOMBSTONES);
    const states = [...known.filter(({ phase }) => phase !== "finished"), ...tombstones];
    const verdicts = await this.#options.evidence.compareAll(candidate, states);
    if (verdicts === "gone" || verdicts instanceof Error) {
      const isGone = verdicts === "gone";
      this.#findings.set(candidate, isGone ? { kind: "undecided" } : { kind: "unreadable", error: verdicts });
      return undefined;
    }
    this.#verdicts.set(candidate, verdicts);
    return verdicts;
  }

  // ------------------------------------------------------------ 3 saved

  /** What lies at a path holds all that its file gave, whose inode has no name of its family any more. */
  async saved(): Promise<void> {
    for (const candidate of this.#unknown()) {
      const state = this.#options.fileRegistry.ownerOf(candidate.base);
      if (state === undefined || !(await this.#isSavedAs(state, candidate))) continue;
      this.#findings.set(candidate, { kind: "file", state, isSaved: true });
      this.#found.set(state, candidate);
    }
  }

  async #isSavedAs(state: FileState, candidate: Candidate): Promise<boolean> {
    const { fileRegistry, readers, evidence } = this.#options;
    if (candidate.format !== undefined || this.#found.has(state) || !readers.holds(state)) return false;
    if (state.given > 0 && !state.isKnownByContent) return false;
    if (isSameLook(state.rejected, candidate)) return false;
    if (fileRegistry.isRotationOf(state.newestName, candidate.base)) return false;
    if (state.given > 0 && (await this.#verdictsOf(candidate))?.get(state) !== "same") return false;
    const content = readers.contentOf(state);
    if (content === undefined) return false;
    const { size } = await content.stat();
    if (size === 0) return false;
    if (!candidate.isHome) {
      // Saved, and rotated at once: it holds more than a copy would, and more of ours than a header.
      if (candidate.stat.size <= size || state.given <= FINGERPRINT_BYTES) return false;
      if (await evidence.isRepetitive(candidate, state)) return false;
    }
    // What its writer added to the old one after it was copied would be lost with it.
    return (await evidence.continues(candidate, content, state.offset)) === true;
  }

  // ------------------------------------------------------------ 4 copies

  async copies(): Promise<void> {
    for (const candidate of this.#unknown()) {
      if (candidate.hasPlainTwin) {
        this.#findings.set(candidate, { kind: "twin" });
        continue;
      }
      if (candidate.isHome) continue;
      for (const state of this.#present(candidate)) {
        const finding = await this.#copyOf(candidate, state);
        if (finding === undefined) continue;
        this.#findings.set(candidate, finding);
        if (finding.kind === "file") this.#found.set(finding.state, candidate);
        break;
      }
      if (!this.#findings.has(candidate) && (await this.#isOfNewHome(candidate)))
        this.#findings.set(candidate, { kind: "undecided" });
    }
  }

  /** It begins what lies at the path, of which nothing is known yet either: that is taken up first. */
  async #isOfNewHome(candidate: Candidate): Promise<boolean> {
    const home = this.#homeOf(candidate);
    if (home === undefined || this.#findings.has(home) || home.stat.size === 0) return false;
    const isCopy = await this.#withContentAt(home, (content) => this.#options.evidence.isCopyOf(candidate, content));
    if (isCopy !== true) return false;
    if (!(await this.#isAnew(home, candidate))) return true;
    this.#like.set(candidate, home);
    return false;
  }

  #homeOf({ base }: Candidate): Candidate | undefined {
    return this.#candidates.find((other) => other.isHome && other.base === base);
  }

  /**
   * A copy begins what lies at the path, and so does every other generation where all lines are equal: what was written
   * there after the copy was made may be all there is of a new one.
   */
  async #isAnew(home: Candidate, copy: Candidate): Promise<boolean> {
    const { evidence } = this.#options;
    if (copy.format !== undefined || home.stat.modifiedMs < copy.stat.modifiedMs) return false;
    if (home.stat.modifiedMs > copy.stat.modifiedMs && home.stat.size <= copy.stat.size) return true;
    return (await evidence.isUniform(home)) || (await evidence.isUniform(copy));
  }

  /** Files that are there or held open: what is at the path first, then the youngest. */
  #present(beside: Candidate): FileState[] {
    const { readers } = this.#options;
    const home = this.#candidates.find(({ isHome, base }) => isHome && base === beside.base);
    const isAtHome = (state: FileState) => Number(home !== undefined && this.#found.get(state) === home);
    return this.#members
      .filter((state) => this.#found.has(state) || readers.holds(state))
      .sort((a, b) => isAtHome(b) - isAtHome(a) || (b.order ?? 0) - (a.order ?? 0));
  }

  async #copyOf(candidate: Candidate, state: FileState): Promise<Finding | undefined> {
    const { evidence } = this.#options;
    if (!isOfFamily(candidate, state)) return undefined;
    const verdict = state.isKnownByContent ? (await this.#verdictsOf(candidate))?.get(state) : "alike";
    if (this.#findings.has(candidate)) return this.#findings.get(candidate);
    if (verdict === undefined || verdict === "other") return undefined;
    const isPlain = candidate.format === undefined;
    if (verdict === "same") {
      const place = this.#found.get(state);
      if (place?.isHome === true && isPlain) {
        const replaced = await this.#isReplaced(state, place, candidate);
        if (replaced === undefined) return { kind: "undecided" };
        if (replaced) {
          this.#findings.delete(place);
          this.#displace(state, place.id);
          return { kind: "file", state, isSaved: false };
        }
      }
      // What was given out may be no more than a header, which all generations have: the rest must agree, too.
      if ((await this.#agrees(candidate, state)) === false) {
        // As `#isReplaced`: packed since, no older than what was last seen of it.
        const isSince = candidate.stat.modifiedMs >= state.modifiedMs - ARCHIVE_TIME_MS;
        if (!isPlain && place?.isHome === true && this.#recalled.has(state) && isSince) {
          this.#findings.delete(place);
          this.#displace(state, place.id);
          return { kind: "file", state, isSaved: false };
        }
        this.#like.set(candidate, state);
        return undefined;
      }
      if (!isPlain) return { kind: "copy", of: state, common: state.offset, isProven: true };
      if (place !== undefined && !place.isHome && (await evidence.isUniform(candidate))) {
        this.#like.set(candidate, state);
        return undefined;
      }
      const common = await this.#withContentOf(state, (content) => evidence.commonLength(candidate, content));
      if (common !== undefined && common >= state.given) return { kind: "copy", of: state, common, isProven: true };
      return { kind: "copy", of: state, common: state.offset, isProven: state.phase === "finished" };
    }
    // Shorter than what was given out, or nothing was given out yet: what is in it decides.
    const isCopy = await this.#withContentOf(state, (content) => evidence.isCopyOf(candidate, content));
    if (isCopy === true) {
      if (await this.#isOtherGeneration(candidate, state)) {
        this.#like.set(candidate, state);
        return undefined;
      }
      const common = isPlain ? candidate.stat.size : state.offset;
      return { kind: "copy", of: state, common, isProven: true };
    }
    if (isCopy === undefined && verdict === "alike") return { kind: "undecided" };
    // Packed and gone on with before it was looked at: all that the file holds is in the archive, and more.
    if (!isPlain && state.given === 0 && (await this.#begins(state, candidate)))
      return { kind: "copy", of: state, common: state.offset, isProven: true };
    return undefined;
  }

  /** Copies are made of what is at the path; where all lines are equal, other generations begin alike. */
  async #isOtherGeneration(candidate: Candidate, state: FileState): Promise<boolean> {
    const place = this.#found.get(state);
    if (place === undefined || candidate.format !== undefined) return false;
    if (place.isHome) return this.#isAnew(place, candidate);
    return this.#options.evidence.isUniform(candidate);
  }

  /** Whether a candidate and the content of a file are equal as far as both reach; undefined: that cannot be told now. */
  async #agrees(candidate: Candidate, state: FileState): Promise<boolean | undefined> {
    const { evidence } = this.#options;
    return this.#withContentOf(state, async (content) => {
      // It may have been truncated since, and its copy is all that there is.
      if ((await judge(content, (await content.stat()).size, state)) !== "same") return undefined;
      if (candidate.format === undefined) return evidence.agrees(candidate, content);
      const isCopy = await evidence.isCopyOf(candidate, content);
      return isCopy === false ? this.#begins(state, candidate) : isCopy;
    });
  }

  async #begins(state: FileState, candidate: Candidate): Promise<boolean> {
    const { evidence } = this.#options;
    const isBeginning = await this.#withContentOf(state, async (content) => {
      const { size } = await content.stat();
      return size > 0 && (await evidence.continues(candidate, content, 0));
    });
    return isBeginning === true;
  }

  /**
   * A copy of the file at a path is there, and the path goes on otherwise: it was truncated and filled again, and equal
   * bytes around the position hid that. Where all lines are equal nothing but the times can tell; a copy that appeared
   * since the last commit then counts as the sign of a truncation.
   */
  async #isReplaced(state: FileState, home: Candidate, copy: Candidate): Promise<boolean | undefined> {
    const { evidence } = this.#options;
    const agrees = await this.#withContentAt(home, (content) => evidence.agrees(copy, content));
    if (agrees === undefined) return undefined;
    if (!agrees) return true;
    if (copy.stat.size > home.stat.size) return true;
    // Within one tick of the time stamps either may have been first.
    if (!this.#recalled.has(state) || home.stat.modifiedMs < copy.stat.modifiedMs) return false;
    return evidence.isRepetitive(copy, state);
  }

  async #withContentOf<T>(state: FileState, use: (content: Content) => Promise<T>): Promise<T | undefined> {
    const held = this.#options.readers.contentOf(state);
    if (held !== undefined) return use(held).catch(() => undefined);
    const place = this.#found.get(state);
    return place === undefined ? undefined : this.#withContentAt(place, use);
  }

  async #withContentAt<T>(place: Candidate, use: (content: Content) => Promise<T>): Promise<T | undefined> {
    let content: Content | undefined;
    try {
      content = await this.#options.contents.open(place.path);
      return await use(content);
    } catch {
      return undefined;
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  // ------------------------------------------------------------ what came out

  #unknown(): Candidate[] {
    return this.#candidates.filter((candidate) => !this.#findings.has(candidate));
  }

  #lost(): FileState[] {
    const { readers } = this.#options;
    return this.#members.filter((state) => !this.#found.has(state) && !readers.holds(state));
  }

  result(): Recognition {
    for (const candidate of this.#unknown())
      this.#findings.set(candidate, { kind: "unknown", like: this.#like.get(candidate) });
    for (const alias of this.#aliases) {
      const first = this.#candidates.find(({ id }) => id === alias.id)!;
      this.#findings.set(alias, this.#findings.get(first)!);
    }
    return { findings: this.#findings, lost: this.#lost(), displaced: this.#displaced, reborn: this.#reborn };
  }
}

/** Nothing has changed since its content was compared. */
function isUntouched(state: FileState, candidate: Candidate): boolean {
  return isSameLook(state.proved, candidate);
}

function isSameLook(look: FileState["proved"], { id, stat }: Candidate): boolean {
  return (
    look !== undefined &&
    look.id === id &&
    look.size === stat.size &&
    look.modifiedMs === stat.modifiedMs &&
    look.birthNs === stat.birthNs
  );
}

function isOfFamily({ path, base: home }: Candidate, state: FileState): boolean {
  if (state.names.includes(home)) return true;
  const { base } = familyOf(path);
  return state.names.some((name) => name === path || name === base || familyOf(name).base === base);
}
