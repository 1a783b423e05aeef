import type { CancellationToken } from "../runtime/cancellation-token.ts";
import type { FileState } from "./file-state.ts";
import type { Tailer } from "./tailer.ts";

export interface Running {
  readonly tailer: Tailer;
  readonly token: CancellationToken;
  readonly ended: Promise<void>;
  /** Monotonic; when it last reached the end of its file. */
  idleSinceMs: number;
}

/**
 * Which tailer is to close its file so that another can be opened: the one that has been idle for the longest time; a
 * rotated one only if no live one is idle. One whose file has no name that is known is closed last of all, that is
 * never: nobody could open it again. While all are such, nothing new is started.
 *
 * @returns undefined: none, or one is closing already
 */
export function whomToClose(running: ReadonlyMap<FileState, Running>): Running | undefined {
  let oldest: Running | undefined;
  let isOldestLive = false;
  for (const [state, each] of running) {
    if (each.token.isCancelled) return undefined;
    // One that holds its place for a file that is not open takes the descriptor that this file needs.
    const isInTheWay = each.tailer.isHeld && state.predecessor !== undefined && !running.has(state.predecessor);
    const mayClose = isInTheWay || (each.tailer.isIdle && !each.tailer.hasEndMark);
    if (!mayClose || state.location === undefined) continue;
    const isLive = state.phase === "live";
    if (isOldestLive && !isLive) continue;
    if (oldest !== undefined && isLive === isOldestLive && oldest.idleSinceMs <= each.idleSinceMs) continue;
    oldest = each;
    isOldestLive = isLive;
  }
  return oldest;
}
