import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { type Command, Option } from "commander";
import { ConfigError, type Mistake } from "../errors.ts";
import type { LogLevel } from "../telemetry/pino-log.ts";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions, withConfigOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";
import { type LogOptions, withLogOptions } from "./run.ts";
import { runAgent } from "./run-agent.ts";

const EXAMPLES = `
Examples:
  tailrace tail /var/log/syslog
  tailrace tail '/var/log/**/*.log' --to https://logs.example.com/ingest
  tailrace tail app.log --to copy.log --from end
  tailrace tail app.log --once | grep error`;

interface TailOptions extends ConfigOptions, LogOptions {
  readonly to: string;
  readonly from: "beginning" | "end";
  readonly once?: boolean;
}

/** `tailrace tail GLOB...`: tail -F with a memory; no configuration needed. */
export function register(program: Command, io: CliIo): void {
  const command = program
    .command("tail")
    .description("follow files without a configuration: tail -F with a memory")
    .argument("<glob...>", "files to follow; quote patterns so that new files are found too");
  withLogOptions(
    withConfigOptions(command)
      .option("--to <target>", "where to: - (standard output), a path, tcp://host:port, http(s)://...", "-")
      .addOption(
        new Option("--from <place>", "where to start in files not seen before")
          .choices(["beginning", "end"])
          .default("beginning"),
      )
      .option("--once", "read what is there now to its end, deliver it, exit"),
    "info, or warn where --to is -",
  )
    .addHelpText("after", EXAMPLES)
    .action(
      action(io, async (globs, options: TailOptions) => {
        const include = globs.filter((glob) => glob !== undefined);
        if (include.includes("")) throw wrongUsage("GLOB", "is empty; give the path of a file, or a pattern");
        const absolute = include.map((glob) => (isAbsolute(glob) ? glob : resolve(io.cwd, glob)));
        const stateDir = options.stateDir ?? defaultStateDir(io, absolute, options.to);
        const made = {
          by: "tail",
          config: {
            api: { enabled: false },
            sources: { tail: { type: "file", include: absolute, read_from: options.from } },
            sinks: { to: { inputs: ["tail"], ...sinkFor(options.to) } },
          },
        };
        const { plan } = await loadPlanFromOptions({ ...options, stateDir }, io, { made }).catch(inCommandLineTerms);
        return runAgent(
          plan,
          { once: options.once ?? false, logLevel: logLevelOf(command, options), logFormat: options.logFormat },
          io,
        );
      }),
    );
}

/** Somebody who reads along on a terminal wants the lines, not our news. */
function logLevelOf(command: Command, options: TailOptions): LogLevel {
  return options.to === "-" && command.getOptionValueSource("logLevel") === "default" ? "warn" : options.logLevel;
}

/** The same globs and target go on where they were. */
function defaultStateDir(io: CliIo, globs: readonly string[], target: string): string {
  const base = io.env["XDG_STATE_HOME"] || join(io.env["HOME"] || homedir(), ".local", "state");
  const place = target === "-" || target.includes("://") ? target : resolve(io.cwd, target);
  const hash = createHash("sha256")
    .update(JSON.stringify([...globs, "->", place]))
    .digest("hex")
    .slice(0, 16);
  return join(base, "tailrace", hash);
}

function sinkFor(target: string): { readonly [option: string]: unknown } {
  if (target === "-") return { type: "console", encoding: "raw" };
  if (target !== "" && !target.includes("://")) return { type: "file", path: target, encoding: "raw" };
  if (/^https?:\/\//.test(target)) return { type: "http", url: target };
  const tcp = /^tcp:\/\/(.+:\d+)\/?$/.exec(target);
  if (tcp !== null) return { type: "tcp", address: tcp[1] };
  throw wrongUsage(
    "--to",
    `"${target}" is no target; give -, a path, tcp://host:port, or an http:// or https:// address`,
  );
}

const wrongUsage = (key: string, message: string): ConfigError =>
  new ConfigError([{ file: "command line", key, message }], "TR_USAGE");

/** What is wrong with the target was not written as an option of a sink. */
function inCommandLineTerms(thrown: unknown): never {
  if (!(thrown instanceof ConfigError)) throw thrown;
  const isTarget = ({ file, key }: Mistake) => file === "tail" && /^sinks\.to\.(path|url|address)$/.test(key ?? "");
  throw new ConfigError(
    thrown.mistakes.map((mistake) => (isTarget(mistake) ? { ...mistake, file: "command line", key: "--to" } : mistake)),
  );
}
