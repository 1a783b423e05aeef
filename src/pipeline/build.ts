import type { ChannelRegistry, Receiver, Sender } from "../channel/index.ts";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { GroupCommit } from "../checkpoint/group-commit.ts";
import type { ChannelSize, Plan } from "../config/plan.ts";
import { StageError, toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import type { MemoryBudget } from "../runtime/memory-budget.ts";
import type { Random } from "../runtime/random.ts";
import type { Marks, Sink, SourceContext, StageContext, Transform } from "../stage/contract.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import { Committer } from "./committer.ts";
import type { DeadLetterBox } from "./dead-letter-box.ts";
import { dropFromInput } from "./edge.ts";
import { graphOf, laneId, type Node, wayOf, waysOf } from "./graph.ts";
import { CLEAN_STOP, clearCleanStop, reconcileSinks } from "./known-sinks.ts";
import { Lane } from "./lane.ts";
import { Pipeline } from "./pipeline.ts";
import { type Route, type Routed, routesInto } from "./route.ts";
import { SinkRunner } from "./sink-runner.ts";
import { PipelineSourcePositions } from "./source-positions.ts";
import { TransformRunner } from "./transform-runner.ts";

/** Everything a pipeline is given; it makes nothing of the outside world itself. */
export interface PipelineEnvironment {
  readonly plan: Plan;
  readonly clock: Clock;
  readonly random: Random;
  readonly fileSystem: FileSystem;
  readonly log: Logger;
  readonly events: (component: string) => EventSink;
  readonly host: string;
  readonly channels: ChannelRegistry;
  readonly checkpoint: Checkpoint;
  readonly groupCommit: GroupCommit;
  readonly deadLetters: DeadLetterBox;
  readonly budget: MemoryBudget;
  /** A commit of the last ones failed: make room for one more try. */
  readonly onLastCommitFailed: (error: Error) => Promise<void>;
  /** To the supervisor: this component failed for good. */
  readonly onFailure: (error: Error, component: string) => void;
}

/**
 * Opens every stage of a plan and joins them: sinks first (so that what they recover is known before a source asks where
 * to start), then transforms, then sources. If one cannot be opened, those that were are closed again and nothing has
 * moved.
 * @throws StageError naming the component.
 */
export async function openPipeline(environment: PipelineEnvironment): Promise<Pipeline> {
  const opened: AsyncDisposable[] = [];
  try {
    return await openStages(environment, opened);
  } catch (error) {
    for (const stage of opened.reverse()) {
      // The reason why it could not be opened is what counts; a second error would only hide it.
      await Promise.resolve(stage[Symbol.asyncDispose]()).catch(() => {});
    }
    throw error;
  }
}

async function openStages(environment: PipelineEnvironment, opened: AsyncDisposable[]): Promise<Pipeline> {
  const { plan, clock, random, groupCommit, checkpoint, events, deadLetters } = environment;
  await reconcileSinks(plan, checkpoint, groupCommit, environment.log);
  const committer = new Committer({
    groupCommit,
    clock,
    random,
    events: events("checkpoint"),
    intervalMs: plan.checkpoint.commitIntervalMs,
    // A sink that keeps its batches until the commit must not hold the whole budget: the source would stop and wait for it.
    commitBytes: Math.min(plan.checkpoint.commitBytes, plan.channels.totalBytes / 4),
    maxUncommittedBytes: plan.checkpoint.maxUncommittedBytes,
    maxUncommittedMs: plan.checkpoint.maxUncommittedMs,
    onFailure: environment.onFailure,
  });
  const inputs = new Map<string, Input>();
  for (const component of [...plan.transforms, ...plan.sinks])
    inputs.set(component.name, createInput(environment, component.name));

  const sinkStages = new Map<string, Sink>();
  for (const planned of plan.sinks) {
    const sink = await openStage(planned.name, () =>
      planned.definition.open(planned.options, {
        ...stageContext(environment, planned.name),
        marks: new Map([...checkpoint.marksOf(planned.name)].filter(([name]) => name !== CLEAN_STOP)),
        saveMarks: (marks: Marks) =>
          groupCommit.submit(
            Object.entries(marks).map(([name, value]) => ({ table: "mark", sink: planned.name, name, value })),
          ),
        wasCleanStop: checkpoint.marksOf(planned.name).get(CLEAN_STOP) === true,
      }),
    );
    opened.push(sink);
    sinkStages.set(planned.name, sink);
  }
  const transformStages = new Map<string, Transform>();
  for (const planned of plan.transforms) {
    const transform = await openStage(planned.name, () =>
      planned.definition.open(planned.options, stageContext(environment, planned.name)),
    );
    transformStages.set(planned.name, transform);
    const dispose = transform[Symbol.asyncDispose];
    if (dispose !== undefined) opened.push({ [Symbol.asyncDispose]: () => dispose.call(transform) });
  }

  // Lanes and routes: every way from every source to every sink.
  const graph = graphOf(plan);
  const ways = waysOf(plan);
  const positionsOf = new Map<string, PipelineSourcePositions>();
  const lanesOfSink = new Map<string, Lane[]>();
  const routesOfSource = new Map<string, readonly Route[]>();
  for (const { name: source } of plan.sources) {
    const lanes: Lane[] = [];
    const routeInto = (node: Node, before: readonly string[]): Route => {
      const next = node.consumers.map((consumer) => routeInto(consumer, [...before, node.name]));
      const own: Lane[] = [];
      if (node.kind === "sink") {
        const lane = new Lane({
          source,
          sink: node.name,
          way: wayOf(before),
          id: laneId(node.name, wayOf(before), ways.get(node.name)!.get(source)!),
          checkpoint,
          keepsRecent: sinkStages.get(node.name)!.prepare !== undefined,
          onDirty: () => {
            committer.onDirty();
            positionsOf.get(source)?.onSettled();
          },
        });
        lanesOfSink.set(node.name, [...(lanesOfSink.get(node.name) ?? []), lane]);
        lanes.push(lane);
        own.push(lane);
      }
      const input = inputs.get(node.name)!;
      return {
        component: node.name,
        input: input.sender.clone(),
        overflow: input.size.overflow,
        sendTimeoutMs: input.size.sendTimeoutMs,
        lanes: [...own, ...next.flatMap((route) => route.lanes)],
        next,
      };
    };
    routesOfSource.set(
      source,
      graph.get(source)!.consumers.map((consumer) => routeInto(consumer, [])),
    );
    positionsOf.set(source, new PipelineSourcePositions(source, lanes, checkpoint, groupCommit));
  }

  const sinks = plan.sinks.map((planned) => {
    const runner = new SinkRunner({
      name: planned.name,
      sink: sinkStages.get(planned.name)!,
      lanes: lanesOfSink.get(planned.name) ?? [],
      input: inputs.get(planned.name)!.receiver,
      concurrency: planned.definition.concurrency ?? 1,
      retry: planned.retry,
      clock,
      random,
      events: events(planned.name),
      deadLetters,
      commitNow: committer.commitNow,
      onUncommitted: committer.onUncommitted,
    });
    committer.add(runner);
    return runner;
  });
  for (const runner of sinks) await runner.recover();

  const abortTransforms = new AbortController();
  const transforms = plan.transforms.map((planned) => {
    const runner = new TransformRunner({
      name: planned.name,
      transform: transformStages.get(planned.name)!,
      input: inputs.get(planned.name)!.receiver,
      deadLetters,
      log: environment.log.child({ component: planned.name }),
      abort: abortTransforms.signal,
      routes: [...routesOfSource.values()].flatMap((routes) => routesInto(planned.name, routes)),
    });
    return runner;
  });

  const sources: ConstructorParameters<typeof Pipeline>[0]["sources"][number][] = [];
  for (const planned of plan.sources) {
    const context = sourceContext(environment, planned.name, positionsOf.get(planned.name)!);
    const source = await openStage(planned.name, () => planned.definition.open(planned.options, context));
    opened.push(source);
    sources.push({ name: planned.name, source, routes: routesOfSource.get(planned.name)!, records: 0, bytes: 0 });
  }
  await clearCleanStop(plan.sinks, checkpoint, groupCommit);
  // The pipeline keeps no sender: an input ends when all routes into it have closed theirs.
  for (const input of inputs.values()) input.sender.close();
  return new Pipeline({
    environment,
    committer,
    sources,
    transforms,
    sinks,
    disposables: [...opened].reverse(),
    sinkStages: [...sinkStages.values()],
    abortTransforms,
  });
}

interface Input {
  readonly sender: Sender<Routed>;
  readonly receiver: Receiver<Routed>;
  readonly size: ChannelSize;
}

function createInput({ plan, channels, clock }: PipelineEnvironment, component: string): Input {
  const size = plan.channels.input(component);
  const { sender, receiver } = channels.create<Routed>({
    component,
    channel: "input",
    why: `what ${component} reads`,
    clock,
    capacity: size.bufferSize,
    ...(size.bufferBytes === undefined ? {} : { capacityBytes: size.bufferBytes }),
    overflow: size.overflow,
    sendTimeoutMs: size.sendTimeoutMs,
    sizeOf: ({ batch }) => batch.byteLength,
    recordsOf: ({ batch }) => batch.count,
    onDrop: dropFromInput,
  });
  return { sender, receiver, size };
}

function sourceContext(
  environment: PipelineEnvironment,
  name: string,
  positions: PipelineSourcePositions,
): SourceContext {
  const size = environment.plan.channels.tailerPayload;
  return {
    ...stageContext(environment, name),
    budget: environment.budget,
    positions,
    channel: () =>
      environment.channels.create<Batch>({
        component: name,
        channel: "tailer_payload",
        why: "the one channel of a source: created by its TailerManager, cloned to each Tailer",
        clock: environment.clock,
        capacity: size.bufferSize,
        ...(size.bufferBytes === undefined ? {} : { capacityBytes: size.bufferBytes }),
        overflow: "block",
        sizeOf: (batch) => batch.byteLength,
        recordsOf: (batch) => batch.count,
        onDrop: (batch) => batch.memory.release(),
      }),
  };
}

async function openStage<Stage>(component: string, open: () => Promise<Stage>): Promise<Stage> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof StageError) throw error;
    throw new StageError("TR_STAGE_OPEN", component, toError(error).message, { cause: error });
  }
}

function stageContext(environment: PipelineEnvironment, name: string): StageContext {
  const { log, events, clock, random, fileSystem, host, plan } = environment;
  return {
    name,
    log: log.child({ component: name }),
    events: events(name),
    clock,
    random,
    fileSystem,
    host,
    stateDir: plan.stateDir,
  };
}
