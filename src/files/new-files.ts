import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { Agenda } from "./agenda.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileId } from "./file-id.ts";
import { EMPTY_MARK, FileState } from "./file-state.ts";
import type { SiblingFile } from "./rotation.ts";
import type { Group } from "./sighting.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Takes up files that nobody has seen before. */
export class NewFiles {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #whereabouts: Whereabouts;

  constructor(options: DiscoveryOptions, agenda: Agenda, whereabouts: Whereabouts) {
    this.#options = options;
    this.#agenda = agenda;
    this.#whereabouts = whereabouts;
  }

  /** A file that nobody has seen before. */
  async found(path: BytePath, group: Group): Promise<FileState | undefined> {
    const { clock, ignoreOlderMs, readFrom } = this.#options;
    const before = this.#options.fileRegistry.ownerOf(path);
    const isSuccessor = before !== undefined;
    const ageMs = clock.now() - group.stat.modifiedMs;
    if (!isSuccessor && ignoreOlderMs > 0 && ageMs > ignoreOlderMs) {
      const reason = `it was last modified ${Math.round(ageMs / 1000)} s ago, and ignore_older_ms is ${ignoreOlderMs}`;
      for (const each of group.paths) {
        this.#options.fileRegistry.setPath(each, { kind: "ignored", id: group.id, stat: group.stat, reason });
      }
      return undefined;
    }
    const names = [...group.paths];
    if (group.isLink) names.push(...(await this.#realNames(group.paths)));
    const isTruncation = before !== undefined && before.rotation === "copy_truncated";
    const state = this.newState(names, group, isTruncation ? before.generation + 1 : 0);
    const isLate = !this.#agenda.isFirstPass || isSuccessor || this.#options.rotation.formatOf(path) !== undefined;
    if (readFrom === "end" && !isLate) state.startAt = group.stat.size;
    for (const each of group.paths) {
      this.#whereabouts.claim(each, state, group);
    }
    state.location = path;
    for (const name of names) this.#options.fileRegistry.setOwner(name, state);
    for (const name of names) this.#agenda.touch(name);
    this.announce(state);
    return state;
  }

  newState(names: readonly BytePath[], file: { id: FileId; stat: FileStat }, generation: number): FileState {
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
        lastSeenMs: Math.min(this.#agenda.lookedAtMs, Math.max(file.stat.modifiedMs, Number(file.stat.birthNs) / 1e6)),
        boundaries: [],
      },
      0,
      false,
    );
    state.changedAtMs = clock.monotonic();
    if (this.#options.rotation.formatOf(names[names.length - 1]!) === undefined) state.size = file.stat.size;
    this.#options.fileRegistry.add(state);
    this.#options.fileRegistry.setId(state, file.id);
    return state;
  }

  /** A sibling that matches nothing, and is a generation of `home` that came and went unseen. */
  takeUp(sibling: SiblingFile, home: BytePath): FileState {
    const state = this.newState([home, sibling.path], sibling, 0);
    state.phase = "rotated";
    state.rotation = "renamed";
    state.location = sibling.path;
    this.#whereabouts.lookAfter(state, sibling.path);
    this.#options.readers.rotate(state);
    this.announce(state);
    return state;
  }

  /** It is told of once it could be opened. */
  announce(state: FileState): void {
    state.isAnnounced = false;
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
}
