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
}

export function statusOf(pipeline: Pipeline, clock: Clock): AgentStatus {
  let files = 0;
  let lagBytes = 0;
  let records = 0;
  let bytes = 0;
  for (const running of pipeline.sources) {
    const status = running.source.status?.();
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
  };
}
