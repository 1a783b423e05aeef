import type { CancellationToken } from "../runtime/cancellation-token.ts";
import type { FileState } from "./file-state.ts";
import type { Tailer } from "./tailer.ts";

export interface Running {
  readonly tailer: Tailer;
  readonly token: CancellationToken;
  readonly ended: Promise<void>;
  readonly isArchive: boolean;
  /** Monotonic; when it last reached the end of its file. */
  idleSinceMs: number;
}

/**
 * Descriptors for those that wait: closes the files of tailers so that others can be opened, the longest idle first; a
 * rotated one only if no live one is idle. One whose file has no name that is known is closed last of all, that is
 * never: nobody could open it again. While all are such, nothing new is started.
 */
export class DescriptorRoom {
  /** In the order in which they became idle. One that reads on stays until it is met, or is idle again. */
  readonly #idle = new Map<FileState, Running>();
  readonly #closing = new Set<Running>();

  becameIdle(state: FileState, running: Running): void {
    this.#idle.delete(state);
    this.#idle.set(state, running);
  }

  ended(state: FileState, running: Running): void {
    this.#idle.delete(state);
    this.#closing.delete(running);
  }

  /**
   * Sees to it that `count` are closing, or as many as may. `inTheWay`: those that hold their place for a file that is not
   * open, and so take the descriptor that this file needs.
   */
  make(count: number, inTheWay: Iterable<Running>): void {
    let missing = count - this.#closing.size;
    if (missing <= 0) return;
    const rotated: Running[] = [];
    for (const running of [...inTheWay, ...this.#closable(missing, rotated), ...rotated]) {
      if (missing <= 0) return;
      if (running.token.isCancelled) continue;
      this.#closing.add(running);
      running.token.cancel();
      missing -= 1;
    }
  }

  /** Live ones, `count` at most; `rotated` takes the others that were met. */
  #closable(count: number, rotated: Running[]): Running[] {
    const live: Running[] = [];
    for (const [state, running] of this.#idle) {
      const { tailer } = running;
      if (!tailer.isIdle) {
        this.#idle.delete(state);
        continue;
      }
      if (tailer.hasEndMark || state.location === undefined || this.#closing.has(running)) continue;
      if (state.phase === "live") live.push(running);
      else rotated.push(running);
      if (live.length >= count) break;
    }
    return live;
  }
}
