import { ChannelClosedError, StageError, toError } from "../errors.ts";
import { Backoff } from "../runtime/backoff.ts";
import { describeConnectionError } from "../runtime/connection-error.ts";
import type { StageContext } from "./contract.ts";

/**
 * The server that a source reads from, which may be away for a while.
 *
 * ```
 * connecting --answered--> there --the reading fails--> away: told once, a wait, another attempt --.
 *                            ^                                                                     |
 *                            '--------------------------- answered: told --------------------------'
 * ```
 */
export class Upstream {
  readonly #context: Pick<StageContext, "name" | "log" | "clock" | "random">;
  readonly #describe: (thrown: unknown) => string;
  readonly #backoff: Backoff;
  #trouble: string | undefined = "it is connecting";
  #isTold = false;

  /** @param describe a failure in one line, without secrets */
  constructor(
    context: Pick<StageContext, "name" | "log" | "clock" | "random">,
    describe = (thrown: unknown) => describeConnectionError(toError(thrown)),
  ) {
    this.#context = context;
    this.#describe = describe;
    this.#backoff = new Backoff({ initialMs: 100, maxMs: 10_000 }, context.random);
  }

  /** Why nothing can be read at the moment; undefined: nothing is wrong. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** What was asked has been answered: whatever was wrong is over, and the next failure is the first one again. */
  answered(): void {
    const { log, name } = this.#context;
    if (this.#isTold) log.info({}, `${name} reads again`);
    this.#isTold = false;
    this.#trouble = undefined;
    this.#backoff.reset();
  }

  /**
   * Calls `read` until it comes to its end, and again, later and later, each time it fails: one call, one connection.
   * Resolves too when `signal` aborts, and when the pipeline takes nothing more.
   *
   * @throws StageError of `read`: what trying again would not mend.
   */
  async readOn(signal: AbortSignal, read: () => Promise<void>): Promise<void> {
    const { clock, log, name } = this.#context;
    while (!signal.aborted) {
      try {
        return await read();
      } catch (thrown) {
        if (thrown instanceof StageError) throw thrown;
        if (thrown instanceof ChannelClosedError || signal.aborted) return;
        const reason = this.#describe(thrown);
        if (!this.#isTold) log.warn({ reason }, `${name} cannot read: ${reason}; trying on`);
        this.#isTold = true;
        this.#trouble = reason;
        await clock.sleep(this.#backoff.next(), { signal });
      }
    }
  }
}
