import { StageError, toError } from "../errors.ts";
import type { StageContext } from "../stage/index.ts";
import { PgFailure } from "./failure.ts";
import { PgSession } from "./session.ts";

export interface PgReaderOptions {
  readonly url: string;
  readonly timeoutMs: number;
}

/** What is to be there. */
export interface PgTarget {
  /** For messages: "table events". */
  readonly what: string;
  /** On each new session: looks for it. @throws StageError that says what is wrong. PgFailure */
  find(session: PgSession): Promise<unknown>;
}

/** Makes the sessions that a source reads through, one after the other. */
export class PgReader {
  readonly #options: PgReaderOptions;
  readonly #context: Pick<StageContext, "name" | "clock">;
  readonly #target: PgTarget;
  #wasFound = false;

  constructor(options: PgReaderOptions, context: Pick<StageContext, "name" | "clock">, target: PgTarget) {
    this.#options = options;
    this.#context = context;
    this.#target = target;
  }

  /**
   * A new session, in which what is read has been found. At the start what is configured wrongly ends the agent; later it was
   * right once, and whoever broke it can mend it.
   *
   * @throws StageError at the start: waiting would not help. PgFailure
   */
  async connect(signal: AbortSignal): Promise<PgSession> {
    const { name, clock } = this.#context;
    const { url, timeoutMs } = this.#options;
    const { what, find } = this.#target;
    try {
      const session = await PgSession.open({ url, applicationName: `tailrace ${name}`, timeoutMs, clock }, signal);
      try {
        await find(session);
      } catch (thrown) {
        session.destroy("not ready");
        throw thrown;
      }
      this.#wasFound = true;
      return session;
    } catch (thrown) {
      if (!this.#wasFound && thrown instanceof PgFailure && thrown.kind !== "passing")
        throw new StageError("TR_STAGE_OPEN", name, `${what}: ${thrown.message}`);
      if (this.#wasFound && thrown instanceof StageError) throw new PgFailure(thrown.message, { kind: "lasting" });
      throw thrown;
    }
  }
}

/** Connects once and looks, for `validate --live`. @throws StageError, whatever is wrong. */
export async function probePostgres(
  options: PgReaderOptions,
  context: Pick<StageContext, "name" | "clock">,
  target: PgTarget,
): Promise<void> {
  try {
    await using _session = await new PgReader(options, context, target).connect(new AbortController().signal);
  } catch (thrown) {
    if (thrown instanceof StageError) throw thrown;
    throw new StageError("TR_STAGE_OPEN", context.name, `${target.what}: ${toError(thrown).message}`);
  }
}
