import type { ChannelRegistry, RegisteredChannel } from "../channel/index.ts";
import type { Plan } from "../config/plan.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { RunningSource } from "../pipeline/running-source.ts";
import type { DurationHistogram } from "../telemetry/duration-histogram.ts";
import type { MetricsSnapshot } from "../telemetry/metrics.ts";

/** Where the numbers come from. */
export interface MetricsOrigin {
  readonly channels: ChannelRegistry;
  readonly plan: Plan;
  /** Undefined until the stages are open: then everything is at zero. */
  readonly pipeline: Pipeline | undefined;
  readonly commitSeconds: DurationHistogram;
  readonly eventLoopLagSeconds: number;
  readonly version: string;
}

/** Files of one source with a row of their own; the sum of all others is one more. */
const MAX_FILES = 1000;

/** All metrics of one instant: nothing in here awaits, so that no record moves between two of them. */
export function collectMetrics(origin: MetricsOrigin): MetricsSnapshot {
  const channels = origin.channels.list().map(readChannel);
  const records = channels.filter(({ carriesRecords }) => carriesRecords);
  const { sources, transforms, sinks } = origin.pipeline ?? unopened(origin.plan);
  const refusing = [...transforms, ...sinks];
  return {
    mpsc_channel_usage_percent: channels.map(({ labels, counters }) => ({ labels, value: counters.usagePercent })),
    mpsc_channel_capacity: channels.map(({ labels, counters }) => ({ labels, value: counters.capacity })),
    mpsc_channel_messages: channels.map(({ labels, counters }) => ({ labels, value: counters.messages })),
    mpsc_channel_sent_total: channels.map(({ labels, counters }) => ({ labels, value: counters.sent })),
    mpsc_channel_received_total: channels.map(({ labels, counters }) => ({ labels, value: counters.received })),
    mpsc_channel_dropped_total: channels.flatMap(({ labels, counters }) => byReason(labels, counters.dropped)),
    mpsc_channel_coalesced_total: channels.map(({ labels, counters }) => ({ labels, value: counters.coalesced })),
    mpsc_channel_send_duration_seconds: channels.map(({ labels, durations }) => ({
      labels,
      bounds: durations.boundsSeconds,
      counts: durations.counts,
      sum: durations.sumSeconds,
      count: durations.count,
    })),
    tailrace_channel_records: records.map(({ labels, counters }) => ({ labels, value: counters.records.inChannel })),
    tailrace_channel_sent_records_total: records.map(({ labels, counters }) => ({
      labels,
      value: counters.records.sent,
    })),
    tailrace_channel_received_records_total: records.map(({ labels, counters }) => ({
      labels,
      value: counters.records.received,
    })),
    tailrace_channel_dropped_records_total: records.flatMap(({ labels, counters }) =>
      byReason(labels, counters.records.dropped),
    ),
    timeslots_dropped_total: [
      {
        labels: {},
        value: channels
          .filter(({ unit }) => unit === "time slots")
          .reduce((sum, { counters }) => sum + counters.records.dropped.policy, 0),
      },
    ],
    tailrace_source_bytes_total: sources.map(({ name, bytes }) => ({ labels: { component: name }, value: bytes })),
    tailrace_source_records_total: sources.map(({ name, records: read }) => ({
      labels: { component: name },
      value: read,
    })),
    tailrace_source_cut_lines_total: sources.map(({ name, source }) => ({
      labels: { component: name },
      value: source.status?.().cutLines ?? 0,
    })),
    tailrace_source_files_left_out: sources.map(({ name, source }) => ({
      labels: { component: name },
      value: source.status?.().leftOutFiles ?? 0,
    })),
    tailrace_sink_acknowledged_records_total: sinks.map(({ name, acknowledgedRecords }) => ({
      labels: { component: name },
      value: acknowledgedRecords,
    })),
    tailrace_sink_errors_total: sinks.map(({ name, errors }) => ({ labels: { component: name }, value: errors })),
    tailrace_dead_letter_records_total: refusing.map(({ name, deadLetters }) => ({
      labels: { component: name },
      value: deadLetters,
    })),
    tailrace_file_lag_bytes: sources.flatMap(fileLags),
    tailrace_checkpoint_commit_duration_seconds: [{ labels: {}, ...origin.commitSeconds.point() }],
    tailrace_event_loop_lag_seconds: [{ labels: {}, value: origin.eventLoopLagSeconds }],
    tailrace_build_info: [{ labels: { version: origin.version, node: process.version }, value: 1 }],
  };
}

type Source = Pick<RunningSource, "name" | "bytes" | "records"> & {
  readonly source: Pick<RunningSource["source"], "status" | "files">;
};

/** The components of a plan before their stages are open. */
function unopened(plan: Plan) {
  const sources: Source[] = plan.sources.map(({ name }) => ({ name, bytes: 0, records: 0, source: {} }));
  const transforms = plan.transforms.map(({ name }) => ({ name, deadLetters: 0 }));
  const sinks = plan.sinks.map(({ name }) => ({ name, acknowledgedRecords: 0, errors: 0, deadLetters: 0 }));
  return { sources, transforms, sinks };
}

/** One look at a channel: all its families tell of this instant. */
function readChannel(channel: RegisteredChannel) {
  return {
    labels: { component: channel.component, channel: channel.channel },
    carriesRecords: channel.carriesRecords,
    unit: channel.unit,
    counters: channel.counters(),
    durations: channel.sendDurations(),
  };
}

function byReason<Labels extends object>(
  labels: Labels,
  dropped: { readonly policy: number; readonly closed: number },
) {
  return [
    { labels: { ...labels, reason: "policy" }, value: dropped.policy },
    { labels: { ...labels, reason: "closed" }, value: dropped.closed },
  ];
}

function fileLags({ name, source }: Source): { labels: { component: string; file: string }; value: number }[] {
  // A row goes with its file: names come and go without end.
  const files = [...(source.files?.() ?? [])]
    .filter(({ phase }) => phase !== "finished")
    .sort((a, b) => b.lagBytes - a.lagBytes);
  // Several generations of one path are one row: it is the path that lags.
  const byPath = new Map<string, number>();
  let others = 0;
  for (const { path, lagBytes } of files) {
    const known = byPath.get(path);
    if (known === undefined && byPath.size >= MAX_FILES) others += lagBytes;
    else byPath.set(path, (known ?? 0) + lagBytes);
  }
  const rows = [...byPath].map(([file, value]) => ({ labels: { component: name, file }, value }));
  if (rows.length === 0 || files.length > MAX_FILES)
    rows.push({ labels: { component: name, file: "" }, value: others });
  return rows;
}
