/** The signals that mean something here. */
export type MonitoredSignal = "SIGTERM" | "SIGINT" | "SIGHUP" | "SIGUSR1";

/** Where signals come from; `process` is one. */
export interface SignalEmitter {
  on(signal: MonitoredSignal, listener: () => void): unknown;
  off(signal: MonitoredSignal, listener: () => void): unknown;
}

export interface SignalHandlers {
  /** The first SIGTERM or SIGINT: stop gracefully. */
  terminate(signal: "SIGTERM" | "SIGINT"): void;
  /** Every later SIGTERM or SIGINT, of either kind: stop now. */
  force(signal: "SIGTERM" | "SIGINT"): void;
  /** SIGHUP; not called any more once termination was asked for. */
  reload(): void;
  /** SIGUSR1. */
  rotate(): void;
}

/** Emitters whose signals have no effect any more. */
const deaf = new WeakSet<SignalEmitter>();
const ignore = (): void => {};

/**
 * Listens to the process's signals and turns each into one call. It decides nothing else, so that it can be looked at,
 * and taken away, by itself. (Before any listener exists, Node opens its debugger on SIGUSR1: the program's entry point
 * must have put one up before this class is even loaded.)
 *
 *   running --SIGTERM/SIGINT--> terminating (terminate) --SIGTERM/SIGINT--> terminating (force)
 */
export class SignalMonitor {
  readonly #emitter: SignalEmitter;
  readonly #listeners: ReadonlyMap<MonitoredSignal, () => void>;
  #isTerminating = false;

  constructor(emitter: SignalEmitter, handlers: SignalHandlers) {
    this.#emitter = emitter;
    const stop = (signal: "SIGTERM" | "SIGINT") => {
      if (this.#isTerminating) return handlers.force(signal);
      this.#isTerminating = true;
      handlers.terminate(signal);
    };
    this.#listeners = new Map([
      ["SIGTERM", () => stop("SIGTERM")],
      ["SIGINT", () => stop("SIGINT")],
      [
        "SIGHUP",
        () => {
          // A new configuration for what is about to end would only hold up the end.
          if (!this.#isTerminating) handlers.reload();
        },
      ],
      ["SIGUSR1", () => handlers.rotate()],
    ]);
    for (const [signal, listener] of this.#listeners) emitter.on(signal, listener);
  }

  /**
   * The work is done and only the exit is left: a signal has no effect any more. Without this one that comes now would kill
   * the process, and its exit code with it.
   */
  closeForGood(): void {
    if (!deaf.has(this.#emitter)) for (const signal of this.#listeners.keys()) this.#emitter.on(signal, ignore);
    deaf.add(this.#emitter);
    this.close();
  }

  /** Takes every listener away; signals mean again what they did before. */
  close(): void {
    for (const [signal, listener] of this.#listeners) this.#emitter.off(signal, listener);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
