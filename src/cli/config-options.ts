import { type Command, Option } from "commander";
import type { LoadedPlan, LoadOptions, StageList } from "../config/index.ts";
import { describeMistake } from "../errors.ts";
import { type CliIo, coloursFor } from "./io.ts";

/** What `-c`, `-e`, `--set` and `--state-dir` leave in a command's options. */
export interface ConfigOptions {
  readonly config: readonly string[];
  readonly env?: string;
  readonly set: readonly string[];
  readonly stateDir?: string;
}

const collect = (value: string, before: readonly string[]): string[] => [...before, value];

/** Adds the options of every command that needs a configuration or state. */
export function withConfigOptions(command: Command): Command {
  const config = new Option("-c, --config <path>", "configuration file or tree; may be repeated, a later one wins");
  const set = new Option("--set <key=value>", "set one key, above all files; may be repeated");
  return command
    .addOption(config.argParser(collect).default([], "./tailrace.toml"))
    .option("-e, --env <name>", "environment of a tree (default: $TAILRACE_ENV, else development)")
    .addOption(set.argParser(collect).default([], "none"))
    .option("--state-dir <path>", "state directory (default: the configuration's, else ./.tailrace)");
}

/** Everything built in; imported when the first command needs it, as it brings every stage's libraries. */
async function stagesFor(io: CliIo): Promise<StageList> {
  return io.stages ?? (await import("../stages.ts")).builtInStages;
}

/**
 * Loads and checks the configuration that a command's options name; warnings go to standard error.
 * @throws ConfigError with every mistake
 */
export async function loadPlanFromOptions(
  options: ConfigOptions,
  io: CliIo,
  more: Pick<LoadOptions, "needs" | "made"> = {},
): Promise<LoadedPlan> {
  const [{ loadPlan }, stages] = await Promise.all([import("../config/index.ts"), stagesFor(io)]);
  const loaded = await loadPlan({
    stages,
    configs: options.config,
    environment: options.env,
    sets: options.set,
    stateDir: options.stateDir,
    env: io.env,
    cwd: io.cwd,
    ...more,
  });
  const paint = coloursFor(io.stderr, io.env);
  for (const warning of loaded.warnings) io.stderr.write(`${paint.yellow("warning:")} ${describeMistake(warning)}\n`);
  return loaded;
}
