import type { BytePath } from "../runtime/byte-path.ts";
import type { Agenda } from "./agenda.ts";
import type { Evidence } from "./content-evidence.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { familyOf } from "./family.ts";
import type { FileId } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import type { Recogniser } from "./recogniser.ts";
import type { SiblingFile } from "./rotation.ts";
import { lookAt } from "./sighting.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Tombstones that grow again: a writer kept a rotated file open and wrote on, perhaps before it was compressed. */
export class LateBytes {
  readonly #options: DiscoveryOptions;
  readonly #agenda: Agenda;
  readonly #evidence: Evidence;
  readonly #recogniser: Recogniser;
  readonly #whereabouts: Whereabouts;
  /** Of the first pass: siblings by inode, for the tombstones of a path. */
  readonly #listings = new Map<BytePath, Map<FileId, SiblingFile>>();

  constructor(
    options: DiscoveryOptions,
    agenda: Agenda,
    evidence: Evidence,
    recogniser: Recogniser,
    whereabouts: Whereabouts,
  ) {
    this.#options = options;
    this.#agenda = agenda;
    this.#evidence = evidence;
    this.#recogniser = recogniser;
    this.#whereabouts = whereabouts;
  }

  /** What was listed is of that moment only. */
  endFirstPass(): void {
    this.#listings.clear();
  }

  /** At the start there may be thousands of tombstones: all of a family are looked for in one listing. */
  async followTombstone(state: FileState): Promise<void> {
    for (const base of this.#options.rotation.basesOf(state.names)) {
      let siblings = this.#listings.get(base);
      if (siblings === undefined) {
        siblings = new Map((await this.#options.rotation.siblings(base))?.map((sibling) => [sibling.id, sibling]));
        this.#listings.set(base, siblings);
      }
      const sibling = state.id === undefined ? undefined : siblings.get(state.id);
      if (sibling === undefined) continue;
      const { id, stat, path } = sibling;
      if (!(await this.#recogniser.isStill(state, { id, stat, paths: [path], isLink: false }))) {
        this.#agenda.reborn(id);
        continue;
      }
      this.#whereabouts.follow(state, sibling);
      this.#whereabouts.changed(state, sibling.stat);
      return;
    }
    this.#options.fileRegistry.setId(state, undefined);
  }

  /** True if no younger file was seen at one of its paths. */
  isOwner(state: FileState): boolean {
    return state.names.some(
      (name) => familyOf(name).base === name && this.#options.fileRegistry.ownerOf(name) === state,
    );
  }

  /** A tombstone is longer or shorter than it was: late bytes, or another file on its inode number. */
  async lookAt(state: FileState): Promise<void> {
    this.#agenda.doubted.delete(state);
    const { location } = state;
    if (state.phase !== "finished" || location === undefined) return;
    const { stat, error } = lookAt(this.#options.fileSystem, location);
    if (error !== undefined) return;
    const isSame = stat !== undefined && this.#options.ids.idOf(stat) === state.id;
    if (isSame && (await this.#recogniser.isStill(state, { id: state.id!, stat, paths: [location], isLink: false }))) {
      if (state.isUnproven) {
        // It cannot be opened. A run that ends with what is there now does not wait for it.
        if (!this.#options.isOnce) this.#agenda.doubted.add(state);
        return;
      }
      const isDamaged = state.archive?.damage !== undefined;
      if (!isDamaged && !(await this.#evidence.hasMore(state, location, stat))) {
        // Not worth a look again while it stays so.
        if (this.#options.rotation.formatOf(location) !== undefined)
          state.archive = { bytes: stat.size, modifiedMs: stat.modifiedMs };
        return;
      }
      state.phase = this.#whereabouts.isAtHome(state) ? "live" : "rotated";
      state.tombstoneSinceMs = undefined;
      state.isCaughtUp = true;
      if (this.#options.rotation.formatOf(location) === undefined) state.size = stat.size;
      if (state.phase === "rotated") this.#options.readers.rotate(state);
      else this.#options.readers.revive(state);
      this.#options.readers.read(state);
      return;
    }
    if (state.id !== undefined) this.#agenda.reborn(state.id);
    this.#agenda.touchAll(state);
    this.#options.fileRegistry.setId(state, undefined);
    this.#whereabouts.unfollow(state);
    for (const path of [...state.paths]) {
      this.#whereabouts.detachPath(state, path);
      this.#agenda.again.add(path);
    }
    state.location = undefined;
  }
}
