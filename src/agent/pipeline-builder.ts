import { z } from "zod";
import { loadPlan } from "../config/index.ts";
import type { EventFields } from "../record/index.ts";
import { systemClock } from "../runtime/clock.ts";
import {
  defineTransform,
  type SinkDefinition,
  type SourceDefinition,
  type TransformDefinition,
} from "../stage/index.ts";
import type { LifecycleEvent } from "../telemetry/events.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { type Agent, openAgent } from "./agent.ts";

/** One record's event in; one, several or no events out. */
export type EventFunction = (event: EventFields) => EventFields | EventFields[] | undefined;

export interface RunOptions {
  /** Where checkpoints and dead letters are kept; the same one goes on where the last run was. */
  readonly stateDir: string;
  /** Stops the pipeline gracefully. */
  readonly signal?: AbortSignal;
  /** Ends once what is there now has been delivered. */
  readonly once?: boolean;
  /** Default: says nothing. */
  readonly log?: Logger;
  /** Gets each lifecycle event, after the fact. If it throws, the pipeline stops gracefully and `run` rejects with that. */
  readonly onEvent?: (event: LifecycleEvent) => void;
  /** Further configuration keys, as in the TOML: `{ checkpoint: { commit_interval_ms: 50 } }`. */
  readonly config?: { readonly [section: string]: unknown };
}

/** A source, any number of transforms and a sink, ready to run. */
export interface Pipeline {
  /**
   * Runs to the end: the end of the source (`once`), or `signal`. Resolves when everything delivered is committed.
   * @throws the first error that a stage or the store failed with; ConfigError for options that do not fit.
   */
  run(options: RunOptions): Promise<void>;
}

type Input<Definition extends { readonly options: z.ZodType }> = z.input<Definition["options"]>;

/**
 * Starts a pipeline in code, with the same engine, checkpoints and guarantees as the agent's.
 *
 * @example
 * await pipeline()
 *   .from(fileSource, { include: ["/var/log/app.log"] })
 *   .through((event) => ({ ...event, team: "checkout" }))
 *   .into(fileSink, { path: "out.ndjson" })
 *   .run({ stateDir: "state", once: true });
 */
export function pipeline(): { from<D extends SourceDefinition>(source: D, options?: Input<D>): PipelineBuilder } {
  return { from: (source, options) => new PipelineBuilder(source, options ?? {}) };
}

interface Step {
  readonly definition: TransformDefinition;
  readonly options: object;
}

export class PipelineBuilder {
  readonly #source: SourceDefinition;
  readonly #sourceOptions: object;
  readonly #steps: readonly Step[];

  /** @internal Use `pipeline().from`. */
  constructor(source: SourceDefinition, options: unknown, steps: readonly Step[] = []) {
    this.#source = source;
    this.#sourceOptions = options as object;
    this.#steps = steps;
  }

  /** Adds a transform, or a function of one event. Functions see events and make new ones; they must not change them. */
  through<D extends TransformDefinition>(transform: D | EventFunction, options?: Input<D>): PipelineBuilder {
    const definition = typeof transform === "function" ? functionTransform(transform, this.#steps.length) : transform;
    return new PipelineBuilder(this.#source, this.#sourceOptions, [
      ...this.#steps,
      { definition, options: (options ?? {}) as object },
    ]);
  }

  into<D extends SinkDefinition>(sink: D, options?: Input<D>): Pipeline {
    return { run: (runOptions) => this.#run(sink, (options ?? {}) as object, runOptions) };
  }

  async #run(sink: SinkDefinition, sinkOptions: object, options: RunOptions): Promise<void> {
    const names = this.#steps.map((_, index) => `transform_${index + 1}`);
    const transforms = Object.fromEntries(
      this.#steps.map((step, index) => [
        names[index]!,
        { ...step.options, type: step.definition.type, inputs: [names[index - 1] ?? "source"] },
      ]),
    );
    const { plan } = await loadPlan({
      stages: { sources: [this.#source], transforms: this.#steps.map((step) => step.definition), sinks: [sink] },
      env: {},
      cwd: process.cwd(),
      stateDir: options.stateDir,
      made: {
        by: "pipeline()",
        config: {
          api: { enabled: false },
          ...options.config,
          sources: { source: { ...this.#sourceOptions, type: this.#source.type } },
          ...(names.length === 0 ? {} : { transforms }),
          sinks: { sink: { ...sinkOptions, type: sink.type, inputs: [names.at(-1) ?? "source"] } },
        },
      },
    });
    const agent = await openAgent({
      plan,
      log: options.log ?? silentLogger,
      once: options.once ?? false,
      clock: systemClock,
    });
    const told = options.onEvent === undefined ? undefined : tellEvents(agent, options.onEvent);
    told?.catch(() => agent.stop("a listener failed"));
    await runUntil(agent, options.signal);
    await told;
  }
}

async function tellEvents(agent: Agent, onEvent: (event: LifecycleEvent) => void): Promise<void> {
  for await (const event of agent.events()) onEvent(event);
}

async function runUntil(agent: Agent, signal: AbortSignal | undefined): Promise<void> {
  const stop = () => agent.stop("abort");
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  try {
    const { exitCode, first } = await agent.run();
    if (exitCode !== 0) throw first?.error ?? new Error("the pipeline was forced to stop");
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

function functionTransform(map: EventFunction, index: number): TransformDefinition {
  return defineTransform({
    type: `function_${index + 1}`,
    summary: "A function of one event.",
    options: z.strictObject({}),
    open: async () => ({
      apply(records) {
        const kept = [];
        const rejected = [];
        for (const record of records) {
          try {
            const made = map(record.event);
            const events = made === undefined ? [] : Array.isArray(made) ? made : [made];
            for (const [split, event] of events.entries())
              kept.push(event === record.event ? record : record.with(event, split));
          } catch (error) {
            // One bad record is a dead letter, never the end of the process.
            rejected.push({ record, reason: error instanceof Error ? error.message : String(error) });
          }
        }
        return { kept, rejected };
      },
    }),
  });
}
