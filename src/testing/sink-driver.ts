import type { Json } from "../checkpoint/checkpoint-store.ts";
import { StageError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { Marks, Sink, SinkContext } from "../stage/contract.ts";
import type { EventName } from "../telemetry/events.ts";
import { silentLogger } from "../telemetry/log.ts";
import { memoryStageChannels } from "./memory-stage-channels.ts";

/** What survives a crash of the process: the sink's marks, and how many batches the committed sets describe. */
export class DriverStore {
  readonly marks = new Map<string, Json>();
  committedBatches = 0;
  wasCleanStop = false;
  /** Called before each commit and `saveMarks`; throwing refuses it. */
  onCommit: () => void = () => {};
  /** Called after it. Throwing hides from the sink that it happened: the process ended in between. */
  afterCommit: () => void = () => {};

  commit(marks: Marks, committedBatches = this.committedBatches): void {
    this.onCommit();
    for (const [name, value] of Object.entries(marks)) {
      if (value === undefined) this.marks.delete(name);
      else this.marks.set(name, JSON.parse(JSON.stringify(value)) as Json);
    }
    this.committedBatches = committedBatches;
    this.afterCommit();
  }
}

export interface SinkDriverOptions {
  readonly open: (context: SinkContext) => Promise<Sink>;
  readonly store: DriverStore;
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly stateDir: string;
  /** Batches between two barriers; default 2. */
  readonly barrierEvery?: number;
  /** True: writes go on while a barrier is under way, as in the pipeline. Default true. */
  readonly overlaps?: boolean;
  /** Retries of one batch before the driver gives up; default 20. */
  readonly maxRetries?: number;
}

/**
 * Drives one sink as the pipeline does, with one batch after the other, and nothing else of it: barriers every few
 * batches, commits into a DriverStore, batches written again after a failed barrier. For tests of sinks.
 */
export class SinkDriver {
  readonly sink: Sink;
  readonly events: readonly DriverEvent[];
  readonly warnings: readonly string[];
  /** Barriers that failed, and after which batches were written again. */
  rewinds = 0;
  readonly retries: string[] = [];
  readonly rejections: string[] = [];
  readonly #options: SinkDriverOptions;
  #next: number;
  #epoch = 0;
  #barrier: Promise<void> | undefined;
  readonly #failures: unknown[] = [];

  private constructor(options: SinkDriverOptions, sink: Sink, events: DriverEvent[], warnings: string[]) {
    this.#options = options;
    this.sink = sink;
    this.events = events;
    this.warnings = warnings;
    this.#next = options.store.committedBatches;
  }

  static async open(options: SinkDriverOptions): Promise<SinkDriver> {
    const { store, fileSystem, clock, stateDir } = options;
    const events: DriverEvent[] = [];
    const warnings: string[] = [];
    const log = { ...silentLogger, warn: (_fields: object, message: string) => void warnings.push(message) };
    const wasCleanStop = store.wasCleanStop;
    const sink = await options.open({
      name: "out",
      log,
      events: { emit: (name, message, facts) => void events.push({ name, message, facts }) },
      clock,
      random: systemRandom,
      fileSystem,
      host: "test",
      stateDir,
      channels: memoryStageChannels(),
      marks: new Map(store.marks),
      saveMarks: async (marks) => store.commit(marks),
      wasCleanStop,
    });
    store.wasCleanStop = false;
    return new SinkDriver(options, sink, events, warnings);
  }

  /** Writes `batches` from the first uncommitted one on and commits them all. Rejects with what the sink throws. */
  async run(batches: readonly Batch[]): Promise<void> {
    let retries = 0;
    this.#next = Math.max(this.#next, this.#options.store.committedBatches);
    for (;;) {
      while (this.#next < batches.length) {
        if (this.#failures.length > 0) throw this.#failures[0];
        const epoch = this.#epoch;
        const outcome = await this.sink.write(batches[this.#next]!, { signal: new AbortController().signal });
        // A barrier failed meanwhile: this batch is among those that are written again.
        if (epoch !== this.#epoch) continue;
        if (outcome.kind === "delivered") {
          this.#next += 1;
          retries = 0;
          if (this.#next % (this.#options.barrierEvery ?? 2) === 0 && this.#barrier === undefined) this.#startBarrier();
          if (this.#options.overlaps === false) await this.#barrier;
          continue;
        }
        if (outcome.kind === "rejected") {
          this.rejections.push(outcome.reason);
          this.#next += 1;
          continue;
        }
        this.retries.push(outcome.reason);
        retries += 1;
        if (retries > (this.#options.maxRetries ?? 20)) throw new Error(`given up: ${outcome.reason}`);
        if (outcome.needsBarrier) await this.barrier();
        else await this.#options.clock.sleep(Math.max(1, outcome.afterMs ?? 0));
      }
      await this.barrier();
      if (this.#next === batches.length && this.#options.store.committedBatches === batches.length) return;
    }
  }

  /** One barrier, after the one under way. */
  async barrier(): Promise<void> {
    await this.#barrier;
    if (this.#failures.length > 0) throw this.#failures[0];
    this.#startBarrier();
    await this.#barrier;
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  /** A clean stop. */
  async close(): Promise<void> {
    await this.#barrier;
    await this.sink[Symbol.asyncDispose]();
    this.#options.store.wasCleanStop = true;
  }

  #startBarrier(): void {
    const barrier = this.#runBarrier(this.#next)
      .catch((error: unknown) => {
        this.#failures.push(error);
      })
      .finally(() => {
        if (this.#barrier === barrier) this.#barrier = undefined;
      });
    this.#barrier = barrier;
  }

  async #runBarrier(noted: number): Promise<void> {
    const { store, clock } = this.#options;
    let marks: Marks;
    try {
      marks = (await this.sink.prepare?.()) ?? {};
    } catch (error) {
      if (error instanceof StageError || !isErrno(error)) throw error;
      this.rewinds += 1;
      this.#epoch += 1;
      this.#next = store.committedBatches;
      await clock.sleep(1);
      return;
    }
    store.commit(marks, noted);
    await this.sink.committed?.();
  }
}

export interface DriverEvent {
  readonly name: EventName;
  readonly message: string;
  readonly facts: { readonly [fact: string]: unknown } | undefined;
}

/** A crash of the simulation is not a failed barrier: it ends the driver. */
function isErrno(error: unknown): boolean {
  return error instanceof Error && error.name !== "SimulatedCrash" && error.name !== "SimCrashed";
}
