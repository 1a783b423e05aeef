import type { Plan } from "../config/plan.ts";
import { toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Timer } from "../runtime/clock.ts";
import type { Committer } from "./committer.ts";
import { forward } from "./edge.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { saveCleanStop } from "./known-sinks.ts";
import type { Parts, SinkPart } from "./parts.ts";
import { Reload } from "./reload.ts";
import { type Route, routesInto } from "./route.ts";
import type { RunningSource } from "./running-source.ts";
import type { SinkRunner } from "./sink-runner.ts";
import type { Tappable } from "./tap.ts";
import type { TransformRunner } from "./transform-runner.ts";

/** How often it is looked, at the end, whether a sink that is not required still takes something. */
const LOOK_MS = 200;

/**
 * The stages of a plan, joined by channels that the pipeline creates and hands out; it keeps no sender, so that closing
 * cascades: sources end, their consumers drain and close what they feed, sinks flush, the last positions are committed.
 */
export class Pipeline {
  readonly committer: Committer;
  readonly #environment: PipelineEnvironment;
  readonly #parts: Parts;
  readonly #abortTransforms: AbortController;
  /** Each with the component that it is of. */
  readonly #loops = new Map<Promise<void>, string>();
  /** Sources that a reload took out, and that still have something to tell upstream as the agent ends: closed with the rest. */
  readonly #retired: AsyncDisposable[] = [];
  #plan: Plan;
  #run: { readonly signal: AbortSignal; readonly once: boolean } | undefined;
  #isAbandoned = false;
  #look: Timer | undefined;
  #pauses: Map<RunningSource, () => void> | undefined;

  constructor(given: {
    environment: PipelineEnvironment;
    committer: Committer;
    parts: Parts;
    abortTransforms: AbortController;
  }) {
    this.#environment = given.environment;
    this.#plan = given.environment.plan;
    this.committer = given.committer;
    this.#parts = given.parts;
    this.#abortTransforms = given.abortTransforms;
  }

  get sources(): readonly RunningSource[] {
    return [...this.#parts.sources.values()];
  }

  get transforms(): readonly TransformRunner[] {
    return [...this.#parts.transforms.values()].map(({ runner }) => runner);
  }

  get sinks(): readonly SinkRunner[] {
    return [...this.#parts.sinks.values()].map(({ runner }) => runner);
  }

  /** What runs now. */
  get plan(): Plan {
    return this.#plan;
  }

  /**
   * Runs until the sources have ended (`signal`, or by themselves with `once`) and everything has drained and is
   * committed, or until `abandon`. A stage that fails goes to `onFailure` and the rest goes on draining.
   */
  async run(options: { signal: AbortSignal; once: boolean }): Promise<void> {
    this.#run = options;
    for (const { runner } of this.#parts.sinks.values()) this.#start(runner.name, runner.run());
    for (const { runner } of this.#parts.transforms.values()) this.#start(runner.name, runner.run());
    for (const running of this.#parts.sources.values()) this.#startSource(running);
    while (this.#loops.size > 0) await Promise.all(this.#loops.keys());
    this.#look?.cancel();
    await this.committer.finish(this.#environment.onLastCommitFailed);
    const ended = this.sinks.filter(({ isAbandoned }) => !isAbandoned);
    if (!this.#isAbandoned) await saveCleanStop(ended, this.#environment.groupCommit);
  }

  /**
   * Goes over to another plan: stages that are the same in both do not stop. Only one at a time.
   * @returns one sentence for each change
   * @throws ConfigError, StageError, CheckpointError: everything runs as before
   */
  async reload(plan: Plan): Promise<readonly string[]> {
    const signal = this.#run?.signal ?? new AbortController().signal;
    const reload = this.#reload(signal);
    try {
      const changes = await reload.run(plan);
      this.#plan = plan;
      return changes;
    } catch (error) {
      if (reload.hasChangedSomething && !signal.aborted) {
        // The way back is the same way: from what runs now to what ran before.
        await this.#reload(signal)
          .run(this.#plan)
          .catch((thrown: unknown) => this.#environment.onFailure(toError(thrown), "orchestration"));
      }
      throw error;
    }
  }

  #reload(signal: AbortSignal): Reload {
    return new Reload({
      environment: this.#environment,
      committer: this.committer,
      parts: this.#parts,
      abortTransforms: this.#abortTransforms.signal,
      signal,
      start: (component, work) => this.#start(component, work),
      startSource: (running) => this.#startSource(running),
      retire: (stage) => this.#retired.push(stage),
    });
  }

  /** Sources hand nothing on any more, until `resume`; what they have read waits. */
  pause(): void {
    this.#pauses ??= new Map(this.sources.map((running) => [running, running.hold()]));
  }

  resume(): void {
    for (const release of this.#pauses?.values() ?? []) release();
    this.#pauses = undefined;
  }

  get isPaused(): boolean {
    return this.#pauses !== undefined;
  }

  /** Everything that was handed on has ended at every sink, and that is committed. */
  get isDrained(): boolean {
    return (
      this.sources.every(({ isForwarding }) => !isForwarding) &&
      this.transforms.every(({ isIdle }) => isIdle) &&
      this.sinks.every((sink) => sink.isIdle && !sink.isDirty)
    );
  }

  /** Closes every stage, sources first. The last commit was made before. */
  async close(): Promise<void> {
    this.committer.stop();
    const stages: AsyncDisposable[] = [...this.sources.map(({ source }) => source)].reverse();
    for (const { transform } of [...this.#parts.transforms.values()].reverse())
      stages.push({ [Symbol.asyncDispose]: async () => transform[Symbol.asyncDispose]?.() });
    stages.push(...[...this.#parts.sinks.values()].map(({ sink }) => sink).reverse(), ...this.#retired.splice(0));
    for (const stage of stages) {
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
    for (const sink of this.sinks) sink.rotate();
    this.committer.onDirty();
  }

  /** Where the records that leave a component can be looked at; undefined: there is no such component. */
  tappable(component: string): Tappable | undefined {
    const { sources, transforms, sinks } = this.#parts;
    // What leaves a run of transforms leaves its last one.
    const ofRun = [...transforms.values()].find(({ runner: { name } }) => name.endsWith(`>${component}`));
    return sources.get(component) ?? (transforms.get(component) ?? ofRun)?.runner ?? sinks.get(component)?.runner;
  }

  /** On how many ways to sinks something settles that enters `component` as if it came from `source`. */
  waysFrom(component: string, source: string): number {
    return this.#routesInto(component, source).reduce((ways, { lanes }) => ways + lanes.length, 0);
  }

  /** Sends a batch of an origin of its own into a component, as if it came from `source`; it waits where a source would. */
  async resend(component: string, source: string, batch: Batch): Promise<void> {
    if (!this.committer.hasRoom) await this.committer.room(this.#run?.signal ?? new AbortController().signal);
    const routes = this.#routesInto(component, source);
    if (routes.length > 0) await forward(batch, routes, this.#environment.log);
  }

  /** One route into a transform or sink; of a source, all that it hands on to. */
  #routesInto(component: string, source: string): readonly Route[] {
    const refusing = this.#parts.sources.get(component);
    if (refusing !== undefined) return refusing.wires.routes;
    const own = this.#parts.sources.get(source)?.wires.routes ?? [];
    const place = this.#placeOf(component);
    return routesInto(place, [...own, ...this.sources.flatMap(({ wires }) => wires.routes)]).slice(0, 1);
  }

  /** Where that begins which `component` begins: a run of transforms in threads, or its first without them. */
  #placeOf(component: string): string {
    if (this.#parts.sinks.has(component) || this.#parts.transforms.has(component)) return component;
    const run = [...this.#parts.transforms.keys()].find((name) => name.startsWith(`${component}>`));
    return run ?? component.split(">", 1)[0]!;
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

  #start(component: string, work: Promise<void>): void {
    const loop = work
      .catch((error: unknown) => this.#environment.onFailure(toError(error), component))
      .finally(() => {
        this.#loops.delete(loop);
        this.#letGo();
      });
    this.#loops.set(loop, component);
  }

  /** With all else at its end, a sink that is not required and takes nothing holds up nobody any longer. */
  #letGo(): void {
    const { log, clock } = this.#environment;
    const left = [...new Set(this.#loops.values())].map((name) => this.#parts.sinks.get(name));
    if (left.length === 0 || !left.every((part) => part?.backlog.mayDrop)) return;
    for (const { runner } of left as SinkPart[]) {
      if (runner.trouble === undefined || runner.isAbandoned) continue;
      log.warn(
        { component: runner.name },
        `${runner.name} is not required and takes nothing (${runner.trouble}): what it has not acknowledged is left to the next start`,
      );
      runner.abandon();
    }
    this.#look?.cancel();
    this.#look = clock.after(LOOK_MS, () => this.#letGo());
  }

  #startSource(running: RunningSource): void {
    const { name } = running;
    this.#pauses?.set(running, running.hold());
    const onFailure = (error: Error) => this.#environment.onFailure(error, name);
    const ended = running.run({ ...this.#run!, onFailure }).then(() => {
      // Unless a reload took it out, nothing comes after it: when the last way into a component has closed, its input ends.
      if (this.#parts.sources.get(name) === running) for (const route of running.wires.routes) route.input.close();
    });
    this.#start(name, ended);
  }
}
