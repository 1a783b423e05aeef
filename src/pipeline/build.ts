import { Backlog } from "./backlog.ts";
import { Committer } from "./committer.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { graphOf, waysOf } from "./graph.ts";
import { clearCleanStop, reconcileSinks } from "./known-sinks.ts";
import { createInput, openSink, openSource, openTransform } from "./open-stage.ts";
import type { Parts } from "./parts.ts";
import { Pipeline } from "./pipeline.ts";
import { routesInto } from "./route.ts";
import { newLane, sinkRunner, transformRunner } from "./runners.ts";
import { RunningSource } from "./running-source.ts";
import { skipAtStart } from "./skipped-at-start.ts";
import { PipelineSourcePositions } from "./source-positions.ts";
import { type Wires, wire } from "./wiring.ts";

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
  const { plan, clock, random, groupCommit, checkpoint, events } = environment;
  await reconcileSinks(plan, checkpoint, groupCommit, environment.log);
  const committer = new Committer({
    groupCommit,
    clock,
    random,
    events: events("checkpoint"),
    intervalMs: plan.checkpoint.commitIntervalMs,
    // A sink that keeps its batches until the commit must not hold the whole budget: the source would stop and wait for it.
    commitBytes: Math.min(plan.checkpoint.commitBytes, plan.channels.totalBytes / 2),
    maxUncommittedBytes: plan.checkpoint.maxUncommittedBytes,
    maxUncommittedMs: plan.checkpoint.maxUncommittedMs,
    onFailure: environment.onFailure,
  });
  const parts: Parts = { sources: new Map(), transforms: new Map(), sinks: new Map() };
  const abortTransforms = new AbortController();
  for (const planned of plan.sinks) {
    const sink = await openSink(environment, planned);
    opened.push(sink);
    const input = createInput(environment, plan, planned.name, planned.maxLagBytes);
    const runner = sinkRunner(environment, committer, planned, sink, input);
    const backlog = new Backlog(planned.maxLagBytes, committer.hurry);
    parts.sinks.set(planned.name, { planned, sink, runner, input, backlog });
  }
  for (const planned of plan.transforms) {
    const transform = await openTransform(environment, planned);
    opened.push({ [Symbol.asyncDispose]: async () => transform[Symbol.asyncDispose]?.() });
    const input = createInput(environment, plan, planned.name);
    const runner = transformRunner(environment, committer, abortTransforms.signal, planned, transform, input);
    parts.transforms.set(planned.name, { planned, transform, runner, input });
  }

  const graph = graphOf(plan);
  const ways = waysOf(plan);
  const wiresOf = new Map<string, { wires: Wires; positions: PipelineSourcePositions }>();
  for (const { name } of plan.sources) {
    const positions = new PipelineSourcePositions(name, checkpoint, groupCommit);
    const wires = wire({
      source: graph.get(name)!,
      ways,
      inputOf: (component) => {
        const sink = parts.sinks.get(component);
        const { input } = (sink ?? parts.transforms.get(component))!;
        return { ...input, backlog: sink?.backlog };
      },
      laneOf: (lane) =>
        newLane(environment, committer, positions, { source: name, ...lane }, parts.sinks.get(lane.sink)!),
    });
    positions.feeds(wires.lanes);
    wiresOf.set(name, { wires, positions });
  }
  const all = [...wiresOf.values()].map(({ wires }) => wires);
  for (const { planned, runner } of parts.sinks.values()) {
    runner.setLanes(all.flatMap(({ lanes }) => lanes.filter((lane) => lane.sink === planned.name)));
    committer.add(runner);
  }
  for (const { planned, runner } of parts.transforms.values())
    runner.routes = all.flatMap(({ routes }) => routesInto(planned.name, routes));
  for (const { runner } of parts.sinks.values()) {
    await runner.recoverAtStart();
    // Sources ask the checkpoint where to start: what a restored target no longer holds must be missing there by then.
    if (runner.isDirty) await committer.commitNow(runner, new AbortController().signal);
  }
  const lanes = all.flatMap((each) => each.lanes);
  for (const { planned, runner, backlog } of parts.sinks.values()) {
    const { limitBytes } = backlog;
    skipAtStart({ lanes: runner.lanes, limitBytes }, lanes, { checkpoint, events: events(planned.name) });
    if (runner.isDirty) await committer.commitNow(runner, new AbortController().signal);
  }

  for (const planned of plan.sources) {
    const { wires, positions } = wiresOf.get(planned.name)!;
    const source = await openSource(environment, planned, positions);
    opened.push(source);
    parts.sources.set(
      planned.name,
      new RunningSource({ planned, source, positions, wires, committer, log: environment.log }),
    );
  }
  await clearCleanStop(plan.sinks, checkpoint, groupCommit);
  // The pipeline keeps no sender: an input ends when all routes into it have closed theirs.
  for (const { input } of [...parts.transforms.values(), ...parts.sinks.values()]) input.sender.close();
  return new Pipeline({ environment, committer, parts, abortTransforms });
}
