import { ChannelRegistry, type Receiver, type Sender } from "../channel/index.ts";
import { StageError, toError } from "../errors.ts";
import type { CancellationToken } from "./cancellation-token.ts";
import type { Clock, Timer } from "./clock.ts";

/** Where the supervisor says what it does; a `Logger` is one. */
interface SupervisorLog {
  error(fields: { readonly [field: string]: unknown }, message: string): void;
  info(fields: { readonly [field: string]: unknown }, message: string): void;
}

/** A failure that nobody below could deal with. */
export interface SupervisedError {
  readonly error: Error;
  /** Name of the component that reported it. */
  readonly component: string;
}

export interface SupervisorOptions {
  readonly clock: Clock;
  readonly log: SupervisorLog;
  /** The root of all tokens; cancelled as the shutdown begins, except where the work ended by itself. */
  readonly token: CancellationToken;
  /**
   * Shuts everything down gracefully: sources stop, channels drain and close, sinks flush, positions commit. Called
   * once, after the token was cancelled. Resolves when all is done; rejecting is one more supervised error.
   */
  readonly shutdown: () => Promise<void>;
  /** Longest wait in milliseconds for a shutdown that an error caused, counted from the error. */
  readonly gracefulTimeoutMs: number;
  /** Longest wait in milliseconds for a shutdown that a signal caused; 0: no limit. */
  readonly onSignalTimeoutMs: number;
  /** Ends the process with this code, at once or after the little that still has to be saved. */
  readonly forceExit: (code: number) => void;
  /** Where the error channel is listed; default: nowhere. */
  readonly registry?: ChannelRegistry;
  /** Errors kept; later ones are counted only. Default 64. */
  readonly errorBufferSize?: number;
}

export interface SupervisorResult {
  /** 0: stopped gracefully, by a signal or at the end of the work. 1: an error, or forced. */
  readonly exitCode: 0 | 1;
  readonly isForced: boolean;
  /** The error that came first. */
  readonly first: SupervisedError | undefined;
  /** All errors that were reported, kept or not. */
  readonly errors: number;
}

/** Where errors that nobody caught come from; `process` is one. */
export interface ProcessErrors {
  on(event: "uncaughtException" | "unhandledRejection", listener: (error: unknown) => void): unknown;
  off(event: "uncaughtException" | "unhandledRejection", listener: (error: unknown) => void): unknown;
}

const DEFAULT_ERRORS = 64;

type Cause = "error" | "signal" | "finished";
type Ending = "done" | "expired" | "forced";

/**
 * The supervision task. All errors end here, through a bounded channel that keeps the first ones and counts the rest;
 * there are no restarts.
 *
 *   running --error----> stopping, gracefulTimeoutMs --.
 *           --signal---> stopping, onSignalTimeoutMs --+-- shutdown() done --> ended (0, or 1 if there was any error)
 *           --finished-> stopping, no limit -----------+-- time is over -----> forced (1)
 *                            |                         `-- second signal ----> forced (1)
 *                            `--error: gracefulTimeoutMs from now, where that ends sooner
 *
 * Errors that come before `run` wait in the channel; those after the first are read when the shutdown is over.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #sender: Sender<SupervisedError>;
  readonly #receiver: Receiver<SupervisedError>;
  readonly #strays = new Set<(error: Error) => boolean>();
  /** Aborts when a stop is asked for; wakes `run` where it waits for the first error. */
  readonly #stopAsked = new AbortController();
  /** What asked for the stop, for the log. */
  #stopReason = "";
  #cause: Cause | undefined;
  #first: SupervisedError | undefined;
  #strayErrors = 0;
  #limit: Timer | undefined;
  #limitAtMs = Number.POSITIVE_INFINITY;
  #end: ((ending: Ending) => void) | undefined;
  #isForced = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    // drop_newest: in a cascade the first error is the cause, and whoever reports one must never wait.
    const { sender, receiver } = (options.registry ?? new ChannelRegistry()).create<SupervisedError>({
      component: "runtime",
      channel: "supervisor",
      why: "Errors are fatal, so the first is what counts: a few are kept for the log, the rest is counted.",
      capacity: options.errorBufferSize ?? DEFAULT_ERRORS,
      overflow: "drop_newest",
    });
    this.#sender = sender;
    this.#receiver = receiver;
  }

  /**
   * Takes an error from a component; never waits, never throws. The first one ends the process, in good order. Where the
   * error itself names another component (the one whose input is full), that one is to blame.
   */
  report(error: unknown, component: string): void {
    const supervised = { error: toError(error), component: error instanceof StageError ? error.component : component };
    if (this.#sender.trySend(supervised) === "closed") {
      this.#options.log.error(fieldsOf(supervised), `Error after the end: ${describe(supervised)}`);
    }
  }

  /** A signal: stop gracefully. Later calls, and those after an error, change nothing. */
  terminate(signal: string): void {
    this.#askToStop("signal", `Received ${signal}, initiating graceful shutdown`);
  }

  /** The work has ended by itself: close down in order, without cancelling anything. */
  finish(): void {
    this.#askToStop("finished", "All work is done, closing down");
  }

  /** A second signal: end now, with exit code 1. */
  force(signal: string): void {
    this.#options.log.error({ code: "TR_SHUTDOWN_FORCED" }, `Received ${signal} again, forcing shutdown`);
    this.#isForced = true;
    this.#end?.("forced");
    // Where `run` had not even begun to stop, it must not wait on.
    this.#cause ??= "signal";
    this.#stopAsked.abort();
    this.#options.forceExit(1);
  }

  /**
   * Errors that nobody caught and for which `isStray` is true are counted, not reported; for libraries that reject a
   * promise of their own beside the one that was handled. Only for errors out of `watch`. Returns its own undoing.
   */
  ignoreStray(isStray: (error: Error) => boolean): () => void {
    this.#strays.add(isStray);
    return () => void this.#strays.delete(isStray);
  }

  /** Errors that `ignoreStray` recognised. */
  get strayErrors(): number {
    return this.#strayErrors;
  }

  /** Takes uncaught exceptions and unhandled rejections of `source` (the process) as errors. Dispose to stop. */
  watch(source: ProcessErrors): Disposable {
    const listener = (thrown: unknown) => {
      const error = toError(thrown);
      if (this.#isStray(error)) this.#strayErrors += 1;
      else this.report(error, "process");
    };
    source.on("uncaughtException", listener);
    source.on("unhandledRejection", listener);
    return {
      [Symbol.dispose]() {
        source.off("uncaughtException", listener);
        source.off("unhandledRejection", listener);
      },
    };
  }

  /** Waits for the first error, `terminate` or `finish`, sees the shutdown through, and tells the exit code. Call it once. */
  async run(): Promise<SupervisorResult> {
    const { log, token } = this.#options;
    const failure = await this.#receiver.recv({ signal: this.#stopAsked.signal });
    if (failure !== undefined) {
      this.#cause = "error";
      this.#fail(failure);
      log.info({}, "Initiating graceful shutdown due to error");
    } else {
      log.info({}, this.#stopReason);
    }
    if (this.#cause !== "finished") token.cancel(failure?.error ?? new Error(this.#stopReason));
    const ending = await this.#shutDown();
    return this.#settle(ending);
  }

  #askToStop(cause: "signal" | "finished", reason: string): void {
    if (this.#cause === "finished" && cause === "signal") {
      // The work is over and only closes down, but a sink may still hold it up: now the signal's limit counts.
      this.#cause = "signal";
      this.#options.log.info({}, reason);
      this.#options.token.cancel(new Error(reason));
      this.#limitTo(this.#options.onSignalTimeoutMs);
      return;
    }
    if (this.#cause !== undefined) return;
    this.#cause = cause;
    this.#stopReason = reason;
    this.#stopAsked.abort();
  }

  async #shutDown(): Promise<Ending> {
    if (this.#isForced) return "forced";
    const over = new AbortController();
    let watching: Promise<void> | undefined;
    try {
      const ending = new Promise<Ending>((resolve) => {
        this.#end = resolve;
      });
      if (this.#cause === "error") this.#limitTo(this.#options.gracefulTimeoutMs, { isZeroALimit: true });
      else if (this.#cause === "signal") this.#limitTo(this.#options.onSignalTimeoutMs);
      void this.#runShutdown();
      if (this.#first === undefined) watching = this.#watchForError(over.signal);
      return await ending;
    } finally {
      over.abort();
      // It may hold an error that it just took out of the channel.
      await watching;
      this.#limit?.cancel();
    }
  }

  async #runShutdown(): Promise<void> {
    try {
      await this.#options.shutdown();
    } catch (error) {
      this.report(error, "shutdown");
    }
    this.#end?.("done");
  }

  /** An error in the middle of a shutdown that began well. */
  async #watchForError(signal: AbortSignal): Promise<void> {
    const failure = await this.#receiver.recv({ signal });
    if (failure === undefined) return;
    this.#fail(failure);
    this.#options.token.cancel(failure.error);
    this.#limitTo(this.#options.gracefulTimeoutMs, { isZeroALimit: true });
  }

  #fail(failure: SupervisedError): void {
    this.#first = failure;
    this.#options.log.error(fieldsOf(failure), `Pipeline error received: ${describe(failure)}`);
  }

  /** Ends the shutdown in `ms`, unless an earlier limit stands. */
  #limitTo(ms: number, options: { isZeroALimit?: boolean } = {}): void {
    if (ms === 0 && !options.isZeroALimit) return;
    const { clock, log, forceExit } = this.#options;
    const atMs = clock.monotonic() + ms;
    if (atMs >= this.#limitAtMs) return;
    this.#limitAtMs = atMs;
    this.#limit?.cancel();
    this.#limit = clock.after(ms, () => {
      log.error({ code: "TR_SHUTDOWN_FORCED" }, "Graceful shutdown timeout expired, forcing shutdown");
      this.#end?.("expired");
      forceExit(1);
    });
  }

  #settle(ending: Ending): SupervisorResult {
    const { log } = this.#options;
    this.#sender.close();
    for (let later = this.#receiver.tryRecv(); later !== undefined; later = this.#receiver.tryRecv()) {
      if (this.#first === undefined) this.#fail(later);
      else log.error(fieldsOf(later), `A later error: ${describe(later)}`);
    }
    const { sent, dropped } = this.#receiver.counters();
    this.#receiver.close();
    if (dropped.policy > 0) log.error({ errors: dropped.policy }, `${dropped.policy} more errors came after these`);
    const isForced = ending !== "done";
    const exitCode = isForced || this.#first !== undefined ? 1 : 0;
    if (!isForced) log.info({}, "Graceful shutdown complete");
    return { exitCode, isForced, first: this.#first, errors: sent };
  }

  #isStray(error: Error): boolean {
    for (const isStray of this.#strays) {
      try {
        if (isStray(error)) return true;
      } catch {
        // A predicate that fails recognises nothing: the error is reported as itself.
      }
    }
    return false;
  }
}

function fieldsOf({ component, error }: SupervisedError): { readonly [field: string]: unknown } {
  return { component, err: error, ...("code" in error ? { code: error.code } : {}) };
}

/** Names the component once: errors of stages carry it in front already. */
function describe({ component, error }: SupervisedError): string {
  return error.message.startsWith(`${component}: `) ? error.message : `${component}: ${error.message}`;
}
