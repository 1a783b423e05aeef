import { folderOf, pathToText } from "../runtime/byte-path.ts";
import type { DiscoveryOptions } from "./discovery-options.ts";
import type { FileState } from "./file-state.ts";
import type { Whereabouts } from "./whereabouts.ts";

/** Files whose content is nowhere: looked for, for a while, where it may yet turn up; then given up, and what is lost is told. */
export class Missing {
  readonly #options: DiscoveryOptions;
  readonly #whereabouts: Whereabouts;
  readonly #states = new Set<FileState>();

  constructor(options: DiscoveryOptions, whereabouts: Whereabouts) {
    this.#options = options;
    this.#whereabouts = whereabouts;
  }

  get size(): number {
    return this.#states.size;
  }

  /** Has the families of all of them looked at again. */
  searchAgain(): void {
    for (const state of this.#states) {
      if (state.phase === "missing") this.#whereabouts.touchAll(state);
      else this.#states.delete(state);
    }
  }

  forget(state: FileState): void {
    this.#states.delete(state);
  }

  /**
   * The content of a file that no tailer holds open is in none of its family.
   *
   * @param canTell false: a folder or a file could not be looked into, so it may be there
   * @param isCut what was read of it is not in its own inode any more: a copy of it would have been there before that
   */
  lost(state: FileState, { canTell, isCut }: { readonly canTell: boolean; readonly isCut: boolean }): void {
    const { clock, fileRegistry, rotateWaitMs, isOnce } = this.#options;
    const isFirst = state.phase !== "missing";
    if (state.phase === "finished") {
      if (!canTell) return;
      state.location = undefined;
      fileRegistry.setId(state, undefined);
      return;
    }
    const hasHome = this.#hasHome(state);
    if (!canTell || !hasHome) {
      this.#keep(state, isFirst, hasHome);
      return;
    }
    // Of what nothing was given out no content proves where it is; what is taken up in this pass may be it.
    const isTaken = state.given === 0 && !state.isKnownByContent && isFirst && !isOnce;
    const isSurelyCut = !isTaken && (isCut || state.rotation === "copy_truncated");
    const isOver = isSurelyCut || state.knownLagBytes === 0 || (isOnce && !isFirst);
    const nowMs = clock.monotonic();
    if (!isOver && nowMs - (state.missingSinceMs ?? nowMs) < rotateWaitMs) {
      // Renames and compression take their moment. What comes behind it waits open, so that nothing is lost by waiting.
      state.miss(nowMs);
      state.location = undefined;
      this.#states.add(state);
      return;
    }
    this.#giveUp(state);
  }

  /** Its folder is not there, or nothing can be told: its position is kept for as long as that lasts. */
  #keep(state: FileState, isFirst: boolean, hasHome: boolean): void {
    const { clock, events, isOnce, rotateWaitMs } = this.#options;
    const reason = hasHome ? "it cannot be looked for" : "its folder or mount is gone";
    if (isFirst) {
      const text = pathToText(state.path);
      events.emit("file_unreadable", `${text} is not there (${reason}); its position ${state.offset} is kept`, {
        file: text,
        offset: state.offset,
      });
    }
    state.miss(clock.monotonic());
    state.location = undefined;
    // Younger ones do not wait for it for long.
    const sinceMs = state.missingSinceMs ?? clock.monotonic();
    if (!hasHome || isOnce || clock.monotonic() - sinceMs >= rotateWaitMs) state.isCaughtUp = true;
    if (isOnce) this.#states.delete(state);
    else this.#states.add(state);
  }

  #hasHome(state: FileState): boolean {
    const { fileSystem, ids } = this.#options;
    try {
      const stat = fileSystem.statSync(folderOf(state.newestName));
      return stat?.kind === "folder" && ids.fileSystemOf(stat) === state.fileSystem;
    } catch {
      // Cannot be told; kept.
      return false;
    }
  }

  /** The content has no name any more, and no tailer holds it open. */
  #giveUp(state: FileState): void {
    const { clock, events, positions, fileRegistry } = this.#options;
    this.#states.delete(state);
    const text = pathToText(state.path);
    const lostBytes = state.knownLagBytes;
    if (lostBytes > 0) {
      events.emit("gap", `${text} is gone, and with it ${lostBytes} bytes from byte ${state.offset} on`, {
        file: text,
        offset: state.offset,
        bytes: lostBytes,
      });
    } else {
      events.emit("file_finished", `${text} is gone; all that was seen of it was read, up to byte ${state.offset}`, {
        file: text,
        size: state.offset,
      });
    }
    state.finish(clock.now());
    state.location = undefined;
    fileRegistry.setId(state, undefined);
    if (state.isSaved) positions.saveLazily(new Map([[state.key, state.toEntry()]]));
  }
}
