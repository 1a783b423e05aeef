import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import type { LedgerEdge } from "../../src/agent/ledger.ts";
import { defineSink } from "../../src/stage/index.ts";
import { METRICS, type MetricName } from "../../src/telemetry/metrics.ts";
import { HttpReceiver } from "../../src/testing/http-receiver.ts";
import { parseScrape, type Sample, type Scrape } from "./scrape.ts";
import { ServedAgent, until } from "./served-agent.ts";

const slow = defineSink({
  type: "slow",
  summary: "Takes its time for each batch.",
  options: z.strictObject({ ms: z.int() }),
  guarantee: "at_least_once",
  open: async ({ ms }, { clock }) => ({
    async write() {
      await clock.sleep(ms);
      return { kind: "delivered" };
    },
    async [Symbol.asyncDispose]() {},
  }),
});

const scrapeOf = async (served: ServedAgent): Promise<Scrape> => parseScrape((await served.ask("/metrics")).body);

function sum(samples: readonly Sample[], name: string, labels: { [label: string]: string }): number {
  const wanted = samples.filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  if (wanted.length === 0) throw new Error(`${name} is missing for ${JSON.stringify(labels)}`);
  return wanted.reduce((total, { value }) => total + value, 0);
}

/** Every edge of a scrape whose numbers do not add up, in messages and in records. */
function unbalanced({ samples }: Scrape): string[] {
  const wrong: string[] = [];
  for (const { labels } of samples.filter(({ name }) => name === "mpsc_channel_capacity")) {
    const of = (name: string) => sum(samples, name, labels);
    const edge = `${labels["component"]}/${labels["channel"]}`;
    const sent = of("mpsc_channel_sent_total");
    const went = of("mpsc_channel_received_total") + of("mpsc_channel_dropped_total") + of("mpsc_channel_messages");
    if (sent !== went) wrong.push(`${edge}: ${sent} messages sent, ${went} accounted for`);
    if (of("mpsc_channel_send_duration_seconds_count") !== sent) wrong.push(`${edge}: sends without a duration`);
    if (of("mpsc_channel_messages") > of("mpsc_channel_capacity")) wrong.push(`${edge}: more than it holds`);
    if (!samples.some((one) => one.name === "tailrace_channel_records" && matches(one, labels))) continue;
    const records =
      of("tailrace_channel_received_records_total") +
      of("tailrace_channel_dropped_records_total") +
      of("tailrace_channel_records");
    if (of("tailrace_channel_sent_records_total") !== records) wrong.push(`${edge}: records do not add up`);
  }
  return wrong;
}

const matches = (sample: Sample, labels: Sample["labels"]) =>
  sample.labels["component"] === labels["component"] && sample.labels["channel"] === labels["channel"];

describe("metrics", () => {
  it("are exported from the start, every family at zero with exactly its labels", async () => {
    await using served = new ServedAgent();
    await served.open({
      transforms: { parse: { type: "json", inputs: ["app"] } },
      sinks: { out: { type: "file", inputs: ["parse"], path: served.output } },
    });
    const { types, samples } = await scrapeOf(served);
    expect(Object.fromEntries(types)).toEqual(
      Object.fromEntries(Object.entries(METRICS).map(([name, { kind }]) => [name, kind])),
    );
    for (const name of Object.keys(METRICS) as MetricName[]) {
      const { kind, labels } = METRICS[name];
      const rows = samples.filter((sample) => sample.name === (kind === "histogram" ? `${name}_count` : name));
      expect(rows.length, name).toBeGreaterThan(0);
      for (const row of rows) {
        expect(Object.keys(row.labels).sort(), name).toEqual([...labels].sort());
        const isConstant = /capacity$|build_info$|lag_seconds$/.test(name);
        const isEarly = row.labels["component"] === "shared" || name.startsWith("tailrace_checkpoint");
        if (!isConstant && !isEarly) expect([row.name, row.labels, row.value]).toEqual([row.name, row.labels, 0]);
      }
    }
    const channels = samples.filter(({ name }) => name === "mpsc_channel_capacity").map(({ labels }) => labels);
    for (const [component, channel] of [
      ["app", "tailer_payload"],
      ["parse", "input"],
      ["out", "input"],
      ["shared", "event_publisher"],
      ["api", "event_stream"],
      ["runtime", "supervisor"],
    ])
      expect(channels).toContainEqual({ component, channel });
    const reasons = samples.filter(
      (one) => one.name === "mpsc_channel_dropped_total" && one.labels["channel"] === "input",
    );
    expect(new Set(reasons.map(({ labels }) => labels["reason"]))).toEqual(new Set(["policy", "closed"]));
    served.run();
  });

  it("count what was read and delivered", async () => {
    await using served = await ServedAgent.start();
    served.append("one\ntwo\nthree\n");
    const of = async (name: string, component: string) => sum((await scrapeOf(served)).samples, name, { component });
    await until(async () => (await of("tailrace_sink_acknowledged_records_total", "out")) === 3, "three records");
    expect(await of("tailrace_source_records_total", "app")).toBe(3);
    expect(await of("tailrace_source_bytes_total", "app")).toBe(14);
    expect(await of("tailrace_file_lag_bytes", "app")).toBe(0);
    expect(await of("tailrace_sink_errors_total", "out")).toBe(0);
    const { samples } = await scrapeOf(served);
    expect(sum(samples, "tailrace_checkpoint_commit_duration_seconds_count", {})).toBeGreaterThan(0);
    expect(sum(samples, "tailrace_build_info", { node: process.version })).toBe(1);
  });

  it("obey conservation in each of a hundred scrapes under overload, and say what the audit says", async () => {
    await using served = await ServedAgent.start(
      (folder) => ({
        sinks: {
          out: { type: "slow", ms: 20, inputs: ["app"] },
          fast: { type: "blackhole", inputs: ["app"] },
        },
        mpsc_channels: {
          components: { out: { buffer_size: 1, overflow: "drop_newest" }, fast: { buffer_size: 2 } },
          sources: { tailer_manager: { payload_buffer_size: 2 } },
        },
        sources: {
          app: { type: "file", include: [join(folder, "logs", "*.log")], scan_interval_ms: 10, max_batch_bytes: 512 },
        },
      }),
      { sinks: [slow] },
    );
    const text = "a line of the overload\n".repeat(20_000);
    served.append(text);
    let last = new Map<string, number>();
    let moving = 0;
    for (let scrape = 0; scrape < 100; scrape += 1) {
      if (scrape % 10 === 5) served.append(text);
      const scraped = await scrapeOf(served);
      expect(unbalanced(scraped)).toEqual([]);
      const { edges } = await served.json<{ edges: LedgerEdge[] }>("/api/audit");
      for (const edge of edges) expect(edge.sent).toBe(edge.received + edge.dropped + edge.in_channel);
      const now = countersOf(scraped);
      for (const [name, value] of last) expect([name, (now.get(name) ?? -1) >= value]).toEqual([name, true]);
      if ([...now].some(([name, value]) => name.includes("sent_records") && value !== last.get(name))) moving += 1;
      last = now;
    }
    expect(moving).toBeGreaterThan(20);
    const { samples } = await scrapeOf(served);
    const out = { component: "out", channel: "input" };
    expect(sum(samples, "tailrace_channel_dropped_records_total", { ...out, reason: "policy" })).toBeGreaterThan(0);
  });

  it("tell drops once a second and at the end, adding up to all that was dropped", async () => {
    const served = await ServedAgent.start(
      (folder) => ({
        sinks: { out: { type: "slow", ms: 1, inputs: ["app"] } },
        mpsc_channels: { components: { out: { buffer_size: 1, overflow: "drop_newest" } } },
        sources: {
          app: { type: "file", include: [join(folder, "logs", "*.log")], scan_interval_ms: 10, max_batch_bytes: 512 },
        },
      }),
      { sinks: [slow] },
    );
    served.append("a line of the overload\n".repeat(50_000));
    await until(
      async () => sum((await scrapeOf(served)).samples, "tailrace_source_records_total", {}) === 50_000,
      "the end",
    );
    served.agent.stop("test");
    await served.ended;
    const edge = served.agent.ledger().find(({ component }) => component === "out")!;
    const told = served.log.filter(({ message }) => /^Dropped \d+ records in last second$/.test(message));
    expect(told.length).toBeGreaterThan(0);
    for (const { level, fields } of told)
      expect([level, fields["component"], fields["channel"], fields["event"]]).toEqual([
        "warn",
        "out",
        "input",
        "drop_burst",
      ]);
    expect(told.reduce((total, { fields }) => total + Number(fields["dropped"]), 0)).toBe(edge.dropped);
    await served[Symbol.asyncDispose]();
  });
});

function countersOf({ types, samples }: Scrape): Map<string, number> {
  const counters = samples.filter(({ name }) => types.get(name) === "counter");
  return new Map(counters.map(({ name, labels, value }) => [`${name}${JSON.stringify(labels)}`, value]));
}

/** OTLP as JSON: the parts of `ExportMetricsServiceRequest` that metrics are in (opentelemetry-proto, JSON mapping). */
interface Otlp {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes: readonly OtlpAttribute[] };
    readonly scopeMetrics: readonly { readonly metrics: readonly OtlpMetric[] }[];
  }[];
}
interface OtlpAttribute {
  readonly key: string;
  readonly value: { readonly stringValue: string };
}
interface OtlpMetric {
  readonly name: string;
  readonly unit: string;
  readonly sum?: {
    readonly isMonotonic: boolean;
    readonly aggregationTemporality: number;
    readonly dataPoints: OtlpPoint[];
  };
  readonly gauge?: { readonly dataPoints: OtlpPoint[] };
  readonly histogram?: { readonly aggregationTemporality: number; readonly dataPoints: OtlpHistogram[] };
}
interface OtlpPoint {
  readonly attributes: readonly OtlpAttribute[];
  readonly asDouble: number;
  readonly startTimeUnixNano: string;
  readonly timeUnixNano: string;
}
interface OtlpHistogram extends Omit<OtlpPoint, "asDouble"> {
  readonly count: number;
  readonly sum: number;
  readonly bucketCounts: readonly number[];
  readonly explicitBounds: readonly number[];
}

const CUMULATIVE = 2;

const attributesOf = (attributes: readonly OtlpAttribute[]) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue]));

describe("metrics › OTLP push", () => {
  it("sends every family to a receiver, with the numbers of one instant, and the last ones at the end", async () => {
    const receiver = new HttpReceiver();
    await receiver.start();
    const { host } = new URL(receiver.url);
    const served = await ServedAgent.start({
      telemetry: {
        otlp: { url: `http://me:pw@${host}`, interval_ms: 100, headers: { "x-api-key": "k" } },
      },
    });
    served.append("one\ntwo\n");
    await until(() => receiver.taken.length >= 2, "two pushes");
    await until(() => served.agent.status().acknowledged === 2, "two records");
    served.agent.stop("test");
    await served.ended;
    const request = receiver.taken.at(-1)!;
    expect(request).toMatchObject({ method: "POST", url: "/v1/metrics" });
    expect(request.headers["content-type"]).toBe("application/json");
    expect(request.headers["x-api-key"]).toBe("k");
    expect(request.headers.authorization).toBe(`Basic ${Buffer.from("me:pw").toString("base64")}`);
    const [resource] = (JSON.parse(request.body) as Otlp).resourceMetrics;
    expect(attributesOf(resource!.resource.attributes)).toMatchObject({ "service.name": "tailrace" });
    const metrics = new Map(resource!.scopeMetrics.flatMap(({ metrics: all }) => all).map((one) => [one.name, one]));
    expect([...metrics.keys()].sort()).toEqual(Object.keys(METRICS).sort());
    for (const [name, { kind, unit }] of Object.entries(METRICS)) {
      const metric = metrics.get(name)!;
      expect(metric.unit).toBe(unit);
      if (kind === "counter")
        expect(metric.sum).toMatchObject({ isMonotonic: true, aggregationTemporality: CUMULATIVE });
      else if (kind === "gauge") expect(metric.gauge!.dataPoints.length, name).toBeGreaterThan(0);
      else
        for (const point of metric.histogram!.dataPoints) {
          expect(point.bucketCounts).toHaveLength(point.explicitBounds.length + 1);
          expect(point.bucketCounts.reduce((total, count) => total + count, 0)).toBe(point.count);
        }
    }
    const acknowledged = metrics.get("tailrace_sink_acknowledged_records_total")!.sum!.dataPoints;
    expect(acknowledged).toHaveLength(1);
    expect(attributesOf(acknowledged[0]!.attributes)).toEqual({ component: "out" });
    expect(acknowledged[0]!.asDouble).toBe(2);
    expect(BigInt(acknowledged[0]!.startTimeUnixNano)).toBeLessThan(BigInt(acknowledged[0]!.timeUnixNano));
    const point = (name: string) =>
      metrics
        .get(name)!
        .sum!.dataPoints.filter(({ attributes }) => attributesOf(attributes)["component"] === "out")
        .reduce((total, { asDouble }) => total + asDouble, 0);
    expect(point("tailrace_channel_sent_records_total")).toBe(point("tailrace_channel_received_records_total"));
    expect(JSON.stringify(served.log)).not.toContain("pw");
    await receiver.kill();
    await served[Symbol.asyncDispose]();
  });

  it("goes on where the receiver is away, says so once, and ends in time", async () => {
    const receiver = new HttpReceiver();
    await receiver.start();
    const { host } = new URL(receiver.url);
    await receiver.kill();
    const served = await ServedAgent.start({
      telemetry: { otlp: { url: `http://${host}`, interval_ms: 100, timeout_ms: 2000 } },
    });
    const told = () => served.log.filter(({ message }) => message.includes("cannot be pushed"));
    await until(() => told().length > 0, "word of it");
    await receiver.start();
    await until(() => served.log.some(({ message }) => message.includes("can be pushed again")), "word of its end");
    expect(told()).toHaveLength(1);
    receiver.answer = () => "hang";
    served.agent.stop("test");
    const stoppedAt = Date.now();
    expect((await served.ended)!.exitCode).toBe(0);
    expect(Date.now() - stoppedAt).toBeLessThan(8000);
    await receiver.kill();
    await served[Symbol.asyncDispose]();
  });
});
