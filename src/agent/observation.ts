import { join } from "node:path";
import type { ApiView } from "../api/app.ts";
import type { ApiServer } from "../api/server.ts";
import type { ChannelRegistry } from "../channel/index.ts";
import type { Plan } from "../config/plan.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Random } from "../runtime/random.ts";
import { DurationHistogram } from "../telemetry/duration-histogram.ts";
import type { EventSubscription } from "../telemetry/events.ts";
import type { Logger } from "../telemetry/log.ts";
import type { AgentControl } from "./control.ts";
import { EventLoopLag } from "./event-loop-lag.ts";
import type { EventPublisher } from "./event-publisher.ts";
import { type Complaint, Health } from "./health.ts";
import { collectMetrics } from "./metrics.ts";
import type { OtlpPush } from "./otlp-push.ts";
import { packageVersion } from "./version.ts";

export interface ObservationOptions {
  readonly plan: Plan;
  readonly clock: Clock;
  readonly log: Logger;
  readonly host: string;
  readonly channels: ChannelRegistry;
  readonly events: EventPublisher;
}

/**
 * Everything by which an agent is looked at from outside: the API with its metrics, health and event stream, and the
 * push of metrics. It is there before the stages are, so that a sink that takes its time to open can be seen to do so.
 */
export class Observation implements ApiView {
  readonly #options: ObservationOptions;
  readonly #startedAtMs: number;
  readonly #version = packageVersion();
  readonly #commitSeconds = new DurationHistogram();
  readonly #health: Health;
  readonly #lag: EventLoopLag | undefined;
  #push: OtlpPush | undefined;
  #server: ApiServer | undefined;
  #pipeline: Pipeline | undefined;
  #control: AgentControl | undefined;

  private constructor(options: ObservationOptions) {
    const { plan, clock } = options;
    this.#options = options;
    this.#startedAtMs = clock.now();
    const isWatched = plan.api.enabled || plan.otlp !== undefined;
    this.#lag = isWatched ? new EventLoopLag() : undefined;
    this.#health = new Health(clock, () => this.#lag?.seconds ?? 0);
  }

  /**
   * Before anything is touched.
   * @throws ConfigError when the configuration needs a package that is not installed, or a privilege that is missing
   */
  static async prepare(options: ObservationOptions): Promise<Observation> {
    const observation = new Observation(options);
    const { plan, clock, log } = options;
    try {
      if (plan.api.enabled) await (await import("../api/server.ts")).ApiServer.checkPrivilege(plan.api);
      if (plan.otlp === undefined) return observation;
      const { OtlpPush } = await import("./otlp-push.ts");
      observation.#push = await OtlpPush.load({ plan: plan.otlp, clock, log, metrics: () => observation.metrics() });
      return observation;
    } catch (error) {
      await observation.close();
      throw error;
    }
  }

  /** Opens the API's listener. @throws TailraceError `TR_ADDRESS_IN_USE`, `TR_ADDRESS_UNUSABLE` */
  async listen(stateDir: string, random: Random): Promise<void> {
    const { plan, log } = this.#options;
    this.#push?.start();
    if (!plan.api.enabled) return;
    const [{ ApiServer }, { apiToken }] = await Promise.all([import("../api/server.ts"), import("../api/token.ts")]);
    const token = apiToken(plan.api.token, join(stateDir, "api-token"), random);
    this.#server = await ApiServer.open(plan.api, token, this);
    log.info({ address: this.#server.address }, `API and dashboard at ${this.#server.address}`);
  }

  /** Takes each commit's duration. */
  readonly observeCommit = (seconds: number): void => this.#commitSeconds.observe(seconds);

  /** The stages are open and run. */
  started(control: AgentControl, pipeline: Pipeline): void {
    this.#control = control;
    this.#pipeline = pipeline;
    this.#health.started(pipeline);
  }

  /** Numbers and status can still be asked for. */
  stopping(): void {
    this.#health.stopping();
  }

  async close(): Promise<void> {
    this.#control = undefined;
    await this.#push?.close();
    await this.#server?.close();
    this.#lag?.stop();
  }

  stuck(): Complaint[] {
    return this.#health.stuck();
  }

  notReady(): Complaint[] {
    return this.#health.notReady();
  }

  metrics(): ReturnType<ApiView["metrics"]> {
    const { channels, clock, host, plan } = this.#options;
    const version = this.#version;
    const snapshot = collectMetrics({
      channels,
      plan,
      pipeline: this.#pipeline,
      commitSeconds: this.#commitSeconds,
      eventLoopLagSeconds: this.#lag?.seconds ?? 0,
      version,
    });
    return { snapshot, moment: { startedAtMs: this.#startedAtMs, nowMs: clock.now(), version, host } };
  }

  control(): AgentControl | undefined {
    return this.#control;
  }

  events(): EventSubscription {
    return this.#options.events.subscribe();
  }

  /** Where the API listens; undefined where there is none. */
  get address(): string | undefined {
    return this.#server?.address;
  }
}
