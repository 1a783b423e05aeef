import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { DescribedFile, SourcePositions } from "../stage/contract.ts";
import type { FileRegistry } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";

/** Tombstones need not be gone on the second. */
const PRUNE_EVERY_MS = 3_600_000;

/** Files that are asked in one go whether the store should know something newer. */
const SLICE = 1000;

interface TombstonesOptions {
  readonly fileRegistry: FileRegistry;
  readonly positions: SourcePositions;
  readonly clock: Clock;
  readonly keepMs: number;
  /** Wall clock, of the last time that a file was found at this path. */
  readonly seenAtMs: (path: BytePath) => number;
}

/** Keeps the stored entries up to date, without a commit of their own, and removes those that are too old. */
export class Tombstones {
  readonly #options: TombstonesOptions;
  readonly #noted = new WeakMap<FileState, FileEntry>();
  /** What is left of the present round. */
  #round: Iterator<FileState> | undefined;
  #prunedAtMs: number | undefined;

  constructor(options: TombstonesOptions) {
    this.#options = options;
  }

  /**
   * Hands over what changed since the last time: sizes, names, guards up to what is committed. Where there are many files,
   * a slice of them each time, in turn, and all that are `active`.
   */
  noteSome(active: Iterable<FileState>): void {
    const { fileRegistry } = this.#options;
    const slice = new Set<FileState>();
    // One that is being forgotten may be open yet, and must not come back.
    for (const state of active) if (fileRegistry.get(state.key) === state) slice.add(state);
    for (let count = 0; count < SLICE; count += 1) {
      this.#round ??= fileRegistry.states[Symbol.iterator]();
      const { value, done } = this.#round.next();
      if (done) {
        this.#round = undefined;
        break;
      }
      slice.add(value);
    }
    this.note(slice);
  }

  /** The same for all of `states`, at once. */
  note(states: Iterable<FileState>): void {
    const { positions, seenAtMs } = this.#options;
    const changed = new Map<string, FileEntry>();
    for (const state of states) {
      if (!state.isSaved) continue;
      if (state.boundaries.length > 0) state.pruneBoundaries(positions.committedOf(state.key));
      const before = this.#noted.get(state);
      if (before !== undefined && !state.differsFrom(before)) continue;
      // Only where it still is what its path leads to: what came next there is known by being younger.
      if (state.phase === "live") state.lastSeenMs = Math.max(state.lastSeenMs, ...[...state.paths].map(seenAtMs));
      const entry = state.toEntry();
      this.#noted.set(state, entry);
      changed.set(state.key, entry);
    }
    if (changed.size > 0) positions.saveLazily(changed);
  }

  /** For a commit of its positions, see `DescribeFile`. */
  describe(key: string, furthest: number): DescribedFile | undefined {
    const state = this.#options.fileRegistry.get(key);
    if (state === undefined) return undefined;
    const entry = state.entryCovering(furthest);
    this.#noted.set(state, entry);
    return { entry, readEnd: state.offset };
  }

  /** Removes tombstones older than `tombstone_days`, with their positions. */
  async prune(isInUse: (state: FileState) => boolean): Promise<void> {
    const { fileRegistry, positions, clock, keepMs } = this.#options;
    const nowMs = clock.monotonic();
    if (this.#prunedAtMs !== undefined && nowMs - this.#prunedAtMs < PRUNE_EVERY_MS) return;
    this.#prunedAtMs = nowMs;
    const gone = new Map<string, undefined>();
    for (const state of [...fileRegistry.states]) {
      if (state.phase !== "finished" || state.tombstoneSinceMs === undefined || isInUse(state)) continue;
      // One that still has a name is needed to know that it was read.
      if (state.paths.size > 0 || clock.now() - state.tombstoneSinceMs < keepMs) continue;
      gone.set(state.key, undefined);
      fileRegistry.remove(state);
    }
    if (gone.size > 0) await positions.save(gone).catch(() => undefined);
  }
}
