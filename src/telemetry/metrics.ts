/**
 * Every metric family: one typed list, from which the exporters and the reference page are made. A snapshot has a place
 * for each family and each label, so that one which nobody feeds does not compile.
 */

interface MetricDefinition {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly help: string;
  /** UCUM, as OpenTelemetry wants it. */
  readonly unit: string;
  readonly labels: readonly string[];
}

const CHANNEL = ["component", "channel"] as const;

export const METRICS = {
  mpsc_channel_usage_percent: {
    kind: "gauge",
    help: "How full the channel is, 0 to 100: the greater of messages and bytes.",
    unit: "%",
    labels: CHANNEL,
  },
  mpsc_channel_capacity: {
    kind: "gauge",
    help: "Messages that the channel holds at most.",
    unit: "{message}",
    labels: CHANNEL,
  },
  mpsc_channel_messages: { kind: "gauge", help: "Messages in channel now.", unit: "{message}", labels: CHANNEL },
  mpsc_channel_sent_total: {
    kind: "counter",
    help: "Messages accepted or dropped; always received + dropped + in channel.",
    unit: "{message}",
    labels: CHANNEL,
  },
  mpsc_channel_received_total: {
    kind: "counter",
    help: "Messages that the receiver has taken.",
    unit: "{message}",
    labels: CHANNEL,
  },
  mpsc_channel_dropped_total: {
    kind: "counter",
    help: "Messages dropped: by an overflow policy (policy), or left by a receiver that closed and read again (closed).",
    unit: "{message}",
    labels: [...CHANNEL, "reason"],
  },
  mpsc_channel_coalesced_total: {
    kind: "counter",
    help: "Messages that became part of an equal one that waited; counted neither as sent nor as dropped.",
    unit: "{message}",
    labels: CHANNEL,
  },
  mpsc_channel_send_duration_seconds: {
    kind: "histogram",
    help: "How long sends waited for room.",
    unit: "s",
    labels: CHANNEL,
  },
  tailrace_channel_records: { kind: "gauge", help: "Records in channel now.", unit: "{record}", labels: CHANNEL },
  tailrace_channel_sent_records_total: {
    kind: "counter",
    help: "Records accepted or dropped; always received + dropped + in channel.",
    unit: "{record}",
    labels: CHANNEL,
  },
  tailrace_channel_received_records_total: {
    kind: "counter",
    help: "Records that the receiver has taken.",
    unit: "{record}",
    labels: CHANNEL,
  },
  tailrace_channel_dropped_records_total: {
    kind: "counter",
    help: "Records dropped: by an overflow policy (policy), or left by a receiver that closed and read again (closed).",
    unit: "{record}",
    labels: [...CHANNEL, "reason"],
  },
  timeslots_dropped_total: {
    kind: "counter",
    help: "Time slots that an overflow policy dropped.",
    unit: "{slot}",
    labels: [],
  },
  tailrace_source_bytes_total: {
    kind: "counter",
    help: "Bytes read, delimiters included.",
    unit: "By",
    labels: ["component"],
  },
  tailrace_source_records_total: { kind: "counter", help: "Records read.", unit: "{record}", labels: ["component"] },
  tailrace_source_cut_lines_total: {
    kind: "counter",
    help: "Lines longer than max_line_bytes that were cut into several records.",
    unit: "{line}",
    labels: ["component"],
  },
  tailrace_source_files_left_out: {
    kind: "gauge",
    help: "Files that match and are not read, since there are more than max_files.",
    unit: "{file}",
    labels: ["component"],
  },
  tailrace_sink_acknowledged_records_total: {
    kind: "counter",
    help: "Records that the sink holds durably.",
    unit: "{record}",
    labels: ["component"],
  },
  tailrace_sink_errors_total: {
    kind: "counter",
    help: "Writes that failed or were refused.",
    unit: "{error}",
    labels: ["component"],
  },
  tailrace_dead_letter_records_total: {
    kind: "counter",
    help: "Records that the component put into the dead letters.",
    unit: "{record}",
    labels: ["component"],
  },
  tailrace_file_lag_bytes: {
    kind: "gauge",
    help: "Bytes known to exist and not read yet. An empty file label holds the sum of files without a row of their own.",
    unit: "By",
    labels: ["component", "file"],
  },
  tailrace_checkpoint_commit_duration_seconds: {
    kind: "histogram",
    help: "How long a checkpoint took to be durable, failed ones included.",
    unit: "s",
    labels: [],
  },
  tailrace_event_loop_lag_seconds: {
    kind: "gauge",
    help: "Longest delay of the event loop in the last one to two seconds, looked at ten times a second.",
    unit: "s",
    labels: [],
  },
  tailrace_build_info: {
    kind: "gauge",
    help: "Always 1; the labels say what runs.",
    unit: "1",
    labels: ["version", "node"],
  },
} as const satisfies { [name: string]: MetricDefinition };

export type MetricName = keyof typeof METRICS;

type LabelsOf<Name extends MetricName> = { readonly [Label in (typeof METRICS)[Name]["labels"][number]]: string };

export interface NumberPoint<Labels = { readonly [label: string]: string }> {
  readonly labels: Labels;
  readonly value: number;
}

export interface HistogramPoint<Labels = { readonly [label: string]: string }> {
  readonly labels: Labels;
  /** Upper bounds, ascending. */
  readonly bounds: readonly number[];
  /** Per bucket, not cumulative; one more than bounds. */
  readonly counts: readonly number[];
  readonly sum: number;
  readonly count: number;
}

type PointOf<Name extends MetricName> = (typeof METRICS)[Name]["kind"] extends "histogram"
  ? HistogramPoint<LabelsOf<Name>>
  : NumberPoint<LabelsOf<Name>>;

/** All metrics of one instant. */
export type MetricsSnapshot = { readonly [Name in MetricName]: readonly PointOf<Name>[] };
