/**
 * Handles that were forgotten. A sender that is garbage-collected unclosed leaves its receiver waiting for ever, a
 * receiver its senders. In development such a handle is told of; nothing is mended, because what a program does must not
 * depend on when memory is collected.
 */
export interface UnclosedHandle {
  readonly side: "sender" | "receiver";
  /** Where the handle was made. */
  readonly madeAt: string;
}

export type UnclosedHook = (handle: UnclosedHandle) => void;

let hook: UnclosedHook = warn;

/** Replaces who is told of forgotten handles (default: a process warning); returns the one before. */
export function setUnclosedHook(next: UnclosedHook): UnclosedHook {
  const previous = hook;
  hook = next;
  return previous;
}

/** One warning per place, and not without end: a forgetful loop must not flood standard error. */
const warnedOf = new Set<string>();

function warn(handle: UnclosedHandle): void {
  const place = `${handle.side} ${handle.madeAt}`;
  if (warnedOf.has(place) || warnedOf.size >= 100) return;
  warnedOf.add(place);
  process.emitWarning(`A channel's ${handle.side} was garbage-collected without close()`, {
    type: "TailraceWarning",
    code: "TAILRACE_UNCLOSED_CHANNEL",
    detail: handle.madeAt,
  });
}

interface Watched extends UnclosedHandle {
  /** False once closing does not matter any more: the other side is gone. Must not hold the handle. */
  readonly isWanted: () => boolean;
}

const registry =
  process.env["NODE_ENV"] === "production"
    ? undefined
    : new FinalizationRegistry<Watched>((watched) => {
        if (watched.isWanted()) hook({ side: watched.side, madeAt: watched.madeAt });
      });

/** Watches a handle until `forgetHandle`. `isWanted` must not refer to the handle, or it would live for ever. */
export function watchHandle(handle: object, side: "sender" | "receiver", isWanted: () => boolean): void {
  registry?.register(handle, { side, isWanted, madeAt: callerStack() }, handle);
}

export function forgetHandle(handle: object): void {
  registry?.unregister(handle);
}

/** The stack, without the frames of this file and of the handle. */
function callerStack(): string {
  const frames = new Error("made here").stack?.split("\n").slice(1) ?? [];
  return frames.slice(3, 8).join("\n");
}
