import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock } from "../runtime/clock.ts";

/** What the agent is doing, at one instant. */
export interface AgentStatus {
  readonly files: number;
  readonly lagBytes: number;
  /** Records and bytes read since the start. */
  readonly records: number;
  readonly bytes: number;
  /** Records acknowledged, over all sinks. */
  readonly acknowledged: number;
  readonly deadLetters: number;
  readonly lastCommitAgoMs: number | undefined;
  /** What does not go well, one sentence each. */
  readonly troubles: readonly string[];
  readonly sources: readonly SourceRow[];
  readonly sinks: readonly SinkRow[];
}

/** What one source has read, and what is left. */
interface SourceRow {
  readonly name: string;
  readonly records: number;
  readonly bytes: number;
  readonly files: number;
  readonly lag_bytes: number;
}

/** What one sink has taken. */
interface SinkRow {
  readonly name: string;
  readonly acknowledged: number;
  readonly errors: number;
  readonly dead_letters: number;
  /** Batches taken from its input and not settled yet. */
  readonly unsettled_batches: number;
  /** Why it does not take anything; null: it does. */
  readonly trouble: string | null;
}

export function statusOf(pipeline: Pipeline, clock: Clock): AgentStatus {
  let files = 0;
  let lagBytes = 0;
  let records = 0;
  let bytes = 0;
  const sources: SourceRow[] = [];
  for (const running of pipeline.sources) {
    const status = running.source.status?.();
    sources.push({
      name: running.name,
      records: running.records,
      bytes: running.bytes,
      files: status?.files ?? 0,
      lag_bytes: status?.lagBytes ?? 0,
    });
    files += status?.files ?? 0;
    lagBytes += status?.lagBytes ?? 0;
    records += running.records;
    bytes += running.bytes;
  }
  const { lastCommitAtMs, trouble } = pipeline.committer;
  const troubles = pipeline.sinks.flatMap((sink) =>
    sink.trouble === undefined ? [] : [`${sink.name}: ${sink.trouble}`],
  );
  if (trouble !== undefined) troubles.push(`checkpoint: ${trouble}`);
  return {
    files,
    lagBytes,
    records,
    bytes,
    acknowledged: pipeline.sinks.reduce((sum, sink) => sum + sink.acknowledgedRecords, 0),
    deadLetters: [...pipeline.sinks, ...pipeline.transforms].reduce((sum, stage) => sum + stage.deadLetters, 0),
    lastCommitAgoMs: lastCommitAtMs === undefined ? undefined : clock.monotonic() - lastCommitAtMs,
    troubles,
    sources,
    sinks: pipeline.sinks.map((sink) => ({
      name: sink.name,
      acknowledged: sink.acknowledgedRecords,
      errors: sink.errors,
      dead_letters: sink.deadLetters,
      unsettled_batches: sink.unsettledBatches,
      trouble: sink.trouble ?? null,
    })),
  };
}
