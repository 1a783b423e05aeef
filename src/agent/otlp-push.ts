import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { OtlpPlan } from "../config/plan.ts";
import { ConfigError, errnoOf, toError } from "../errors.ts";
import type { Clock, Timer } from "../runtime/clock.ts";
import type { Logger } from "../telemetry/log.ts";
import type { MetricsSnapshot } from "../telemetry/metrics.ts";
import { type MetricsMoment, resourceMetricsOf } from "../telemetry/opentelemetry.ts";
import { maskUrls } from "../telemetry/redact.ts";

export interface OtlpPushOptions {
  readonly plan: OtlpPlan;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: () => { readonly snapshot: MetricsSnapshot; readonly moment: MetricsMoment };
}

/** The signal's path, where the URL names none (OpenTelemetry Protocol Exporter, "Endpoint URLs for OTLP/HTTP"). */
const METRICS_PATH = "/v1/metrics";

const PACKAGE = "@opentelemetry/exporter-metrics-otlp-http";

/** Pushes all metrics of one instant at each interval and once more at the end, one push at a time. */
export class OtlpPush {
  readonly #options: OtlpPushOptions;
  readonly #exporter: PushMetricExporter;
  #timer: Timer | undefined;
  #isStopped = false;
  #pushing: Promise<void> = Promise.resolve();
  #trouble: string | undefined;

  private constructor(options: OtlpPushOptions, exporter: PushMetricExporter) {
    this.#options = options;
    this.#exporter = exporter;
  }

  /** @throws ConfigError if the exporter's package is not installed. */
  static async load(options: OtlpPushOptions): Promise<OtlpPush> {
    const { OTLPMetricExporter } = await import("@opentelemetry/exporter-metrics-otlp-http").catch((error: unknown) => {
      if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
      throw new ConfigError([
        { key: "telemetry.otlp.url", message: `needs a package that is not installed: npm install ${PACKAGE}` },
      ]);
    });
    const { url, headers } = target(options.plan);
    return new OtlpPush(options, new OTLPMetricExporter({ url, headers, timeoutMillis: options.plan.timeoutMs }));
  }

  start(): void {
    if (this.#isStopped) return;
    this.#timer = this.#options.clock.after(this.#options.plan.intervalMs, () => {
      this.#pushing = this.#push();
      void this.#pushing.then(() => this.start());
    });
  }

  /** Pushes the last numbers, then ends; takes `timeout_ms` at most. */
  async close(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    const { clock, plan } = this.#options;
    const patience = new AbortController();
    const last = this.#pushing.then(() => this.#push()).then(() => this.#exporter.shutdown());
    await Promise.race([last.catch(() => {}), clock.sleep(plan.timeoutMs, { signal: patience.signal })]);
    patience.abort();
  }

  async #push(): Promise<void> {
    const { log, metrics } = this.#options;
    const { snapshot, moment } = metrics();
    const trouble = await new Promise<string | undefined>((resolve) => {
      this.#exporter.export(resourceMetricsOf(snapshot, moment), ({ code, error }) =>
        // ExportResultCode.SUCCESS
        resolve(code === 0 ? undefined : maskUrls(error?.message ?? "it was refused")),
      );
    }).catch((error: unknown) => maskUrls(toError(error).message));
    if (trouble !== undefined && this.#trouble === undefined)
      log.warn({ component: "telemetry" }, `metrics cannot be pushed to telemetry.otlp.url: ${trouble}; trying on`);
    if (trouble === undefined && this.#trouble !== undefined)
      log.info({ component: "telemetry" }, "metrics can be pushed again");
    this.#trouble = trouble;
  }
}

/** The URL without what is for us alone: user info becomes a header, an empty path the signal's own. */
function target({ url: configured, headers }: OtlpPlan): { url: string; headers: { [name: string]: string } } {
  const url = new URL(configured);
  const { username, password } = url;
  url.username = "";
  url.password = "";
  if (url.pathname === "/") url.pathname = METRICS_PATH;
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const basic = credentials === ":" ? {} : { authorization: `Basic ${Buffer.from(credentials).toString("base64")}` };
  return { url: url.href, headers: { ...basic, ...headers } };
}
