import type { Sink, Transform } from "../stage/contract.ts";
import type { Committer } from "./committer.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { Lane } from "./lane.ts";
import type { Input, PlannedSink, PlannedTransform } from "./open-stage.ts";
import type { SinkPart } from "./parts.ts";
import { SinkRunner } from "./sink-runner.ts";
import type { PipelineSourcePositions } from "./source-positions.ts";
import { ThreadedRunner } from "./threaded-runner.ts";
import { isThreaded } from "./threaded-transform.ts";
import { TransformRunner } from "./transform-runner.ts";

export function sinkRunner(
  environment: PipelineEnvironment,
  committer: Committer,
  planned: PlannedSink,
  sink: Sink,
  input: Input,
): SinkRunner {
  const { clock, random, deadLetters } = environment;
  return new SinkRunner({
    name: planned.name,
    sink,
    input: input.receiver,
    concurrency: concurrencyOf(planned),
    order: planned.definition.order ?? "file",
    gatherBytes: planned.definition.gatherBytes ?? 0,
    retry: planned.retry,
    clock,
    random,
    events: environment.events(planned.name),
    deadLetters,
    commitNow: committer.commitNow,
    onUncommitted: committer.onUncommitted,
  });
}

function concurrencyOf({ definition, options }: PlannedSink): number {
  const { concurrency = 1 } = definition;
  return typeof concurrency === "number" ? concurrency : concurrency(options);
}

export function transformRunner(
  environment: PipelineEnvironment,
  committer: Committer,
  abort: AbortSignal,
  planned: PlannedTransform,
  transform: Transform,
  input: Input,
): TransformRunner {
  const Runner = isThreaded(transform) ? ThreadedRunner : TransformRunner;
  return new Runner({
    name: planned.name,
    transform,
    input: input.receiver,
    deadLetters: environment.deadLetters,
    log: environment.log.child({ component: planned.name }),
    clock: environment.clock,
    abort,
    onFull: committer.hurry,
  });
}

export function newLane(
  { checkpoint }: PipelineEnvironment,
  committer: Committer,
  positions: PipelineSourcePositions,
  lane: { readonly source: string; readonly sink: string; readonly way: string; readonly id: string },
  { sink, backlog }: Pick<SinkPart, "sink" | "backlog">,
): Lane {
  return new Lane({
    ...lane,
    checkpoint,
    backlog,
    keepsRecent: sink.prepare !== undefined,
    onDirty: () => {
      committer.onDirty();
      positions.onSettled();
    },
  });
}
