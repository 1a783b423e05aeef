import { setFlagsFromString } from "node:v8";
import type { AgentOptions } from "../agent/agent.ts";
import { setUnclosedHook } from "../channel/index.ts";
import type { Plan } from "../config/index.ts";
import { SignalMonitor } from "../runtime/signal-monitor.ts";
import type { LogLevel } from "../telemetry/pino-log.ts";
import { type CliIo, hasColours } from "./io.ts";
import { StatusLine } from "./status-line.ts";

export interface RunAgentOptions {
  readonly once: boolean;
  readonly logLevel: LogLevel;
  /** Default: pretty on a terminal, else json. */
  readonly logFormat: "json" | "pretty" | undefined;
  /** Reads the configuration again; default: it cannot be reloaded. */
  readonly loadPlan?: () => Promise<Plan>;
  /** For what does not come out of a configuration. */
  readonly agent?: Partial<AgentOptions>;
}

const STATUS_MS = 500;

/** Where records become objects: in transforms, in messages of a source, in rows of a table. */
function makesEvents({ transforms, sources, sinks }: Plan): boolean {
  return (
    transforms.length > 0 ||
    sources.some(({ definition: { type } }) => type !== "file" && type !== "stdin") ||
    sinks.some(({ definition: { type } }) => type === "postgres")
  );
}

/**
 * Runs an agent as this process: signals, uncaught errors, the log on standard error and, on a terminal, the live status
 * line belong to it. Resolves with the exit code.
 */
export async function runAgent(plan: Plan, options: RunAgentOptions, io: CliIo): Promise<number> {
  // Signals count from the first instant; one that comes before the agent is open is carried out right after.
  let early: string | undefined;
  let isReloadAsked = false;
  let agent: Awaited<ReturnType<typeof openAgent>> | undefined;
  // What goes wrong with it is logged where it is carried out.
  const give = (command: "reload" | "rotate") => void agent?.command({ command }).catch(() => {});
  const signals = new SignalMonitor(process, {
    terminate: (signal) => {
      if (agent === undefined) early = signal;
      else agent.stop(signal);
    },
    force: (signal) => (agent === undefined ? process.exit(1) : agent.force(signal)),
    reload: () => {
      // The plan was read before this signal: it may be the old one.
      if (agent === undefined) isReloadAsked = true;
      else give("reload");
    },
    rotate: () => give("rotate"),
  });
  // Events, unlike bytes that pass through, fill the young generation: small, it is collected twice as often as it needs.
  if (makesEvents(plan)) setFlagsFromString("--semi-space-growth-factor=2");
  const [{ openAgent }, { createLogger }, { isCommitComplaint }] = await Promise.all([
    import("../agent/agent.ts"),
    import("../telemetry/pino-log.ts"),
    import("../checkpoint/index.ts"),
  ]);
  const isTerminal = io.stderr.isTTY === true;
  const line = isTerminal
    ? new StatusLine(
        (text) => io.stderr.write(text),
        () => io.stderr.columns ?? 80,
      )
    : undefined;
  const log = createLogger({
    level: options.logLevel,
    format: options.logFormat ?? (isTerminal ? "pretty" : "json"),
    stream: {
      write(text: string) {
        line?.clear();
        return io.stderr.write(text);
      },
    },
    hasColours: hasColours(io.stderr, io.env),
  });
  // A channel end that nobody closed is a bug of ours; it belongs into the log, not beside it.
  setUnclosedHook(({ side, madeAt }) => log.debug({ side, made_at: madeAt }, "a channel end was never closed"));
  const print = console.error;
  console.error = (...printed: unknown[]) => {
    // What LMDB itself has written to standard error lacks the end of its line.
    if (isCommitComplaint(printed[0])) io.stderr.write("\n");
    else print.apply(console, printed);
  };
  try {
    // Nothing is started yet.
    if (early !== undefined) return 0;
    agent = await openAgent({
      plan,
      log,
      once: options.once,
      processErrors: process,
      setLogLevel: (level) => log.setLevel(level),
      ...(options.loadPlan === undefined ? {} : { loadPlan: options.loadPlan }),
      ...options.agent,
    });
    if (early !== undefined) agent.stop(early);
    else if (isReloadAsked) give("reload");
    const running = agent;
    const ticker =
      line === undefined ? undefined : setInterval(() => line.show(running.status(), performance.now()), STATUS_MS);
    try {
      return (await agent.run()).exitCode;
    } finally {
      clearInterval(ticker);
      line?.clear();
    }
  } finally {
    console.error = print;
    signals.closeForGood();
  }
}
