import { ChannelRegistry } from "../../src/channel/registry.ts";
import { Checkpoint } from "../../src/checkpoint/checkpoint.ts";
import type { CheckpointStore } from "../../src/checkpoint/checkpoint-store.ts";
import { GroupCommit } from "../../src/checkpoint/group-commit.ts";
import type { Plan, PlannedComponent } from "../../src/config/plan.ts";
import { TailraceError, toError } from "../../src/errors.ts";
import { openPipeline } from "../../src/pipeline/build.ts";
import type { Pipeline } from "../../src/pipeline/pipeline.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { FileSystem } from "../../src/runtime/file-system.ts";
import { MemoryBudget } from "../../src/runtime/memory-budget.ts";
import type { Random } from "../../src/runtime/random.ts";
import { fileSink } from "../../src/sinks/file.ts";
import { fileSource } from "../../src/sources/file.ts";
import type { SinkDefinition, SourceDefinition } from "../../src/stage/define.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { simPlan } from "./sim-plan.ts";

export interface EngineEvent {
  readonly name: string;
  readonly component: string;
  readonly message: string;
  readonly facts: unknown;
}

export interface EngineEnvironment {
  readonly clock: Clock;
  readonly files: FileSystem;
  readonly store: CheckpointStore;
  readonly random: Random;
  readonly include: readonly string[];
  /** Where rotation moves files to; empty: they stay in their folder. */
  readonly rotatedTo: readonly string[];
  readonly output: string;
  readonly maxOpenFiles: number;
  readonly rotateWaitMs: number;
  /** Another sink beside the file. */
  readonly second: { readonly definition: SinkDefinition; readonly options: unknown } | undefined;
  readonly onEvent: (event: EngineEvent) => void;
}

/** The real pipeline, composed as the agent does it, in a world of its own. */
export interface Engine {
  /** SIGTERM. */
  stop(): void;
  /** SIGHUP, with a change that makes the source start anew. */
  reload(): void;
  /** Resolves when the pipeline has ended, also when it failed. */
  readonly ended: Promise<void>;
  /** What made it end. */
  readonly failure: Error | undefined;
}

export function openEngine(environment: EngineEnvironment): Engine {
  const abort = new AbortController();
  const state: { failure: Error | undefined } = { failure: undefined };
  const fail = (error: Error) => {
    state.failure ??= error;
    abort.abort();
  };
  let pipeline: Pipeline | undefined;
  let isReloading = false;
  let reloads = 0;
  const onOpen = (opened: Pipeline) => {
    pipeline = opened;
  };
  const ended = run(environment, abort.signal, fail, onOpen).catch((error: unknown) => fail(toError(error)));
  return {
    stop: () => abort.abort(),
    reload: () => {
      if (pipeline === undefined || isReloading || abort.signal.aborted) return;
      isReloading = true;
      reloads += 1;
      pipeline
        .reload(planOf(environment, reloads))
        // A store or a target that is away lets a reload fail: everything runs as before.
        .catch((error: unknown) => {
          if (!(error instanceof TailraceError) && !abort.signal.aborted) fail(toError(error));
        })
        .finally(() => {
          isReloading = false;
        });
    },
    ended,
    get failure() {
      return state.failure;
    },
  };
}

async function run(
  environment: EngineEnvironment,
  signal: AbortSignal,
  fail: (error: Error) => void,
  onOpen: (pipeline: Pipeline) => void,
): Promise<void> {
  const { clock, random, files, store } = environment;
  const plan = planOf(environment, 0);
  const checkpoint = await Checkpoint.load(store);
  const groupCommit = new GroupCommit(store, { clock, onCommitted: (changes) => checkpoint.applied(changes) });
  let pipeline: Pipeline | undefined;
  try {
    pipeline = await openPipeline({
      plan,
      clock,
      random,
      fileSystem: files,
      log: silentLogger,
      events: (component) => ({
        emit: (name, message, facts) => environment.onEvent({ name, component, message, facts }),
      }),
      host: "model",
      channels: new ChannelRegistry(),
      checkpoint,
      groupCommit,
      deadLetters: {
        put: async (component, rejections) => {
          fail(new Error(`${component} refused ${rejections.length} records: ${rejections[0]?.reason}`));
          return true;
        },
      },
      budget: new MemoryBudget(plan.channels.totalBytes, 4096),
      onLastCommitFailed: async () => {},
      onFailure: fail,
    });
    onOpen(pipeline);
    await pipeline.run({ signal, once: false });
  } finally {
    await pipeline?.close();
  }
}

function planOf(environment: EngineEnvironment, reloads: number): Plan {
  const { include, rotatedTo, output, maxOpenFiles, rotateWaitMs, second } = environment;
  const source = planned<SourceDefinition>("app", fileSource as unknown as SourceDefinition, [], {
    // Every third reload finds other patterns, which match nothing more.
    include: reloads % 3 === 2 ? [...include, "/none/*.log"] : include,
    scan_interval_ms: 100,
    idle_scan_interval_ms: 1000,
    rotate_wait_ms: rotateWaitMs,
    max_batch_bytes: 512 + (reloads % 2),
    max_open_files: maxOpenFiles,
    ...(rotatedTo.length > 0 ? { rotated_to: rotatedTo } : {}),
  });
  const sink = planned<SinkDefinition>("out", fileSink as unknown as SinkDefinition, ["app"], {
    path: output,
    encoding: "raw",
  });
  return simPlan({
    channel: { bufferSize: 2, bufferBytes: 8192, overflow: "block", sendTimeoutMs: 0 },
    checkpoint: { commitIntervalMs: 50, commitBytes: 4096, maxUncommittedBytes: 16_384, maxUncommittedMs: 1000 },
    sources: [source],
    transforms: [],
    sinks: second === undefined ? [sink] : [sink, planned("second", second.definition, ["app"], second.options)],
  });
}

function planned<Definition extends SourceDefinition | SinkDefinition>(
  name: string,
  definition: Definition,
  inputs: readonly string[],
  options: unknown,
): PlannedComponent<Definition> {
  return {
    name,
    definition,
    options: definition.options.parse(options),
    inputs,
    previousNames: [],
    backfill: false,
    retry: { initialMs: 50, maxMs: 500, maxAttempts: 0 },
  };
}
