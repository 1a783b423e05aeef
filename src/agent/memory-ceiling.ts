import type { Plan } from "../config/plan.ts";
import { bytesOfBacklog } from "../pipeline/backlog.ts";
import { transformRun } from "../transform-threads/transform-run.ts";

/**
 * Resident size of Node, the compiled code and the libraries with nothing in flight: 77 MiB seen (48 of them mapped files),
 * 92 while they are loaded, and up to 89 beside a full budget while a file is read at full speed; and head room.
 */
const BASE_BYTES = 96 * 1024 * 1024;
/** What an encoder or a request holds beside the batch itself, per sink. */
const SINK_BYTES = 8 * 1024 * 1024;
/** Events on their way and kept for a commit, per transform. */
const TRANSFORM_BYTES = 24 * 1024 * 1024;
/** With transforms, the young generation is let grow (cli/run-agent.ts), and the old one holds what it promoted. */
const EVENTS_BYTES = 48 * 1024 * 1024;

/** Of each thread of transforms: its code and events, what waits for it and what it made (pipeline/made-events.ts). */
const THREAD_BYTES = 72 * 1024 * 1024;

/** The most memory the agent will use, in MiB: what the configuration lets be in flight, and what stands around it. */
export function memoryCeilingMiB(plan: Plan): number {
  const transforms = plan.transforms.length;
  const sinkBytes = plan.sinks.reduce(
    (sum, { definition, options, maxLagBytes = 0 }) =>
      sum + (definition.memoryBytes?.(options) ?? SINK_BYTES) + bytesOfBacklog(maxLagBytes),
    0,
  );
  const sourceBytes = plan.sources.reduce(
    (sum, { definition, options }) => sum + (definition.memoryBytes?.(options) ?? 0),
    0,
  );
  const threads = plan.transforms.filter(({ definition: { type } }) => type === transformRun.type).length;
  const bytes =
    BASE_BYTES +
    plan.channels.totalBytes +
    sourceBytes +
    sinkBytes +
    threads * plan.transformThreads * THREAD_BYTES +
    (transforms === 0 ? 0 : EVENTS_BYTES + transforms * TRANSFORM_BYTES);
  return Math.ceil(bytes / (1024 * 1024));
}
