import type { ChannelSize, Plan, PlannedComponent } from "../config/plan.ts";
import type { SinkDefinition, SourceDefinition, TransformDefinition } from "../stage/define.ts";

const size = (bufferSize: number): ChannelSize => ({
  bufferSize,
  bufferBytes: 1 << 20,
  overflow: "block",
  sendTimeoutMs: 0,
});

/** A component of a plan, with what a configuration would fill in. */
export function planned<Definition>(
  name: string,
  definition: Definition,
  inputs: readonly string[] = [],
  options: unknown = {},
): PlannedComponent<Definition> {
  return {
    name,
    definition,
    options,
    inputs,
    previousNames: [],
    backfill: false,
    retry: { initialMs: 1, maxMs: 5, maxAttempts: 0 },
  };
}

/** A plan without a configuration file; channels of `capacity` (default 2) messages, so that edges are common. */
export function memoryPlan(parts: {
  sources: readonly PlannedComponent<SourceDefinition>[];
  transforms?: readonly PlannedComponent<TransformDefinition>[];
  sinks: readonly PlannedComponent<SinkDefinition>[];
  capacity?: number;
  stateDir?: string;
}): Plan {
  const channel = size(parts.capacity ?? 2);
  return {
    stateDir: parts.stateDir ?? "/state",
    environment: "test",
    api: { enabled: false, address: "127.0.0.1:0", token: undefined, allowedHosts: [] },
    otlp: undefined,
    shutdown: { gracefulTimeoutMs: 10_000, onSignalTimeoutMs: 0, sinkGraceMs: 0 },
    checkpoint: { commitIntervalMs: 1, commitBytes: 1 << 20, maxUncommittedBytes: 1 << 22, maxUncommittedMs: 30_000 },
    deadLetters: { maxBytes: 1 << 20 },
    transformThreads: 0,
    channels: {
      totalBytes: 1 << 20,
      tailerPayload: channel,
      supervisorErrors: size(64),
      commands: size(64),
      eventPublisher: size(64),
      eventStream: size(64),
      tap: size(64),
      ofStages: () => size(64),
      input: () => channel,
      warningThreshold: 0.8,
    },
    taskReadiness: { maxRetries: 3, backoff: { initialMs: 1, maxMs: 5 } },
    sources: parts.sources,
    transforms: parts.transforms ?? [],
    sinks: parts.sinks,
  };
}
