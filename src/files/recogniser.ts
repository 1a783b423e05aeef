import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { Agenda } from "./agenda.ts";
import type { Content } from "./content.ts";
import type { Common, Evidence } from "./content-evidence.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { familyOf } from "./family.ts";
import { isRotatedName } from "./file-registry.ts";
import { type FileState, leastSize } from "./file-state.ts";
import type { SiblingFile } from "./rotation.ts";
import type { Group } from "./sighting.ts";
import type { UnsettledPaths } from "./unsettled-paths.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Says which file is in an inode that nobody knows: one that is known, a copy of one, or a new one. */
export class Recogniser {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #evidence: Evidence;
  readonly #unsettled: UnsettledPaths;
  readonly #whereabouts: Whereabouts;

  constructor(
    options: DiscoveryOptions,
    agenda: Agenda,
    evidence: Evidence,
    unsettled: UnsettledPaths,
    whereabouts: Whereabouts,
  ) {
    this.#options = options;
    this.#agenda = agenda;
    this.#evidence = evidence;
    this.#unsettled = unsettled;
    this.#whereabouts = whereabouts;
  }

  async isStill(state: FileState, group: Group): Promise<boolean> {
    const path = group.paths[0]!;
    const isPlain = this.#options.rotation.formatOf(path) === undefined;
    if (state.fingerprint.length === 0) {
      // One of which nothing could be decompressed: whatever is in it now is to be read.
      if (!isPlain && state.archive !== undefined && state.offset === 0) return state.names.at(-1) === path;
      // An archive is never the file it was made of, and a tombstone of no bytes is worth nothing once it was moved.
      if (!isPlain || group.stat.size < leastSize(state) || !isOfFamily(path, state)) return false;
      if (state.phase === "finished" && state.location !== path) return false;
      const { base } = familyOf(path);
      const sibling = { path, stat: group.stat, id: group.id, format: undefined, hasPlainTwin: false };
      return base === path || (await this.isKnownContent(sibling, this.#options.fileRegistry.ownerOf(base))) === false;
    }
    if (isPlain && group.stat.size < leastSize(state)) return false;
    // Not touched since it was last seen: not worth a look inside.
    if (isPlain) {
      const isUntouched = group.stat.size === state.size && group.stat.modifiedMs < state.lastSeenMs - 2000;
      if (isUntouched && state.names.includes(path)) return true;
    } else if (state.names[state.names.length - 1] === path && group.stat.modifiedMs <= state.lastSeenMs) {
      // An archive has the time of what is in it; one of a younger generation would be younger.
      return true;
    }
    const comparison = await this.#evidence.compare(path, state);
    // What cannot be opened now is proved by the tailer that opens it, a tombstone by whoever looks at it again.
    state.isUnproven = comparison === "unreadable";
    return comparison === "match" || comparison === "unreadable";
  }

  async recognise(
    path: BytePath,
    group: Group,
  ): Promise<
    | { kind: "file"; state: FileState }
    | ({ kind: "copy"; of: FileState } & Common)
    | { kind: "waiting"; reason: string }
    | { kind: "new" }
  > {
    const { rotateWaitMs, isOnce } = this.#options;
    const candidates = this.#candidates(path);
    const unread = await this.#unreadOriginal(path, group);
    if (unread !== undefined) return { kind: "copy", of: unread, common: group.stat.size, isProven: true };
    if (candidates.length === 0) return { kind: "new" };
    const isPlain = this.#options.rotation.formatOf(path) === undefined;
    let isShorterThan: FileState | undefined;
    const content = await this.#options.rotation.open(path);
    try {
      for (const state of candidates) {
        const comparison = await this.#evidence.compareContent(content, group.stat.size, isPlain, state);
        if (comparison === "match") {
          if (this.#isOtherThatBeginsAlike(state, isPlain, group.stat.size)) {
            this.#tellRepeat(path, state, state.size);
            continue;
          }
          if (this.#whereabouts.isHomeless(state) && !this.#options.readers.holds(state))
            return { kind: "file", state };
          const shared = await this.#evidence.commonLength(content, isPlain ? group.stat.size : undefined, state);
          return { kind: "copy", of: state, ...shared };
        }
        if (comparison === "shorter" && isRotatedName(path, state.names)) {
          const isPrefix = isPlain ? await this.#evidence.isPrefix(content, group.stat.size, state) : undefined;
          if (isPrefix === true) return { kind: "copy", of: state, common: group.stat.size, isProven: true };
          if (isPrefix === undefined) isShorterThan = state;
        }
      }
    } finally {
      await content.close().catch(() => undefined);
    }
    if (isShorterThan === undefined || group.stat.size === 0) return { kind: "new" };
    if (!isOnce && this.#unsettled.quietMs(path, group) < rotateWaitMs) {
      return { kind: "waiting", reason: `it may become a copy of ${pathToText(isShorterThan.path)}` };
    }
    this.#tellRepeat(path, isShorterThan, group.stat.size);
    return { kind: "new" };
  }

  #tellRepeat(path: BytePath, state: FileState, bytes: number): void {
    const text = pathToText(path);
    const message = `${text} may hold some of what was read as ${pathToText(state.path)}; it is read`;
    this.#options.events.emit("repeat", message, { file: text, bytes });
  }

  /** The live file that this is a copy of, where nothing of it has been read yet that could be compared. */
  async #unreadOriginal(path: BytePath, group: Group): Promise<FileState | undefined> {
    const { base } = familyOf(path);
    const state = base === path ? undefined : this.#options.fileRegistry.ownerOf(base);
    if (state === undefined || !state.paths.has(base) || state.fingerprint.length > 0) return undefined;
    const { stat } = group;
    const content = await this.#options.rotation.open(path);
    try {
      const sibling = { path, stat, id: group.id, format: this.#options.rotation.formatOf(path), hasPlainTwin: false };
      return (await this.#evidence.isCopyOfNew(content, sibling, state)) ? state : undefined;
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
    const twin = this.#options.rotation.formatOf(path) === undefined ? undefined : path.slice(0, path.lastIndexOf("."));
    const family = [...this.#options.fileRegistry.family(path)].filter((state) => {
      if (state.fingerprint.length === 0 || state.copyOf !== undefined || !isOfFamily(path, state)) return false;
      // Nothing was given out of it: whoever holds the same is to be read.
      if (state.phase === "finished" && state.offset === 0) return false;
      if (base === path)
        return this.#whereabouts.isHomeless(state) && !this.#options.readers.holds(state) && state.phase !== "finished";
      return twin !== undefined || this.#whereabouts.isGone(state) || state.isUnproven || state.paths.has(base);
    });
    const urgency = (state: FileState) => (this.#whereabouts.isHomeless(state) && state.phase !== "finished" ? 1 : 0);
    return family.sort(
      (a, b) => urgency(b) - urgency(a) || b.identity.guardEnd - a.identity.guardEnd || b.lastSeenMs - a.lastSeenMs,
    );
  }

  /** Whether a file that is known gives (or gave) what is in this sibling; undefined: that cannot be told now. */
  async isKnownContent(sibling: SiblingFile, current: FileState | undefined): Promise<boolean | undefined> {
    if (sibling.hasPlainTwin) return true;
    const isUnread = current?.fingerprint.length === 0;
    let content: Content | undefined;
    try {
      content = await this.#options.rotation.open(sibling.path);
      const isPlain = sibling.format === undefined;
      for (const state of this.#candidates(sibling.path)) {
        const comparison = await this.#evidence.compareContent(content, sibling.stat.size, isPlain, state);
        if (comparison === "match") {
          if (this.#isOtherThatBeginsAlike(state, isPlain, sibling.stat.size)) continue;
          if (!isPlain && state.phase === "finished" && this.#whereabouts.isGone(state)) this.#takeOver(state, sibling);
          return true;
        }
        if (comparison === "shorter" && isPlain && (await this.#evidence.isPrefix(content, sibling.stat.size, state)))
          return true;
      }
      if (current === undefined) return false;
      if (await this.#evidence.isCopyOfNew(content, sibling, current)) return true;
      // Read, and perhaps truncated, in the meantime.
      return isUnread && current.fingerprint.length > 0 ? undefined : false;
    } catch {
      return undefined;
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  /**
   * A file that was read to its end was a file of its own, with another inode number; a plain one that begins with all
   * of it and is longer is more likely a younger one (with the same header) than a copy that went on.
   */
  #isOtherThatBeginsAlike(state: FileState, isPlain: boolean, size: number): boolean {
    return isPlain && state.phase === "finished" && size > state.size;
  }

  /** A tombstone was compressed, perhaps with bytes that came late. */
  #takeOver(state: FileState, sibling: SiblingFile): void {
    this.#options.fileRegistry.setId(state, sibling.id);
    state.relocate(sibling.path);
    this.#options.fileRegistry.addName(state, sibling.path);
    this.#whereabouts.lookAfter(state, sibling.path);
    this.#agenda.doubted.add(state);
  }
}

function isOfFamily(path: BytePath, state: FileState): boolean {
  const { base } = familyOf(path);
  if (base === path) return state.names.includes(path);
  return state.names.some((name) => name === base || familyOf(name).base === base);
}
