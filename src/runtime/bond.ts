import { toError } from "../errors.ts";
import { CancellationToken } from "./cancellation-token.ts";

/**
 * Binds the parts of a work that live and die together, such as the loops over one connection: the first that has had
 * enough, or fails, ends all, and so does the outer signal.
 */
export class Bond {
  readonly #token: CancellationToken;
  #failure: Error | undefined;

  constructor(outer: AbortSignal) {
    this.#token = CancellationToken.following(outer);
  }

  /** Aborts at the end, whatever it was. */
  get signal(): AbortSignal {
    return this.#token.signal;
  }

  /** All is done. */
  readonly end = (): void => this.#token.cancel();

  /** It broke. What goes wrong behind the end is a consequence of it, and does not count. */
  readonly fail = (thrown: unknown): void => {
    if (!this.#token.isCancelled) this.#failure = toError(thrown);
    this.end();
  };

  /**
   * Does `work`, which comes back soon after `signal` aborts; where it comes back, all is at its end.
   *
   * @returns why it broke; undefined: it came to its end, and what it has made may still be used.
   */
  async hold(work: () => Promise<void>): Promise<Error | undefined> {
    try {
      await work();
    } catch (thrown) {
      // Also of a work that was told to end before it had made what it needs.
      this.#failure ??= toError(thrown);
    }
    this.end();
    return this.#failure;
  }
}
