import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { register as registerAudit } from "./audit.ts";
import { register as registerCheckpoints } from "./checkpoints.ts";
import { register as registerCompletion } from "./completion.ts";
import { register as registerDemo } from "./demo.ts";
import { register as registerDlq } from "./dlq.ts";
import { register as registerExplain } from "./explain.ts";
import { register as registerGraph } from "./graph.ts";
import { type CliIo, hasColours, processIo } from "./io.ts";
import { reportError } from "./report-error.ts";
import { register as registerRun } from "./run.ts";
import { register as registerSchema } from "./schema.ts";
import { register as registerSlots } from "./slots.ts";
import { register as registerTail } from "./tail.ts";
import { register as registerTap } from "./tap.ts";
import { register as registerTorture } from "./torture.ts";
import { register as registerValidate } from "./validate.ts";
import { register as registerWhy } from "./why.ts";

/** Every command that is built, in the order of `--help`. Each loads what is heavy when it runs, not before. */
const REGISTER: readonly ((program: Command, io: CliIo) => void)[] = [
  registerRun,
  registerTail,
  registerValidate,
  registerExplain,
  registerGraph,
  registerCheckpoints,
  registerWhy,
  registerAudit,
  registerTap,
  registerDlq,
  registerSlots,
  registerSchema,
  registerDemo,
  registerTorture,
  registerCompletion,
];

const EXAMPLES = `
Examples:
  tailrace tail '/var/log/**/*.log'    follow files, no configuration needed
  tailrace run -c tailrace.toml        collect as a configuration says
  tailrace why /var/log/syslog         why a file is, or is not, being read
  tailrace demo                        see it at work`;

/** The command line as a tree; nothing runs yet. */
export function buildProgram(io: CliIo): Command {
  const program = new Command("tailrace")
    .description("A crash-safe, backpressured data collection agent: it is the `tail -F` that remembers.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // One clear line: commander puts its "(Did you mean ...?)" on a second one.
      outputError: (text, write) => write(`${text.trim().replace(/\s*\n\s*/g, " ")}\n`),
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getErrHelpWidth: () => io.stderr.columns ?? 100,
      getOutHasColors: () => hasColours(io.stdout, io.env),
      getErrHasColors: () => hasColours(io.stderr, io.env),
    });
  for (const register of REGISTER) register(program, io);
  return program;
}

/**
 * Runs one command line (without `node` and the script) and resolves with its exit code: 0 finished, 1 a failure, 2
 * wrong usage or configuration. It never rejects and never ends the process.
 */
export async function main(args: readonly string[], io: CliIo = processIo()): Promise<number> {
  try {
    const program = buildProgram(io);
    await program.parseAsync(upToUnknownCommand(program, args), { from: "user" });
    return io.exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError) return HELP_CODES.has(thrown.code) ? 0 : 2;
    return reportError(thrown, io);
  }
}

/** Without this, `--help` behind a command that does not exist would be answered with that of the one above it, exit 0. */
function upToUnknownCommand(program: Command, args: readonly string[]): string[] {
  let command = program;
  for (const [at, arg] of args.entries()) {
    if (arg.startsWith("-") || arg === "help" || command.commands.length === 0) break;
    const next = command.commands.find((child) => child.name() === arg);
    if (next === undefined) return args.slice(0, at + 1);
    command = next;
  }
  return [...args];
}

/** What a person asked for; without a command, help is an answer to wrong usage. */
const HELP_CODES: ReadonlySet<string> = new Set(["commander.helpDisplayed", "commander.version"]);

function version(): string {
  // From src/cli as from dist/cli, the package is two folders up.
  const load = createRequire(import.meta.url);
  return (load("../../package.json") as { version: string }).version;
}
