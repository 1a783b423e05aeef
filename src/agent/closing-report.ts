import type { Pipeline } from "../pipeline/pipeline.ts";
import type { RunningSource } from "../pipeline/running-source.ts";
import type { SinkRunner } from "../pipeline/sink-runner.ts";
import type { Logger } from "../telemetry/log.ts";

/**
 * The last words of a run, however it ends: what became of the records at each sink, and what each source leaves for
 * the next start.
 */
export function reportEnd(pipeline: Pipeline, log: Logger): void {
  for (const sink of pipeline.sinks) reportSink(sink, log);
  for (const source of pipeline.sources) reportSource(source, log);
}

function reportSink(sink: SinkRunner, log: Logger): void {
  const { name, acknowledgedRecords: acknowledged, endings } = sink;
  const others = Object.entries(endings)
    .filter(([ending, records]) => ending !== "delivered" && records > 0)
    .map(([ending, records]) => `, ${records} ${ending.replace("_", "-")}`)
    .join("");
  log.info({ component: name, ...endings, acknowledged }, `${name}: ${endings.delivered} records delivered${others}`);
}

function reportSource({ name, records, bytes, source, positions, planned }: RunningSource, log: Logger): void {
  const read = `${name}: ${records} records (${bytes} bytes) read`;
  if (planned.definition.replay === "fleeting") {
    log.info({ component: name, records, bytes }, `${read}; none of it can be read again`);
    return;
  }
  // Where the end is forced, batches may still wait in its channel.
  const uncommitted = positions.uncommittedBytes + source.output.counters().bytes;
  const unread = source.status?.().lagBytes ?? 0;
  const left =
    uncommitted + unread === 0
      ? "nothing is left for the next start"
      : `${uncommitted + unread} bytes are left for the next start: ${uncommitted} read and not committed, ${unread} not read`;
  log.info(
    { component: name, records, bytes, uncommitted_bytes: uncommitted, unread_bytes: unread },
    `${read}; ${left}`,
  );
}
