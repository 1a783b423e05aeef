import { setMaxListeners } from "node:events";

/**
 * An AbortSignal that has children. Cancelling a token cancels all that descend from it; cancelling a child touches
 * nobody above or beside it. Everything else (waiting, passing to `fetch`, timers) is the platform's: use `signal`.
 *
 *   root --.-- manager --.-- tailer 1      cancel(manager): manager, tailer 1, tailer 2
 *          |             `-- tailer 2      cancel(tailer 1): tailer 1
 *          `-- api                         dispose(tailer 1): no more part of the tree
 *
 * A parent knows its children by a plain set, not by listeners: ten thousand tailers under one manager cost ten thousand
 * entries, and each leaves again when it is cancelled or disposed.
 */
export class CancellationToken {
  readonly #controller = new AbortController();
  readonly #children = new Set<CancellationToken>();
  #leaveParent: (() => void) | undefined;

  constructor() {
    // Any number of waits may listen; Node would suspect a leak from the eleventh on.
    setMaxListeners(0, this.#controller.signal);
  }

  /** A token that is also cancelled, with the same reason, when `signal` aborts. Dispose it where `signal` lives longer. */
  static following(signal: AbortSignal): CancellationToken {
    const token = new CancellationToken();
    if (signal.aborted) {
      token.cancel(signal.reason);
      return token;
    }
    const onAbort = () => token.cancel(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    token.#leaveParent = () => signal.removeEventListener("abort", onAbort);
    return token;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get isCancelled(): boolean {
    return this.#controller.signal.aborted;
  }

  /** A new token below this one; cancelled already if this one is. Dispose it when its work is done. */
  child(): CancellationToken {
    const child = new CancellationToken();
    if (this.isCancelled) {
      child.cancel(this.signal.reason);
      return child;
    }
    this.#children.add(child);
    child.#leaveParent = () => this.#children.delete(child);
    return child;
  }

  /** Children that are neither cancelled nor disposed. */
  get children(): number {
    return this.#children.size;
  }

  /**
   * Aborts the signal of this token, then those of its children in the order of their making. Only the first call
   * counts.
   *
   * @param reason the signals' reason; default: the platform's AbortError
   */
  cancel(reason?: unknown): void {
    if (this.isCancelled) return;
    this.#leave();
    this.#controller.abort(reason);
    for (const child of this.#children) child.cancel(this.signal.reason);
  }

  /** Leaves the parent without being cancelled: what the parent does no longer matters here. */
  [Symbol.dispose](): void {
    this.#leave();
  }

  #leave(): void {
    this.#leaveParent?.();
    this.#leaveParent = undefined;
  }
}
