import { toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Sink, Source } from "../stage/contract.ts";
import type { PipelineEnvironment } from "./build.ts";
import type { Committer } from "./committer.ts";
import { forward } from "./edge.ts";
import { saveCleanStop } from "./known-sinks.ts";
import { type Route, routesInto } from "./route.ts";
import type { SinkRunner } from "./sink-runner.ts";
import type { TransformRunner } from "./transform-runner.ts";

export interface RunningSource {
  readonly name: string;
  readonly source: Source;
  readonly routes: readonly Route[];
  records: number;
  bytes: number;
}

/**
 * The stages of a plan, joined by channels that the pipeline creates and hands out; it keeps no sender, so that closing
 * cascades: sources end, their consumers drain and close what they feed, sinks flush, the last positions are committed.
 */
export class Pipeline {
  readonly committer: Committer;
  readonly sinks: readonly SinkRunner[];
  readonly transforms: readonly TransformRunner[];
  readonly sources: readonly RunningSource[];
  readonly #environment: PipelineEnvironment;
  readonly #disposables: readonly AsyncDisposable[];
  readonly #sinkStages: readonly Sink[];
  readonly #abortTransforms: AbortController;
  #isAbandoned = false;

  constructor(parts: {
    environment: PipelineEnvironment;
    committer: Committer;
    sources: readonly RunningSource[];
    transforms: readonly TransformRunner[];
    sinks: readonly SinkRunner[];
    disposables: readonly AsyncDisposable[];
    sinkStages: readonly Sink[];
    abortTransforms: AbortController;
  }) {
    this.#environment = parts.environment;
    this.committer = parts.committer;
    this.sources = parts.sources;
    this.transforms = parts.transforms;
    this.sinks = parts.sinks;
    this.#disposables = parts.disposables;
    this.#sinkStages = parts.sinkStages;
    this.#abortTransforms = parts.abortTransforms;
  }

  /**
   * Runs until the sources have ended (`signal`, or by themselves with `once`) and everything has drained and is
   * committed, or until `abandon`. A stage that fails goes to `onFailure` and the rest goes on draining.
   */
  async run(options: { signal: AbortSignal; once: boolean }): Promise<void> {
    const { onFailure } = this.#environment;
    const guarded = (component: string, work: Promise<void>) =>
      work.catch((error: unknown) => onFailure(toError(error), component));
    const loops = [
      ...this.sources.map((running) => guarded(running.name, running.source.run(options))),
      ...this.sources.map((running) => guarded(running.name, this.#pump(running, options.signal))),
      ...this.transforms.map((runner) => guarded(runner.name, runner.run())),
      ...this.sinks.map((runner) => guarded(runner.name, runner.run())),
    ];
    await Promise.all(loops);
    await this.committer.finish(this.#environment.onLastCommitFailed);
    if (!this.#isAbandoned) await saveCleanStop(this.sinks, this.#environment.groupCommit);
  }

  /** Closes every stage. The last commit was made before. */
  async close(): Promise<void> {
    this.committer.stop();
    for (const stage of this.#disposables) {
      try {
        await stage[Symbol.asyncDispose]();
      } catch (error) {
        this.#environment.log.warn({ error: toError(error).message }, "a stage did not close cleanly");
      }
    }
  }

  /** Gives up what has not settled: it is read again at the next start. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#abortTransforms.abort();
    for (const sink of this.sinks) sink.abandon();
  }

  /** SIGUSR1: sinks that write files start new ones. */
  rotateOutputs(): void {
    for (const sink of this.#sinkStages) sink.rotate?.();
    this.committer.onDirty();
  }

  /** On how many ways to sinks something settles that enters `component` as if it came from `source`. */
  waysFrom(component: string, source: string): number {
    return this.#routeInto(component, source)?.lanes.length ?? 0;
  }

  /** Sends a batch of an origin of its own into a component, as if it came from `source`. */
  async resend(component: string, source: string, batch: Batch): Promise<void> {
    const route = this.#routeInto(component, source);
    if (route !== undefined) await forward(batch, [route], this.#environment.log);
  }

  #routeInto(component: string, source: string): Route | undefined {
    const from = this.sources.find(({ name }) => name === source);
    return routesInto(component, [...(from?.routes ?? []), ...this.sources.flatMap(({ routes }) => routes)])[0];
  }

  /** What still holds up a shutdown, one sentence per sink. */
  waitingFor(): string[] {
    const waits: string[] = [];
    for (const sink of this.sinks) {
      if (sink.unsettledBatches === 0 && sink.trouble === undefined) continue;
      waits.push(
        `${sink.name}: ${sink.unsettledBatches} batches not acknowledged${sink.trouble === undefined ? "" : ` (${sink.trouble})`}`,
      );
    }
    if (this.committer.trouble !== undefined) waits.push(`the checkpoint: ${this.committer.trouble}`);
    return waits;
  }

  /** The single consumer of a source's channel: counts, and hands on to every reader of the source. */
  async #pump(running: RunningSource, signal: AbortSignal): Promise<void> {
    const { committer } = this;
    const { log } = this.#environment;
    try {
      for await (const batch of running.source.output) {
        running.records += batch.count;
        running.bytes += batch.byteLength;
        if (!committer.hasRoom) await committer.room(signal);
        await forward(batch, running.routes, log);
      }
    } finally {
      closeRoutes(running.routes);
    }
  }
}

/** Senders are counted per route: when the last way into a component has closed, its input ends. */
function closeRoutes(routes: readonly Route[]): void {
  for (const route of routes) route.input.close();
}
