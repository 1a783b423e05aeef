import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { Agenda } from "./agenda.ts";
import { type Content, isEqualStretch } from "./content.ts";
import { COMPARED_BYTES, type Common, type Evidence } from "./content-evidence.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { familyOf } from "./family.ts";
import type { FileId } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import { FINGERPRINT_BYTES } from "./fingerprint.ts";
import type { NewFiles } from "./new-files.ts";
import { type Group, lookAt, preferredPath } from "./sighting.ts";
import type { Whereabouts } from "./whereabouts.ts";

/**
 * Copies made to truncate the original: nothing is read from them while they hold what the original gives. Once the
 * original is truncated its content lives on in its copy.
 */
export class Copies {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #evidence: Evidence;
  readonly #whereabouts: Whereabouts;
  readonly #newFiles: NewFiles;

  constructor(
    options: DiscoveryOptions,
    agenda: Agenda,
    evidence: Evidence,
    whereabouts: Whereabouts,
    newFiles: NewFiles,
  ) {
    this.#options = options;
    this.#agenda = agenda;
    this.#evidence = evidence;
    this.#whereabouts = whereabouts;
    this.#newFiles = newFiles;
  }

  /** Nothing is read from these paths while they hold what the original gives. */
  setAside(group: Group, of: FileState, { common, isProven }: Common): void {
    const { clock } = this.#options;
    for (const path of group.paths) {
      const before = this.#options.fileRegistry.paths.get(path);
      const isSame = before?.kind === "copy" && before.id === group.id && before.stat.size === group.stat.size;
      const sinceMs = isSame ? before.sinceMs : clock.monotonic();
      this.#options.fileRegistry.setPath(path, {
        kind: "copy",
        id: group.id,
        stat: group.stat,
        of,
        common,
        isProven,
        sinceMs,
      });
    }
  }

  /**
   * Makes it durable that a file is a copy, and of what: after a restart the original may have been truncated, and its
   * fingerprint may reach further than the copy does.
   */
  async remember(path: BytePath, file: { id: FileId; stat: FileStat }, of: FileState, common: number): Promise<void> {
    const { positions, clock, patterns } = this.#options;
    const known = this.#options.fileRegistry.byId(file.id);
    if (this.#options.rotation.formatOf(path) !== undefined || common === 0 || !of.isSaved) return;
    if (known !== undefined && known.copyOf === undefined) return;
    const content = await this.#options.rotation.open(path);
    try {
      const copy = known ?? this.#newFiles.newState([path], file, 0);
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
      if (patterns.judge(path).kind !== "included") this.#whereabouts.lookAfter(copy, path);
      copy.isSaved = true;
      await positions.save(new Map([[copy.key, copy.toEntry()]]));
    } finally {
      await content.close().catch(() => undefined);
    }
  }

  /** After a restart: a file that is stored as a copy and has not changed is one still. */
  recall(copy: FileState, group: Group): boolean {
    const original = this.#options.fileRegistry.get(copy.copyOf!);
    if (original === undefined) return false;
    this.setAside(group, original, { common: copy.start, isProven: true });
    copy.location = preferredPath(group.paths);
    return true;
  }

  /** A copy that was set aside now is the only one. */
  take(state: FileState): boolean {
    if (this.#options.readers.holds(state)) return false;
    for (const path of this.#options.fileRegistry.copiesOf(state)) {
      const use = this.#options.fileRegistry.paths.get(path);
      if (use?.kind !== "copy") continue;
      const isPlain = this.#options.rotation.formatOf(path) === undefined;
      if (isPlain && use.stat.size < state.offset) continue;
      this.#agenda.groups.delete(use.id);
      this.#whereabouts.adopt(state, path, { id: use.id, stat: use.stat, paths: [path], isLink: false });
      return true;
    }
    return false;
  }

  /**
   * A copy that holds more than its original ever gave (somebody appends to it) becomes a file of its own, read from
   * there on, once it is quiet and the original is committed as far as both are equal.
   */
  async settle(): Promise<void> {
    const { clock, positions, rotateWaitMs, ids, readers } = this.#options;
    for (const path of this.#options.fileRegistry.copyPaths) {
      const use = this.#options.fileRegistry.paths.get(path);
      if (use?.kind === "copy" && use.of.isSaved && this.#options.fileRegistry.byId(use.id) === undefined) {
        await this.remember(path, use, use.of, use.common).catch(() => undefined);
      }
      if (
        use?.kind !== "copy" ||
        !use.isProven ||
        use.stat.size <= use.common ||
        this.#options.rotation.formatOf(path) !== undefined
      )
        continue;
      if (clock.monotonic() - use.sinceMs < rotateWaitMs || use.of.phase === "missing") continue;
      if (Math.max(positions.committedOf(use.of.key), use.of.start) < use.common) continue;
      const state = this.#options.fileRegistry.byId(use.id);
      const { stat } = lookAt(this.#options.fileSystem, path);
      if (state?.copyOf === undefined || stat === undefined || ids.idOf(stat) !== use.id) continue;
      state.copyOf = undefined;
      state.phase = "rotated";
      state.rotation = "renamed";
      state.tombstoneSinceMs = undefined;
      state.rangeFrom = 0;
      state.size = stat.size;
      state.paths.add(path);
      this.#options.fileRegistry.setPath(path, { kind: "file", id: use.id, stat, state });
      this.#newFiles.announce(state);
      readers.rotate(state);
    }
  }

  /** A copy under a name that matches nothing changed: still being copied, renamed, or gone. */
  async lookAt(copy: FileState): Promise<void> {
    this.#agenda.copies.delete(copy);
    const path = copy.location;
    const original = this.#options.fileRegistry.get(copy.copyOf ?? "");
    const { stat } = path === undefined ? { stat: undefined } : lookAt(this.#options.fileSystem, path);
    const isSame = stat !== undefined && this.#options.ids.idOf(stat) === copy.id;
    if (isSame && stat.size === copy.size) return;
    const base = path === undefined ? undefined : familyOf(path).base;
    if (isSame && path !== undefined && base !== undefined && original?.paths.has(base)) {
      if ((await this.relation(path, base, original)) === "copy") return;
    }
    if (isSame || copy.id === undefined || !(await this.#isRenamed(copy))) {
      if (copy.id !== undefined) this.#whereabouts.forgetCopy(copy.id);
    }
  }

  async #isRenamed(copy: FileState): Promise<boolean> {
    const found = await this.#options.rotation.find(copy, {
      isOther: (sibling) => sibling.id !== copy.id,
      onReused: (id) => this.#agenda.reborn(id),
    });
    if (found === undefined || found === "unknown") return found === "unknown";
    if (this.#options.patterns.judge(found.sibling.path).kind === "included") return true;
    copy.location = found.sibling.path;
    this.#options.fileRegistry.addName(copy, found.sibling.path);
    this.#whereabouts.lookAfter(copy, found.sibling.path);
    return true;
  }

  /**
   * A sibling appeared beside a live file: perhaps a copy made to truncate it. If the file no longer continues what is in
   * the copy, it was truncated and refilled, and equal bytes around the offset would hide that.
   */
  async consider(path: BytePath): Promise<void> {
    const { base } = familyOf(path);
    if (
      base === path ||
      this.#options.fileRegistry.paths.has(path) ||
      this.#options.rotation.formatOf(path) !== undefined
    )
      return;
    const state = this.#options.fileRegistry.ownerOf(base);
    if (state === undefined || state.phase !== "live" || state.fingerprint.length === 0) return;
    if ((await this.relation(path, base, state)) !== "replaced") return;
    await this.#options.readers.stop(state);
    this.#whereabouts.truncated(state);
    this.#agenda.again.add(base);
  }

  /**
   * What a rotated name says about the live file at `base`: "replaced" if it holds what that file was up to its offset
   * and beyond, and `base` goes on otherwise; "copy" if it is its beginning, which is noted.
   */
  async relation(path: BytePath, base: BytePath, state: FileState): Promise<"replaced" | "copy" | "none"> {
    const { fileSystem, ids, rotation, patterns } = this.#options;
    const opened: Content[] = [];
    try {
      const copy = fileSystem.statSync(path);
      const original = fileSystem.statSync(base);
      if (copy?.kind !== "file" || original?.kind !== "file" || copy.size === 0) return "none";
      const id = ids.idOf(copy);
      const known = this.#options.fileRegistry.byId(id);
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
        if ((await this.#evidence.compareContent(current, original.size, true, state)) !== "match") return "none";
        const isWanted = patterns.judge(path).kind === "included";
        if (!isWanted) await this.remember(path, { id, stat: copy }, state, copy.size);
        return "copy";
      }
      if (copy.size < state.offset) return "none";
      return (await this.#evidence.compareContent(copied, copy.size, true, state)) === "match" && !isSame
        ? "replaced"
        : "none";
    } catch {
      // Gone meanwhile.
      return "none";
    } finally {
      for (const content of opened) await content.close().catch(() => undefined);
    }
  }
}
