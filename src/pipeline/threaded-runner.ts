import { StageError, toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import { PackedEvents } from "../record/packed-events.ts";
import type { Route } from "./route.ts";
import type { Made, ThreadedTransform } from "./threaded-transform.ts";
import { TransformRunner } from "./transform-runner.ts";

/**
 * What a thread is handed at once. To wake one costs some 100 microseconds, so it is worth more than a transform of our own
 * thread is handed; the thread itself goes through it in smaller parts.
 */
const MAX_RECORDS = 1024;
const MAX_BYTES = 256 * 1024;

/** Batches that wait for each thread, or are in it: one to work on while the last one's answer is on its way. */
const BATCHES_PER_THREAD = 2;

interface Work {
  readonly part: Batch;
  readonly route: Route;
  readonly made: Promise<Made>;
}

/**
 * Drains its input through a transform that works in threads. What comes back goes on in the order in which it came in,
 * as lines of JSON: an event is made of one only where somebody asks for it.
 *
 *     input --> parts --> threads (at most 2 parts for each) --> first in, first out --> routes
 */
export class ThreadedRunner extends TransformRunner {
  /** In the order of their coming. */
  readonly #pending: Work[] = [];

  override get isIdle(): boolean {
    return this.#pending.length === 0 && super.isIdle;
  }

  protected override async whenFree(): Promise<void> {
    await Promise.all([super.whenFree(), Promise.allSettled(this.#pending.map(({ made }) => made))]);
  }

  override async run(): Promise<void> {
    const { input } = this.options;
    try {
      for (;;) {
        const routed = this.#pending.length === 0 ? await input.recv() : input.tryRecv();
        if (routed === undefined) {
          if (this.#pending.length === 0) return;
          await this.#finishFirst();
          continue;
        }
        this.isWorking = true;
        for (const part of routed.batch.parts(MAX_RECORDS, MAX_BYTES)) await this.#begin(part, routed.route);
        this.isWorking = false;
      }
    } finally {
      this.closeRoutes();
    }
  }

  async #begin(part: Batch, route: Route): Promise<void> {
    const { abort, onFull } = this.options;
    if (part.lines?.kind !== "whole") {
      while (this.#pending.length > 0) await this.#finishFirst();
      return this.apply(part, route);
    }
    while (this.#pending.length >= this.#width) await this.#finishFirst();
    await this.made.room(part, abort, onFull);
    if (abort.aborted) return part.memory.release();
    // Only now is it asked for: while this waited, a reload may have put another in its place, and closed the one before.
    const made = this.#threads.applyThere(part);
    // It is awaited when its turn comes.
    made.catch(() => {});
    this.#pending.push({ part, route, made });
    this.isApplying = true;
  }

  get #width(): number {
    return this.#threads.threads * BATCHES_PER_THREAD;
  }

  /** A transform is only ever replaced by one of its own type. */
  get #threads(): ThreadedTransform {
    return this.transform as ThreadedTransform;
  }

  async #finishFirst(): Promise<void> {
    const { part, route, made: making } = this.#pending[0]!;
    let made: Made;
    try {
      made = await making;
    } catch (error) {
      throw new StageError("TR_STAGE_FAILED", this.name, toError(error).message, { cause: error });
    }
    this.applied += 1;
    const { indexes, splits } = made;
    let left = part;
    if (indexes.length > 0) {
      const { json, memory } = this.made.keepMade(part, made.json);
      const packed = new PackedEvents({ json, origin: part.origin, pieces: [part.lines!], indexes, splits });
      left = part.withPacked(packed, json, memory);
    }
    made.release();
    const rejected = made.rejected.map(({ index, reason }) => ({ record: part.records[index]!, reason }));
    const filtered = part.count - rejected.length - countOfRecords(indexes);
    await this.handOn(left, route, { isEmpty: indexes.length === 0, rejected, filtered });
    // Only now: until it has gone on it is not idle.
    this.#pending.shift();
    this.isApplying = this.#pending.length > 0;
  }
}

/** How many different records; the indexes ascend. */
function countOfRecords(indexes: Uint32Array): number {
  let count = 0;
  for (let at = 0; at < indexes.length; at += 1) if (at === 0 || indexes[at] !== indexes[at - 1]) count += 1;
  return count;
}
