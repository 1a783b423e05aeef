import { setMaxListeners } from "node:events";
import { z } from "zod";
import { BackpressureError, StageError } from "../errors.ts";
import {
  Dispatch,
  HandlerPool,
  type StartWorker,
  startProcess,
  startThread,
  Task,
  type TaskOwner,
  tryModule,
} from "../handlers/index.ts";
import type { Batch, DataRecord } from "../record/index.ts";
import { systemClock, type Timer } from "../runtime/clock.ts";
import { untilWoken } from "../runtime/until-woken.ts";
import {
  defineSink,
  delivered,
  type Outcome,
  REPLACED,
  retry,
  type Sink,
  type SinkContext,
  type WriteProgress,
} from "../stage/index.ts";
import { silentLogger } from "../telemetry/log.ts";
import { whyNotRunnable } from "./handler/runnable.ts";

/** How long messages that a worker holds may still end after the write was given up; at a reload, as long as they may take. */
const ABORT_GRACE_MS = 1000;
/** Between two warnings of events in answers. */
const WARN_EVERY_MS = 60_000;

const options = z
  .strictObject({
    command: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("Program and arguments of a foreign handler: messages on its standard input, answers on its output."),
    module: z
      .string()
      .min(1)
      .optional()
      .describe("File with a function as its default export: (event, { id, attempt }) => void, async too."),
    concurrency: z.int().min(1).max(1024).default(4).describe("Processes, or threads."),
    max_in_flight: z.int().min(1).max(1000).default(1).describe("Messages that one of them holds at once."),
    timeout_ms: z
      .int()
      .min(1)
      .default(30000)
      .describe("Longest wait for the answer to a message, milliseconds; then its worker is ended."),
    max_attempts: z.int().min(1).default(5).describe("Attempts before a message goes to the dead letters."),
    backoff: z
      .strictObject({
        initial_ms: z.int().min(0).default(250).describe("First wait, milliseconds."),
        max_ms: z.int().min(0).default(30000).describe("Longest wait, milliseconds."),
        multiplier: z.number().min(1).max(1000).default(2).describe("Each wait is this many times the one before."),
        jitter: z.number().min(0).max(1).default(0.5).describe("Random part of each wait, a fraction of 1."),
      })
      .prefault({})
      .describe("Between two attempts of a message."),
    grace_ms: z.int().min(0).default(5000).describe("Between SIGTERM and SIGKILL for a worker, milliseconds."),
  })
  .superRefine(checkWhatRuns);

/** For a module that is only tried. */
const UNHEARD = { events: undefined, log: silentLogger, clock: systemClock };

type HandlerOptions = z.infer<typeof options>;

/**
 * Runs each message through code of the user's, in worker threads or in foreign processes, and ends it with the answer:
 * ok is `delivered`; an error is tried again after a wait, up to `max_attempts`, and then a dead letter, as is one that
 * says that trying again would not help.
 *
 * Messages end one by one and in any order. At least once: a worker, or the agent, may die between the work and its
 * answer (or the commit of it); `attempt` tells the handler that it may have seen a message before, `id` which.
 *
 * A sink has no output: `events` in an answer are counted, and a warning says that they go nowhere.
 */
export const handler = defineSink({
  type: "handler",
  summary: "Runs each message through your own code, in TypeScript or in any language, and ends it with the answer.",
  options,
  guarantee: "at_least_once",
  channels: ["shared.ffi", "worker.command_processor", "worker.in_process_events", "task_readiness.event_channel"],
  order: "none",
  readsFiles: true,
  // Enough for every worker to have work, also where each batch is one message that waits for its next attempt.
  concurrency: ({ concurrency, max_in_flight: maxInFlight }) => Math.min(1000, 4 + 2 * concurrency * maxInFlight),
  async check({ module }) {
    const why = module === undefined ? undefined : await tryModule({ module, ...UNHEARD });
    return why === undefined ? [] : [{ path: ["module"], message: why }];
  },
  async open(checked, context) {
    const sink = new HandlerSink(checked, context);
    try {
      await sink.start();
    } catch (error) {
      await sink[Symbol.asyncDispose]();
      throw error;
    }
    return sink;
  },
  async probe(checked, { name, log, clock }) {
    const { module } = checked;
    const why =
      whyNotRunnable(checked)?.message ??
      (module === undefined ? undefined : await tryModule({ module, events: undefined, log, clock }));
    if (why !== undefined) throw new StageError("TR_STAGE_OPEN", name, why);
  },
});

class HandlerSink implements Sink {
  readonly #options: HandlerOptions;
  readonly #context: SinkContext;
  readonly #dispatch: Dispatch;
  readonly #pool: HandlerPool;
  readonly #writes = new Set<WriteProgress>();
  #check: Timer | undefined;
  #isClosed = false;
  #events = 0;
  #warnedAtMs = Number.NEGATIVE_INFINITY;

  constructor(checked: HandlerOptions, context: SinkContext) {
    const { name, log, events, clock, random } = context;
    this.#options = checked;
    this.#context = context;
    this.#dispatch = Dispatch.shared(context);
    this.#pool = new HandlerPool({
      name,
      start: this.#starter(),
      maxInFlight: checked.max_in_flight,
      timeoutMs: checked.timeout_ms,
      maxAttempts: checked.max_attempts,
      backoff: {
        initialMs: checked.backoff.initial_ms,
        maxMs: checked.backoff.max_ms,
        multiplier: checked.backoff.multiplier,
        jitter: checked.backoff.jitter,
      },
      graceMs: checked.grace_ms,
      dispatch: this.#dispatch,
      clock,
      random,
      log,
      events,
      onAlive: () => {
        for (const progress of this.#writes) progress.alive();
      },
      onTrouble: (reason) => {
        if (reason !== undefined) for (const progress of this.#writes) progress.stalled(reason);
      },
    });
    this.#dispatch.join(this.#pool);
  }

  #starter(): StartWorker {
    const { command, module } = this.#options;
    const { log, clock } = this.#context;
    const { events } = this.#dispatch;
    if (command !== undefined) return (listener) => startProcess({ command, log, clock }, listener);
    return (listener) => startThread({ module: module!, events, log, clock }, listener);
  }

  async start(): Promise<void> {
    await this.#dispatch.scale(this.#pool, this.#options.concurrency);
    this.#armCheck();
    // Whether a program starts nobody can tell but by waiting; of a module it is known as soon as it is loaded.
    if (this.#options.module === undefined) return;
    await this.#pool.firstNews;
    const { trouble } = this.#pool;
    if (trouble !== undefined) throw new StageError("TR_STAGE_OPEN", this.#context.name, trouble);
  }

  /** Often enough to see a message's time pass, and to say that all is well before anybody asks (2 s). */
  #armCheck(): void {
    const everyMs = Math.min(1000, Math.max(10, this.#options.timeout_ms / 8));
    this.#check = this.#context.clock.after(everyMs, () => {
      if (this.#isClosed) return;
      this.#dispatch.check(this.#pool);
      this.#armCheck();
    });
  }

  async write(
    batch: Batch,
    { signal, progress = NOBODY }: { signal: AbortSignal; progress?: WriteProgress },
  ): Promise<Outcome> {
    // All writes share it, and each waits for it: that is no leak of listeners.
    setMaxListeners(0, signal);
    this.#writes.add(progress);
    const { trouble } = this.#pool;
    if (trouble !== undefined) progress.stalled(trouble);
    const messages = new MessagesOfBatch(progress, (events) => this.#count(events));
    try {
      for (const record of batch.records) {
        if (!(await this.#offer(messages.task(record), signal))) break;
      }
      await messages.ended(signal);
      if (!messages.areOver)
        await this.#giveUp(messages, signal.reason === REPLACED ? this.#options.timeout_ms : ABORT_GRACE_MS);
      if (messages.areOver && messages.count === batch.count) {
        // Without anybody to tell, the outcome must say it all.
        if (progress === NOBODY && messages.refusal !== undefined)
          return { kind: "rejected", reason: messages.refusal };
        return delivered();
      }
      return retry("given up before every message was answered");
    } finally {
      this.#writes.delete(progress);
    }
  }

  /** Waits as long as the refusal suggests, and tries again; false: given up. */
  async #offer(task: Task, signal: AbortSignal): Promise<boolean> {
    while (!signal.aborted) {
      try {
        this.#dispatch.offer(this.#pool, task);
        return true;
      } catch (error) {
        if (!(error instanceof BackpressureError)) throw error;
        await this.#context.clock.sleep(error.suggestedWaitMs, { signal });
      }
    }
    task.isOver = true;
    return false;
  }

  /** What no worker has is let go at once; what one has may end within a moment, so that it is not done twice. */
  async #giveUp(messages: MessagesOfBatch, graceMs: number): Promise<void> {
    for (const task of messages.waiting()) {
      this.#pool.cancel(task);
      messages.letGo(task);
    }
    const { clock } = this.#context;
    const grace = new AbortController();
    const timer = clock.after(graceMs, () => grace.abort());
    await messages.ended(grace.signal);
    timer.cancel();
    for (const task of messages.running()) this.#pool.cancel(task);
  }

  #count(events: number): void {
    if (events === 0) return;
    this.#events += events;
    const nowMs = this.#context.clock.monotonic();
    if (nowMs - this.#warnedAtMs < WARN_EVERY_MS) return;
    this.#warnedAtMs = nowMs;
    this.#context.log.warn(
      { events: this.#events },
      `the answers of ${this.#context.name} carry events, which go nowhere: a sink has no output; their messages count as done. Have the handler write them where they belong (so far: ${this.#events})`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#check?.cancel();
    await this.#dispatch.stop(this.#pool);
    await this.#dispatch.leave(this.#pool, this.#context.channels);
  }
}

/** The messages of one write, until each has ended. */
class MessagesOfBatch implements TaskOwner {
  readonly #progress: WriteProgress;
  readonly #onEvents: (events: number) => void;
  readonly #open = new Set<Task>();
  #wake: (() => void) | undefined;
  #letGo = 0;
  count = 0;
  /** Why one was refused, if any was. */
  refusal: string | undefined;

  constructor(progress: WriteProgress, onEvents: (events: number) => void) {
    this.#progress = progress;
    this.#onEvents = onEvents;
  }

  task(record: DataRecord): Task {
    const task = new Task(record, this);
    this.#open.add(task);
    this.count += 1;
    return task;
  }

  /** Each has its ending, and none was let go. */
  get areOver(): boolean {
    return this.#open.size === 0 && this.#letGo === 0;
  }

  waiting(): Task[] {
    return [...this.#open].filter(({ isRunning }) => !isRunning);
  }

  running(): Task[] {
    return [...this.#open].filter(({ isRunning }) => isRunning);
  }

  letGo(task: Task): void {
    this.#letGo += 1;
    this.#end(task);
  }

  /** Resolves when none is open any more, or `signal` aborts. */
  async ended(signal: AbortSignal): Promise<void> {
    if (this.#open.size === 0 || signal.aborted) return;
    await untilWoken(signal, (wake) => {
      this.#wake = wake;
    });
  }

  done(task: Task, events: number): void {
    this.#progress.delivered(task.record);
    this.#onEvents(events);
    this.#end(task);
  }

  failed(): void {
    this.#progress.failed();
  }

  refused(task: Task, reason: string): void {
    this.refusal ??= reason;
    // It is open until its letter is durable.
    void this.#progress.rejected(task.record, reason, task.attempt).then((isDurable) => {
      if (isDurable) this.#end(task);
      else this.letGo(task);
    });
  }

  #end(task: Task): void {
    this.#open.delete(task);
    if (this.#open.size === 0) this.#wake?.();
  }
}

/** For whoever writes without asking for progress. */
const NOBODY: WriteProgress = {
  delivered() {},
  rejected: async () => true,
  failed() {},
  alive() {},
  stalled() {},
};

function checkWhatRuns(
  checked: { command?: readonly string[] | undefined; module?: string | undefined },
  context: z.RefinementCtx,
): void {
  const { command, module } = checked;
  if ((command === undefined) === (module === undefined)) {
    const message =
      command === undefined
        ? 'has nothing to run; give command = ["ruby", "worker.rb"], or module = "./task.ts"'
        : "has a command and a module; give one of the two";
    context.addIssue({ code: "custom", path: command === undefined ? [] : ["module"], message });
    return;
  }
  const why = whyNotRunnable(checked);
  if (why !== undefined) context.addIssue({ code: "custom", path: [...why.path], message: why.message });
}
