import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileState } from "./file-state.ts";
import { FINGERPRINT_BYTES, GUARD_BYTES, readStretch, tellingMark } from "./fingerprint.ts";
import type { NewFiles } from "./new-files.ts";
import type { Finding } from "./recogniser.ts";
import { lookAt } from "./sighting.ts";
import type { Candidate } from "./survey.ts";
import type { Whereabouts } from "./whereabouts.ts";

/**
 * Copies made to truncate the original: nothing is read from them while they hold what the original gives. Once the
 * original is cut off, its content lives on in its copy (`Recogniser`).
 */
export class Copies {
  readonly #options: DiscoveryOptions;
  readonly #whereabouts: Whereabouts;
  readonly #newFiles: NewFiles;

  constructor(options: DiscoveryOptions, whereabouts: Whereabouts, newFiles: NewFiles) {
    this.#options = options;
    this.#whereabouts = whereabouts;
    this.#newFiles = newFiles;
  }

  /** Nothing is read from this candidate while it holds what the original gives. */
  async setAside(candidate: Candidate, { of, common, isProven }: Finding & { kind: "copy" }): Promise<void> {
    const { clock, fileRegistry } = this.#options;
    if (this.#whereabouts.isIncluded(candidate.path)) {
      const { path, id, stat } = candidate;
      const before = fileRegistry.paths.get(path);
      const isSame = before?.kind === "copy" && before.id === id && before.stat.size === stat.size;
      if (before?.kind === "file") this.#whereabouts.lose(before.state, path);
      const sinceMs = isSame ? before.sinceMs : clock.monotonic();
      fileRegistry.setPath(path, { kind: "copy", id, stat, of, common, isProven, sinceMs });
    }
    await this.#remember(candidate, of, common);
  }

  /**
   * Makes it durable that a file is a copy, and of what: after a restart the original may have been truncated, and its
   * fingerprint may reach further than the copy does.
   */
  async #remember(candidate: Candidate, of: FileState, common: number): Promise<void> {
    const { positions, clock, contents, fileRegistry } = this.#options;
    if (candidate.format !== undefined || common === 0 || !of.isSaved) return;
    const known = fileRegistry.byId(candidate.id);
    if (known !== undefined) {
      const isSame = known.copyOf === of.key && known.start === common && known.size === candidate.stat.size;
      if (isSame) {
        known.location = candidate.path;
        this.#lookAfter(known, candidate);
        return;
      }
      if (known.copyOf === undefined) return;
      this.#whereabouts.forgetCopy(known);
    }
    const content = await contents.open(candidate.path);
    try {
      const first = await readStretch(content, 0, Math.min(FINGERPRINT_BYTES, common));
      const from = Math.max(0, common - GUARD_BYTES);
      const before = await readStretch(content, from, common - from);
      const copy = this.#newFiles.newState([candidate.path], candidate, 0);
      copy.copyOf = of.key;
      copy.start = common;
      copy.offset = common;
      copy.finish(clock.now());
      copy.size = candidate.stat.size;
      copy.location = candidate.path;
      copy.fingerprint = tellingMark(first);
      copy.guards.note({ end: common, mark: tellingMark(before) });
      copy.guards.settle(common);
      copy.proved = { id: candidate.id, ...candidate.stat };
      this.#lookAfter(copy, candidate);
      copy.isSaved = true;
      await positions.save(new Map([[copy.key, copy.toEntry()]]));
    } catch {
      // Gone meanwhile, or the commit failed: it is a copy all the same, as long as this process lives.
    } finally {
      await content.close().catch(() => undefined);
    }
  }

  #lookAfter(copy: FileState, { path }: Candidate): void {
    if (!this.#whereabouts.isIncluded(path)) this.#whereabouts.lookAfter(copy, path);
  }

  /**
   * A copy that holds more than its original ever gave (somebody appends to it) becomes a file of its own, read from
   * there on, once it is quiet and the original is committed as far as both are equal.
   */
  settle(): void {
    const { clock, positions, rotateWaitMs, ids, readers, fileRegistry, fileSystem } = this.#options;
    for (const path of fileRegistry.copyPaths) {
      const use = fileRegistry.paths.get(path);
      if (use?.kind !== "copy" || !use.isProven || use.stat.size <= use.common) continue;
      if (this.#options.contents.formatOf(path) !== undefined) continue;
      if (clock.monotonic() - use.sinceMs < rotateWaitMs || use.of.phase === "missing") continue;
      if (Math.max(positions.committedOf(use.of.key), use.of.start) < use.common) continue;
      const state = fileRegistry.byId(use.id);
      const { stat } = lookAt(fileSystem, path);
      if (state?.copyOf === undefined || stat === undefined || ids.idOf(stat) !== use.id) continue;
      state.copyOf = undefined;
      state.rotate("renamed", clock.monotonic());
      state.rangeFrom = 0;
      state.size = stat.size;
      state.paths.add(path);
      fileRegistry.setPath(path, { kind: "file", id: use.id, stat, state });
      this.#newFiles.announce(state);
      readers.rotate(state);
    }
  }
}
