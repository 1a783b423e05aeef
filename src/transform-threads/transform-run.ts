import { z } from "zod";
import type { Made, ThreadedTransform } from "../pipeline/threaded-transform.ts";
import type { Batch, DataRecord } from "../record/index.ts";
import {
  defineTransform,
  type Rejection,
  type StageContext,
  type Transform,
  type TransformDefinition,
  type TransformResult,
} from "../stage/index.ts";
import { Threads } from "./threads.ts";

export interface RunOptions {
  readonly threads: number;
  /** One behind the other. */
  readonly stages: readonly RunStage[];
}

export interface RunStage {
  readonly name: string;
  readonly definition: TransformDefinition;
  readonly options: unknown;
}

/** What the plan has in place of transforms that work in threads; nobody configures it by its type. */
export const transformRun = defineTransform({
  type: "threads",
  summary: "Transforms one behind the other, in threads.",
  options: z.custom<RunOptions>(),
  open: (options, context) => TransformRun.open(options, context),
});

/**
 * Transforms one behind the other as one component, open here and in each thread. What stands at the end is JSON, so that
 * nothing between them is ever made into bytes, and nothing but bytes comes back.
 *
 * Whatever one of them refuses is refused whole, as it came in: none stands behind one that splits (see `withThreads`).
 */
class TransformRun implements ThreadedTransform {
  readonly #stages: readonly { readonly name: string; readonly transform: Transform }[];
  readonly #pool: Threads;

  private constructor(stages: readonly { readonly name: string; readonly transform: Transform }[], pool: Threads) {
    this.#stages = stages;
    this.#pool = pool;
  }

  static async open({ threads, stages }: RunOptions, context: StageContext): Promise<TransformRun> {
    const opened: { name: string; transform: Transform }[] = [];
    try {
      for (const { name, definition, options } of stages)
        opened.push({ name, transform: await definition.open(options, { ...context, name }) });
    } catch (error) {
      for (const { transform } of opened) await transform[Symbol.asyncDispose]?.();
      throw error;
    }
    const { host, stateDir } = context;
    const same = stages.map(({ name, definition: { type }, options }) => ({ name, type, options }));
    return new TransformRun(opened, new Threads(threads, { stages: same, host, stateDir }));
  }

  get threads(): number {
    return this.#pool.count;
  }

  applyThere(batch: Batch): Promise<Made> {
    return this.#pool.apply(batch);
  }

  async apply(records: readonly DataRecord[]): Promise<TransformResult> {
    let kept = records;
    let asTheyCame: ReadonlyMap<number, DataRecord> | undefined;
    const rejected: Rejection[] = [];
    for (const { name, transform } of this.#stages) {
      const result = await transform.apply(kept);
      kept = result.kept;
      for (const { record, reason } of result.rejected ?? []) {
        asTheyCame ??= new Map(records.map((each) => [each.index, each]));
        rejected.push({
          record: asTheyCame.get(record.index)!,
          reason: this.#stages.length === 1 ? reason : `${name}: ${reason}`,
        });
      }
    }
    return { kept, rejected };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
    for (const { transform } of this.#stages) await transform[Symbol.asyncDispose]?.();
  }
}
