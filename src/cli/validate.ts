import type { Command } from "commander";
import type { Guarantee, LoadedPlan, PathGuarantee } from "../config/index.ts";
import { ConfigError } from "../errors.ts";
import { maskUrls } from "../telemetry/redact.ts";
import { action } from "./action.ts";
import { type ConfigOptions, loadPlanFromOptions, withConfigOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";
import type { Reached } from "./live.ts";

const EXAMPLES = `
Prints for each path from a source to a sink what is guaranteed, and why. Creates nothing.

Examples:
  tailrace validate
  tailrace validate -c config -e production -c mine.toml
  tailrace validate --live --json

Exit code: 0 all right, 2 a mistake in the configuration, 1 with --live something unreachable.`;

type ValidateOptions = ConfigOptions & { live?: boolean; json?: boolean };

/** `tailrace validate`: parse and check; with `--live` try every source and sink. */
export function register(program: Command, io: CliIo): void {
  const command = program.command("validate").description("parse and check the configuration");
  withConfigOptions(command)
    .option("--live", "also try to reach every source and sink")
    .option("--json", "print JSON")
    .addHelpText("after", EXAMPLES)
    .action(action(io, (_, options: ValidateOptions) => validate(options, io)));
}

async function validate(options: ValidateOptions, io: CliIo): Promise<number> {
  const { guarantees } = await import("../config/index.ts");
  const { plan } = await loadOrTell(options, io);
  const paths = guarantees(plan);
  const reached = options.live ? await (await import("./live.ts")).probeAll(plan) : undefined;
  if (options.json) {
    const live = reached === undefined ? {} : { live: reached.map((one) => ({ ...one, reason: one.reason ?? null })) };
    io.stdout.write(`${JSON.stringify({ valid: true, paths, ...live }, null, 2)}\n`);
  } else printPaths(paths, io);
  if (paths.length === 0)
    io.stderr.write("the configuration is valid, but has no sources and sinks: nothing would run\n");
  const unreachable = (reached ?? []).filter(({ reachable }) => !reachable);
  if (!options.json) for (const one of reached ?? []) printReached(one, io);
  else for (const one of unreachable) printReached(one, io);
  return unreachable.length > 0 ? 1 : 0;
}

async function loadOrTell(options: ValidateOptions, io: CliIo): Promise<LoadedPlan> {
  try {
    return await loadPlanFromOptions(options, io, { needs: "file" });
  } catch (thrown) {
    // For machines too; people get the same mistakes on standard error from `main`.
    if (options.json && thrown instanceof ConfigError)
      io.stdout.write(`${JSON.stringify({ valid: false, mistakes: thrown.mistakes }, null, 2)}\n`);
    throw thrown;
  }
}

const IN_WORDS: { readonly [kind in Guarantee]: string } = {
  exactly_once: "exactly once",
  at_least_once: "at least once",
  at_most_once: "at most once",
  best_effort: "best effort",
};

function printPaths(paths: readonly PathGuarantee[], io: CliIo): void {
  const paint = coloursFor(io.stdout, io.env);
  for (const { path, guarantee, reasons } of paths) {
    const words = guarantee === "exactly_once" ? paint.green(IN_WORDS[guarantee]) : paint.yellow(IN_WORDS[guarantee]);
    io.stdout.write(`${paint.bold(path.join(" -> "))}: ${words}\n`);
    for (const reason of reasons) io.stdout.write(`  ${reason}\n`);
  }
}

/** What was tried, and failed: a diagnostic. */
function printReached({ component, reachable, reason }: Reached, io: CliIo): void {
  const paint = coloursFor(io.stderr, io.env);
  const verdict = reachable ? paint.green("reachable") : paint.red("unreachable");
  io.stderr.write(`${component}: ${verdict}${reason === undefined ? "" : `: ${maskUrls(reason)}`}\n`);
}
