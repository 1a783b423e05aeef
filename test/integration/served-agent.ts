import { once } from "node:events";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Agent } from "../../src/agent/agent.ts";
import { openAgent } from "../../src/agent/agent.ts";
import { loadPlan, type Plan, type StageList } from "../../src/config/index.ts";
import { type Clock, systemClock } from "../../src/runtime/clock.ts";
import type { SupervisorResult } from "../../src/runtime/supervisor.ts";
import { builtInStages } from "../../src/stages.ts";
import type { LogFields, Logger } from "../../src/telemetry/log.ts";

export interface LogLine {
  readonly level: string;
  readonly fields: LogFields;
  readonly message: string;
}

/** A whole agent in this process, on a configuration, with a folder of its own; asked by real requests. */
export class ServedAgent {
  readonly folder = mkdtempSync(join(tmpdir(), "tailrace-served-"));
  readonly stateDir = join(this.folder, "state");
  readonly output = join(this.folder, "out.ndjson");
  readonly log: LogLine[] = [];
  agent!: Agent;
  ended: Promise<SupervisorResult> | undefined;

  /** What a reload reads. */
  config: Config = {};

  /** Milliseconds by which the agent's clock was put forward. */
  skippedMs = 0;

  /** `config` goes over a file source "app" and a file sink "out", section by section. */
  static async start(
    config: Config | ((folder: string) => Config) = {},
    extra: Partial<StageList> = {},
  ): Promise<ServedAgent> {
    const served = new ServedAgent();
    try {
      await served.open(typeof config === "function" ? config(served.folder) : config, extra);
    } catch (error) {
      await served[Symbol.asyncDispose]();
      throw error;
    }
    served.run();
    await served.#begun();
    return served;
  }

  async open(config: Config, extra: Partial<StageList> = {}): Promise<void> {
    mkdirSync(join(this.folder, "logs"), { recursive: true });
    this.config = config;
    const clock: Clock = {
      ...systemClock,
      now: () => systemClock.now() + this.skippedMs,
      monotonic: () => systemClock.monotonic() + this.skippedMs,
    };
    const read = () => this.#plan(extra);
    const plan = await read();
    this.agent = await openAgent({ plan, log: this.#logger(), clock, forceExit: () => {}, loadPlan: read });
  }

  async #plan(extra: Partial<StageList>): Promise<Plan> {
    const { plan } = await loadPlan({
      stages: {
        sources: [...builtInStages.sources, ...(extra.sources ?? [])],
        transforms: [...builtInStages.transforms, ...(extra.transforms ?? [])],
        sinks: [...builtInStages.sinks, ...(extra.sinks ?? [])],
      },
      env: {},
      cwd: this.folder,
      stateDir: this.stateDir,
      made: {
        by: "test",
        config: {
          api: { address: "127.0.0.1:0" },
          sources: { app: { type: "file", include: [join(this.folder, "logs", "*.log")], scan_interval_ms: 50 } },
          sinks: { out: { type: "file", inputs: ["app"], path: this.output } },
          ...this.config,
        },
      },
    });
    return plan;
  }

  run(): void {
    this.ended = this.agent.run();
  }

  /** Resolves when the stages run (before that the API is there and says so), or when it has ended. */
  async #begun(): Promise<void> {
    if (this.agent.apiAddress === undefined) return;
    let isOver = false;
    const over = () => {
      isOver = true;
    };
    this.ended?.then(over, over);
    const isStarting = async () => (await this.ask("/ready")).body.includes("it is starting");
    await until(async () => !(await isStarting().catch(() => !isOver)), "the agent to start");
  }

  append(lines: string): void {
    appendFileSync(join(this.folder, "logs", "a.log"), lines);
  }

  /** One request; `host` and other headers as given, which `fetch` would not send. */
  async ask(path: string, options: Ask = {}): Promise<Answered> {
    const answer = await this.answerOf(path, options);
    return { status: answer.statusCode!, headers: answer.headers, body: await text(answer) };
  }

  async json<Body>(path: string, options: Ask = {}): Promise<Body> {
    return JSON.parse((await this.ask(path, options)).body) as Body;
  }

  /** An answer that goes on. */
  async answerOf(path: string, { method = "GET", headers = {}, body }: Ask = {}): Promise<IncomingMessage> {
    const address = this.agent.apiAddress!;
    const target = address.startsWith("unix:")
      ? { socketPath: address.slice(5), path }
      : { host: new URL(address).hostname.replace(/[[\]]/g, ""), port: new URL(address).port, path };
    const asked = request({ ...target, method, headers, agent: false });
    asked.end(body);
    // A server that has seen enough of a body answers and hangs up.
    asked.on("error", () => {});
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ended !== undefined) {
      this.agent.stop("test");
      await Promise.race([this.ended, systemClock.sleep(2000).then(() => this.agent.force("test"))]);
      await this.ended;
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  #logger(own: LogFields = {}): Logger {
    const at = (level: string) => (fields: LogFields, message: string) =>
      void this.log.push({ level, fields: { ...own, ...fields }, message });
    return {
      error: at("error"),
      warn: at("warn"),
      info: at("info"),
      debug: at("debug"),
      child: (fields) => this.#logger({ ...own, ...fields }),
    };
  }
}

interface Config {
  readonly [section: string]: unknown;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: { readonly [name: string]: string };
  readonly body?: string;
}

export interface Answered {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Waits for a condition; fails after a minute with what it waited for. */
export async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; Date.now() < end; await systemClock.sleep(10)) if (await isSo()) return;
  throw new Error(`waited in vain for ${what}`);
}
