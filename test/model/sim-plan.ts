import type { ChannelSize, Plan } from "../../src/config/plan.ts";

/** A channel that nothing of a simulation depends on. */
const BESIDE: ChannelSize = { bufferSize: 64, bufferBytes: undefined, overflow: "drop_newest", sendTimeoutMs: 0 };

/** A plan for a simulation; `channel`: between any two stages. */
export function simPlan({
  channel,
  ...parts
}: Pick<Plan, "checkpoint" | "sources" | "transforms" | "sinks"> & { readonly channel: ChannelSize }): Plan {
  return {
    stateDir: "/state",
    environment: "test",
    api: { enabled: false, address: "", token: undefined, allowedHosts: [] },
    otlp: undefined,
    shutdown: { gracefulTimeoutMs: 10_000, onSignalTimeoutMs: 0, sinkGraceMs: 0 },
    taskReadiness: { maxRetries: 3, backoff: { initialMs: 100, maxMs: 5000 } },
    deadLetters: { maxBytes: 1 << 20 },
    transformThreads: 0,
    channels: {
      totalBytes: 64 * 1024,
      tailerPayload: channel,
      supervisorErrors: BESIDE,
      commands: BESIDE,
      eventPublisher: BESIDE,
      eventStream: BESIDE,
      tap: BESIDE,
      ofStages: () => channel,
      input: () => channel,
      warningThreshold: 0.8,
    },
    ...parts,
  };
}
