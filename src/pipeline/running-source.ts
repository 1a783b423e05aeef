import { toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Origin } from "../record/origin.ts";
import type { Range } from "../record/position.ts";
import { untilWoken } from "../runtime/until-woken.ts";
import type { Source } from "../stage/contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Committer } from "./committer.ts";
import { forward } from "./edge.ts";
import type { PlannedSource } from "./open-stage.ts";
import type { PipelineSourcePositions } from "./source-positions.ts";
import type { Tap } from "./tap.ts";
import type { Wires } from "./wiring.ts";

export interface RunningSourceOptions {
  readonly planned: PlannedSource;
  readonly source: Source;
  readonly positions: PipelineSourcePositions;
  readonly wires: Wires;
  readonly committer: Committer;
  readonly log: Logger;
  /** What its predecessor under the same name has read: counters never go back. */
  readonly before?: { readonly records: number; readonly bytes: number };
}

/** A source at work, and the single consumer of its channel: counts, and hands on to every reader of the source. */
export class RunningSource {
  readonly name: string;
  /** A reload may have given it other options since. */
  planned: PlannedSource;
  readonly source: Source;
  readonly positions: PipelineSourcePositions;
  wires: Wires;
  records: number;
  bytes: number;
  /** Sees each batch as it leaves the source. */
  tap: Tap | undefined;
  readonly #options: RunningSourceOptions;
  readonly #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #isForwarding = false;
  /** What comes out of the source is thrown away: it is read again by whoever comes after it. */
  #isDiscarding = false;
  /** Of acknowledged origins: what was handed on and not told upstream, once for each way. */
  #owed = 0;
  readonly #origins = new WeakMap<Origin, Origin>();
  readonly #holds = new Set<Promise<void>>();

  constructor(options: RunningSourceOptions) {
    this.#options = options;
    this.planned = options.planned;
    this.name = options.planned.name;
    this.source = options.source;
    this.positions = options.positions;
    this.wires = options.wires;
    this.records = options.before?.records ?? 0;
    this.bytes = options.before?.bytes ?? 0;
  }

  /**
   * Runs until `signal` aborts or `stop` is called (or, with `once`, all is read), and everything is handed on. Failures go
   * to `onFailure`; it never rejects.
   */
  run(options: { signal: AbortSignal; once: boolean; onFailure: (error: Error) => void }): Promise<void> {
    const { once } = options;
    const signal = AbortSignal.any([options.signal, this.#stop.signal]);
    const fail = (error: unknown) => options.onFailure(toError(error));
    const loops = [this.source.run({ signal, once }).catch(fail), this.#pump(options.signal).catch(fail)];
    this.#ended = Promise.all(loops).then(() => {});
    return this.#ended;
  }

  /**
   * Ends this source only; resolves when it has, and what it had sent is handed on, or, with `discards`, thrown away. It
   * closes no route: others may follow.
   */
  async stop({ discards = false } = {}): Promise<void> {
    this.#isDiscarding = discards;
    this.#stop.abort();
    await this.#ended;
  }

  /** From the next batch on, hands nothing on until everybody who holds has called what this returned, or it ends. */
  hold(): () => void {
    let release = () => {};
    const hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#holds.add(hold);
    return () => {
      this.#holds.delete(hold);
      release();
    };
  }

  /** A batch is on its way into the components behind it. */
  get isForwarding(): boolean {
    return this.#isForwarding;
  }

  /** Everything that it handed on, and that somebody upstream is to be told of, has been told. */
  get owesNothing(): boolean {
    return this.#owed === 0;
  }

  /** The same batch, of which it is noted what is told upstream. */
  #watched(batch: Batch, ways: number): Batch {
    const { origin } = batch;
    let watched = this.#origins.get(origin);
    if (watched === undefined) {
      watched = {
        ...origin,
        onSettled: (ranges) => {
          this.#owed -= lengthOf(ranges);
          origin.onSettled?.(ranges);
        },
      };
      this.#origins.set(origin, watched);
    }
    this.#owed += ways * lengthOf(batch.ranges);
    return batch.withOrigin(watched);
  }

  #onRelease(wake: () => void): void {
    for (const hold of this.#holds) void hold.then(wake);
  }

  async #pump(signal: AbortSignal): Promise<void> {
    const { committer, log } = this.#options;
    // Who ends hands on what it has, held or not.
    const ending = AbortSignal.any([signal, this.#stop.signal]);
    for await (const batch of this.source.output) {
      while (this.#holds.size > 0 && !ending.aborted) await untilWoken(ending, (wake) => this.#onRelease(wake));
      if (this.#isDiscarding) {
        batch.memory.release();
        continue;
      }
      this.records += batch.count;
      this.bytes += batch.byteLength;
      this.#isForwarding = true;
      if (!committer.hasRoom) await committer.room(signal);
      const { origin, ranges } = batch;
      if (origin.kind === "replayable" && ranges.length > 0)
        this.positions.forwarded.set(origin.key, ranges.at(-1)!.end);
      const ways = this.wires.lanes.length;
      origin.onForwarded?.(ways);
      this.tap?.(batch);
      await forward(origin.onSettled === undefined ? batch : this.#watched(batch, ways), this.wires.routes, log);
      this.#isForwarding = false;
    }
  }
}

const lengthOf = (ranges: readonly Range[]): number => ranges.reduce((sum, { start, end }) => sum + end - start, 0);
