import type { BytePath } from "../runtime/byte-path.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import { FileState } from "./file-state.ts";
import { EMPTY_MARK } from "./fingerprint.ts";
import type { Candidate } from "./survey.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Takes up files that nobody has seen before. */
export class NewFiles {
  readonly #options: DiscoveryOptions;
  readonly #whereabouts: Whereabouts;
  /** Files that are there when the source starts for the first time were there before anybody wanted them. */
  readonly #isFirstStart: boolean;
  #isFirstPass = true;
  /** Wall clock, before the look that this pass is about. */
  #lookedAtMs = 0;

  constructor(options: DiscoveryOptions, whereabouts: Whereabouts) {
    this.#options = options;
    this.#whereabouts = whereabouts;
    this.#isFirstStart = options.positions.isNew;
  }

  startPass(): void {
    this.#lookedAtMs = this.#options.clock.now();
  }

  endPass(): void {
    this.#isFirstPass = false;
  }

  /** A file at a path that matches. @param isLink the path is a symbolic link */
  async found(candidate: Candidate, isLink: boolean): Promise<FileState | undefined> {
    const { clock, ignoreOlderMs, readFrom, fileRegistry } = this.#options;
    const { path, id, stat, format } = candidate;
    const before = fileRegistry.ownerOf(path);
    const ageMs = clock.now() - stat.modifiedMs;
    if (before === undefined && ignoreOlderMs > 0 && ageMs > ignoreOlderMs) {
      const reason = `it was last modified ${Math.round(ageMs / 1000)} s ago, and ignore_older_ms is ${ignoreOlderMs}`;
      fileRegistry.setPath(path, { kind: "ignored", id, stat, reason });
      return undefined;
    }
    const isTruncation = before?.rotation === "copy_truncated";
    const names = isLink ? [path, ...(await this.#realName(path))] : [path];
    const state = this.newState(names, candidate, isTruncation ? before.generation + 1 : 0);
    const wasThere = this.#isFirstPass && this.#isFirstStart && before === undefined && format === undefined;
    if (readFrom === "end" && wasThere) state.startAt = stat.size;
    this.#whereabouts.claim(path, state, candidate);
    state.location = path;
    for (const name of names) fileRegistry.setOwner(name, state);
    this.announce(state);
    return state;
  }

  newState(names: readonly BytePath[], { id, stat, format }: Candidate, generation: number): FileState {
    const { source, random, clock, fileRegistry } = this.#options;
    const state = new FileState(
      source,
      random.hex(16),
      {
        generation,
        fileSystem: id.slice(0, id.indexOf("\0")),
        inode: String(stat.inode),
        birthNs: String(stat.birthNs),
        fingerprint: EMPTY_MARK,
        guard: EMPTY_MARK,
        guardEnd: 0,
        names: [...new Set(names)],
        lastSize: 0,
        // Whoever comes after it is modified later than this.
        lastSeenMs: Math.min(this.#lookedAtMs, Math.max(stat.modifiedMs, Number(stat.birthNs) / 1e6)),
        modifiedMs: stat.modifiedMs,
        boundaries: [],
      },
      { offset: 0, furthest: 0 },
    );
    state.isSaved = false;
    state.changedAtMs = clock.monotonic();
    if (format === undefined) state.size = stat.size;
    fileRegistry.add(state);
    fileRegistry.setId(state, id);
    return state;
  }

  /** A sibling that matches nothing, and is a generation of its base that came and went unseen. */
  missed(candidate: Candidate): FileState {
    const { clock, readers } = this.#options;
    const state = this.newState([candidate.base, candidate.path], candidate, 0);
    state.rotate("renamed", clock.monotonic());
    state.location = candidate.path;
    this.#whereabouts.lookAfter(state, candidate.path);
    readers.rotate(state);
    this.announce(state);
    return state;
  }

  /** It is told of once it could be opened. */
  announce(state: FileState): void {
    state.isAnnounced = false;
  }

  async #realName(path: BytePath): Promise<BytePath[]> {
    try {
      return [await this.#options.fileSystem.realpath(path)].filter((real) => real !== path);
    } catch {
      // Gone meanwhile.
      return [];
    }
  }
}
