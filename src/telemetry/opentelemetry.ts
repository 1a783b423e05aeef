import { ValueType } from "@opentelemetry/api";
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { resourceFromAttributes } from "@opentelemetry/resources";
import {
  AggregationTemporality,
  DataPointType,
  type MetricData,
  type ResourceMetrics,
} from "@opentelemetry/sdk-metrics";
import { type HistogramPoint, METRICS, type MetricName, type MetricsSnapshot, type NumberPoint } from "./metrics.ts";

/*
 * A snapshot as OpenTelemetry's own data. Not by observable instruments: those cannot carry a histogram that exists
 * already, they stop at 2000 rows a family, and each is asked on its own, where one scrape must read one instant.
 *
 * Import this module when it is needed, not before: the libraries take 100 ms and 15 MB.
 */

type HrTime = [seconds: number, nanoseconds: number];

const hrTime = (ms: number): HrTime => [Math.floor(ms / 1000), Math.round((ms % 1000) * 1e6)];

export interface MetricsMoment {
  /** Wall clock milliseconds at which the counters began. */
  readonly startedAtMs: number;
  /** Wall clock milliseconds of the snapshot. */
  readonly nowMs: number;
  readonly version: string;
  readonly host: string;
}

export function resourceMetricsOf(snapshot: MetricsSnapshot, moment: MetricsMoment): ResourceMetrics {
  const startTime = hrTime(moment.startedAtMs);
  const endTime = hrTime(moment.nowMs);
  const metrics = (Object.keys(METRICS) as MetricName[]).map((name) =>
    metricData(name, snapshot[name], startTime, endTime),
  );
  return {
    resource: resourceFromAttributes({
      "service.name": "tailrace",
      "service.version": moment.version,
      "host.name": moment.host,
    }),
    scopeMetrics: [{ scope: { name: "tailrace", version: moment.version }, metrics }],
  };
}

function metricData(
  name: MetricName,
  points: readonly (NumberPoint | HistogramPoint)[],
  startTime: HrTime,
  endTime: HrTime,
): MetricData {
  const { kind, help, unit } = METRICS[name];
  const common = {
    descriptor: { name, description: help, unit, valueType: ValueType.DOUBLE },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  if (kind === "histogram") {
    return {
      ...common,
      dataPointType: DataPointType.HISTOGRAM,
      dataPoints: (points as readonly HistogramPoint[]).map(({ labels, bounds, counts, sum, count }) => ({
        startTime,
        endTime,
        attributes: { ...labels },
        value: { buckets: { boundaries: [...bounds], counts: [...counts] }, sum, count },
      })),
    };
  }
  const dataPoints = (points as readonly NumberPoint[]).map(({ labels, value }) => ({
    startTime,
    endTime,
    attributes: { ...labels },
    value,
  }));
  return kind === "counter"
    ? { ...common, dataPointType: DataPointType.SUM, isMonotonic: true, dataPoints }
    : { ...common, dataPointType: DataPointType.GAUGE, dataPoints };
}

/** The text format of Prometheus, version 0.0.4. */
export function prometheusText(snapshot: MetricsSnapshot, moment: MetricsMoment): string {
  const withUnits = resourceMetricsOf(snapshot, moment);
  // `# UNIT` belongs to OpenMetrics, where a name must end in its unit.
  const scopeMetrics = withUnits.scopeMetrics.map(({ scope, metrics }) => ({
    scope,
    metrics: metrics.map((metric) => ({ ...metric, descriptor: { ...metric.descriptor, unit: "" } })),
  }));
  return new PrometheusSerializer("", false, undefined, true, true).serialize({ ...withUnits, scopeMetrics });
}
