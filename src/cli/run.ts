import { type Command, Option } from "commander";
import type { LogLevel } from "../telemetry/pino-log.ts";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions, withConfigOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";
import { runAgent } from "./run-agent.ts";

const EXAMPLES = `
Examples:
  tailrace run -c tailrace.toml
  tailrace run -c config -c mine.toml -e production
  tailrace run -c tailrace.toml --once

Signals: SIGTERM and SIGINT stop gracefully, a second one forces; SIGHUP reads the
configuration again and applies what is different; SIGUSR1 rotates output files.`;

export interface LogOptions {
  readonly logLevel: LogLevel;
  readonly logFormat?: "json" | "pretty";
}

/** Adds `--log-level` and `--log-format`; `defaultLevel` says the default in words where it is not always info. */
export function withLogOptions(command: Command, defaultLevel?: string): Command {
  return command
    .addOption(
      new Option("--log-level <level>", "least level that is logged")
        .choices(["debug", "info", "warn", "error"])
        .default("info", defaultLevel),
    )
    .addOption(
      new Option("--log-format <format>", "log as JSON or for people (default: for people on a terminal)").choices([
        "json",
        "pretty",
      ]),
    );
}

/** `tailrace run`: runs the agent until it is stopped. */
export function register(program: Command, io: CliIo): void {
  const command = program.command("run").description("collect: run the agent until it is stopped");
  withLogOptions(
    withConfigOptions(command).option("--once", "read what is there now to its end, deliver it, checkpoint, exit"),
  )
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, async (_, options: ConfigOptions & LogOptions & { once?: boolean }) => {
        const { plan } = await loadPlanFromOptions(options, io);
        return runAgent(
          plan,
          {
            once: options.once ?? false,
            logLevel: options.logLevel,
            logFormat: options.logFormat,
            loadPlan: async () => (await loadPlanFromOptions(options, io)).plan,
          },
          io,
        );
      }),
    );
}
