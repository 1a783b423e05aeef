import type { Receiver } from "../channel/index.ts";
import { StageError, toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Rejection, Transform } from "../stage/contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { DeadLetterBox } from "./dead-letter-box.ts";
import { forward } from "./edge.ts";
import { MadeEvents } from "./made-events.ts";
import { endBatch, type Route, type Routed } from "./route.ts";
import type { Tap } from "./tap.ts";
import { isThreaded } from "./threaded-transform.ts";

export interface TransformRunnerOptions {
  readonly name: string;
  readonly transform: Transform;
  readonly input: Receiver<Routed>;
  readonly deadLetters: DeadLetterBox;
  readonly log: Logger;
  readonly clock: Clock;
  /** Gives up waiting for the dead letter store, and for room. */
  readonly abort: AbortSignal;
  /** It waits for the events that it made: what a sink holds until a commit is to be committed now. */
  readonly onFull: () => void;
}

/**
 * A transform works without waiting for anything, so with one batch after the other at hand it would keep the event loop
 * to itself: sinks would not hear that their writes are through, and what they have not taken piles up as events. Having
 * worked for this long, it lets the others have a turn. Milliseconds.
 */
const TURN_MS = 0;

/**
 * What a transform is handed at once. Events live for as long as their batch is on its way to a sink: with 256 KiB of
 * lines in a batch they outlive two collections of the young generation, and each is copied twice for nothing.
 */
const MAX_RECORDS = 128;
const MAX_BYTES = 64 * 1024;

/** Drains its input through one transform, in order; what is left out or refused is settled here. */
export class TransformRunner {
  readonly name: string;
  protected readonly options: Omit<TransformRunnerOptions, "transform">;
  protected transform: Transform;
  protected readonly made: MadeEvents;
  protected isWorking = false;
  /** Every way into this transform; what they feed is closed at the end. */
  routes: readonly Route[] = [];
  deadLetters = 0;
  /** The transform is at a batch. */
  isApplying = false;
  /** Batches that the transform has given back. */
  applied = 0;
  tap: Tap | undefined;
  /** `run` is through. */
  hasEnded = false;
  #isInUse = false;
  readonly #freeWaiters: (() => void)[] = [];

  constructor(options: TransformRunnerOptions) {
    this.name = options.name;
    const { transform, ...rest } = options;
    // Not the transform itself: another may take its place.
    this.options = rest;
    this.transform = transform;
    this.made = new MadeEvents({ threads: isThreaded(transform) ? transform.threads : 0 });
  }

  /** Nothing waits in its input, and nothing is on its way through it. */
  get isIdle(): boolean {
    return !this.isWorking && this.options.input.counters().messages === 0;
  }

  /** From the next batch on, another does the work; resolves once the one before has done its last and is closed. */
  async replace(transform: Transform): Promise<void> {
    const before = this.transform;
    this.transform = transform;
    await this.whenFree();
    await this.#close(before);
  }

  /** Closes the transform, once `run` is through or was never begun. */
  async close(): Promise<void> {
    await this.#close(this.transform);
  }

  async #close(transform: Transform): Promise<void> {
    try {
      await transform[Symbol.asyncDispose]?.();
    } catch (error) {
      this.options.log.warn({ error: toError(error).message }, "a stage did not close cleanly");
    }
  }

  /** Resolves when what the present transform works on now is done. */
  protected async whenFree(): Promise<void> {
    if (this.#isInUse) await new Promise<void>((resolve) => this.#freeWaiters.push(resolve));
  }

  /** Resolves when the input has ended and all of it went on. */
  async run(): Promise<void> {
    const { clock, input } = this.options;
    let turnBeganMs = clock.monotonic();
    try {
      for await (const { batch, route } of input) {
        this.isWorking = true;
        for (const part of batch.parts(MAX_RECORDS, MAX_BYTES)) {
          await this.apply(part, route);
          if (clock.monotonic() - turnBeganMs < TURN_MS) continue;
          await new Promise(setImmediate);
          turnBeganMs = clock.monotonic();
        }
        this.isWorking = false;
      }
    } finally {
      this.closeRoutes();
    }
  }

  /** Nothing comes, and nothing goes, through it any more. */
  protected closeRoutes(): void {
    this.hasEnded = true;
    for (const route of this.routes) for (const next of route.next) next.input.close();
  }

  protected async apply(batch: Batch, route: Route): Promise<void> {
    const { name, abort, onFull } = this.options;
    await this.made.room(batch, abort, onFull);
    if (abort.aborted) return batch.memory.release();
    const records = batch.records;
    let result: Awaited<ReturnType<Transform["apply"]>>;
    this.isApplying = true;
    this.#isInUse = true;
    try {
      result = await this.transform.apply(records);
    } catch (error) {
      throw new StageError("TR_STAGE_FAILED", name, toError(error).message, { cause: error });
    } finally {
      this.isApplying = false;
      this.#isInUse = false;
      this.applied += 1;
      if (this.#freeWaiters.length > 0) for (const wake of this.#freeWaiters.splice(0)) wake();
    }
    const { kept, rejected = [] } = result;
    // Events that a split added are new records; the ledger counts the ones that came in.
    const filtered =
      records.length -
      new Set([...kept.map((record) => record.index), ...rejected.map(({ record }) => record.index)]).size;
    const left = (kept === records ? batch : batch.withRecords(kept)).withMemory(this.made.charge(batch, kept.length));
    await this.handOn(left, route, { isEmpty: kept.length === 0, rejected, filtered });
  }

  /** Settles what is refused or left out, and sends on what is left. Takes over the batch's memory. */
  protected async handOn(
    left: Batch,
    route: Route,
    result: { readonly isEmpty: boolean; readonly rejected: readonly Rejection[]; readonly filtered: number },
  ): Promise<void> {
    const { deadLetters, log, name, abort } = this.options;
    const { isEmpty, rejected, filtered } = result;
    if (rejected.length > 0) {
      // Durable before anything of the batch can settle; dying behind it stores the same letters again, under the same ids.
      if (!(await deadLetters.put(name, rejected, 1, abort))) return left.memory.release();
      this.deadLetters += rejected.length;
      for (const lane of route.lanes) lane.count("dead_lettered", rejected.length);
    }
    if (isEmpty) return endBatch(left, route.lanes, "filtered", filtered);
    if (filtered > 0) for (const lane of route.lanes) lane.count("filtered", filtered);
    this.tap?.(left);
    await forward(left, route.next, log);
  }
}
