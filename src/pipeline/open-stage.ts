import type { Receiver, Sender } from "../channel/index.ts";
import { capacityOf } from "../config/channel-size.ts";
import type { ChannelSize, Plan } from "../config/plan.ts";
import { StageError, toError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { Marks, Sink, Source, StageContext, Transform } from "../stage/contract.ts";
import { batchesBehind } from "./backlog.ts";
import { dropFromInput } from "./edge.ts";
import type { PipelineEnvironment } from "./environment.ts";
import { CLEAN_STOP } from "./known-sinks.ts";
import type { Routed } from "./route.ts";
import type { PipelineSourcePositions } from "./source-positions.ts";
import { stageChannels } from "./stage-channels.ts";

export type PlannedSource = Plan["sources"][number];
export type PlannedTransform = Plan["transforms"][number];
export type PlannedSink = Plan["sinks"][number];

/** The channel in front of a transform or sink. */
export interface Input {
  /** For the routes to clone; nobody sends on it itself, and it is closed once they have. */
  readonly sender: Sender<Routed>;
  readonly receiver: Receiver<Routed>;
  readonly size: ChannelSize;
}

/** `maxLagBytes`: of a sink that is not required, for which there is room for all that it may be behind. */
export function createInput(
  { channels, clock }: PipelineEnvironment,
  plan: Plan,
  component: string,
  maxLagBytes = 0,
): Input {
  const configured = plan.channels.input(component);
  const size: ChannelSize = {
    ...configured,
    bufferSize: Math.max(configured.bufferSize, batchesBehind(maxLagBytes)),
    bufferBytes: configured.bufferBytes && Math.max(configured.bufferBytes, maxLagBytes),
  };
  const { sender, receiver } = channels.create<Routed>({
    component,
    channel: "input",
    why: `what ${component} reads`,
    clock,
    ...capacityOf(size),
    overflow: size.overflow,
    sendTimeoutMs: size.sendTimeoutMs,
    sizeOf: ({ batch }) => batch.byteLength,
    recordsOf: ({ batch }) => batch.count,
    onDrop: dropFromInput,
  });
  return { sender, receiver, size };
}

/** @throws StageError naming the component, as the other two do. */
export function openSink(environment: PipelineEnvironment, planned: PlannedSink): Promise<Sink> {
  const { checkpoint, groupCommit } = environment;
  const { name, definition, options } = planned;
  return openStage(name, () =>
    definition.open(options, {
      ...stageContext(environment, name),
      channels: stageChannels(environment),
      marks: new Map([...checkpoint.marksOf(name)].filter(([mark]) => mark !== CLEAN_STOP)),
      saveMarks: (marks: Marks) =>
        groupCommit.submit(
          Object.entries(marks).map(([mark, value]) => ({ table: "mark", sink: name, name: mark, value })),
        ),
      wasCleanStop: checkpoint.marksOf(name).get(CLEAN_STOP) === true,
    }),
  );
}

export function openTransform(environment: PipelineEnvironment, planned: PlannedTransform): Promise<Transform> {
  return openStage(planned.name, () =>
    planned.definition.open(planned.options, stageContext(environment, planned.name)),
  );
}

export function openSource(
  environment: PipelineEnvironment,
  planned: PlannedSource,
  positions: PipelineSourcePositions,
): Promise<Source> {
  const { name, definition, options } = planned;
  const size = environment.plan.channels.tailerPayload;
  return openStage(name, () =>
    definition.open(options, {
      ...stageContext(environment, name),
      channels: stageChannels(environment),
      budget: environment.budget,
      positions,
      deadLetter: async (batch, reason, attempts, { signal }) => {
        const rejections = batch.records.map((record) => ({ record, reason }));
        if (!(await environment.deadLetters.put(name, rejections, attempts, signal))) return false;
        positions.endEverywhere(batch, "dead_lettered");
        return true;
      },
      channel: () =>
        environment.channels.create<Batch>({
          component: name,
          channel: "tailer_payload",
          why:
            definition.output === undefined
              ? "the one channel of a source: created by its TailerManager, cloned to each Tailer"
              : `the one channel of a source: ${definition.output.unit} are dropped, not waited for`,
          clock: environment.clock,
          ...capacityOf(size),
          overflow: definition.output?.overflow ?? "block",
          unit: definition.output?.unit ?? "records",
          sendTimeoutMs: size.sendTimeoutMs,
          ...(definition.output === undefined
            ? {
                onSlowSend: (waitedMs: number) =>
                  environment.log.warn(
                    { component: name, channel: "tailer_payload", waited_ms: waitedMs },
                    `${name} has waited ${waitedMs} ms for room in its channel; still waiting`,
                  ),
              }
            : {}),
          sizeOf: (batch) => batch.byteLength,
          recordsOf: (batch) => batch.count,
          onDrop: (batch) => batch.memory.release(),
        }),
    }),
  );
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
