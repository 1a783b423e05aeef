import { type Command, InvalidArgumentError } from "commander";
import { TailraceError } from "../errors.ts";
import { untilWoken } from "../runtime/until-woken.ts";
import { action } from "./action.ts";
import { type ConfigOptions, withConfigOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { stateFromOptions } from "./state.ts";
import { formatCount } from "./status-line.ts";

const EXAMPLES = `
Shows records as NDJSON as they leave a source, a transform or a sink of the running agent. The pipeline never waits for
it: when records come faster than they can be shown, some are left out, and how many is told at the end.

Examples:
  tailrace tap app
  tailrace tap parse --limit 10
  tailrace tap app | jq -r .message`;

type Options = ConfigOptions & { readonly limit?: number };

/** `tailrace tap COMPONENT`: live records as they leave a component. */
export function register(program: Command, io: CliIo): void {
  const command = program
    .command("tap")
    .description("live records as they leave a component, without disturbing it")
    .argument("<component>", "name of a source, transform or sink");
  withConfigOptions(command)
    .option("--limit <n>", "end after this many records", wholeNumber)
    .addHelpText("after", EXAMPLES)
    .action(action(io, ([component = ""], options: Options) => tap(component, options, io)));
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) throw new InvalidArgumentError("Give a whole number, at least 1.");
  return number;
}

async function tap(component: string, { limit, ...options }: Options, io: CliIo): Promise<number> {
  const { agent, stateDir } = await stateFromOptions(options, io);
  if (agent === undefined)
    throw new TailraceError("TR_STATE_UNUSABLE", `no agent runs on ${stateDir}; a tap shows what a running one does`);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once("SIGINT", onSignal).once("SIGTERM", onSignal);
  // `tap ... | head` closes its end when it has seen enough.
  io.stdout.once?.("error", onSignal);
  let shown = 0;
  let skipped = 0;
  try {
    const query = new URLSearchParams({ component, ...(limit === undefined ? {} : { limit: String(limit) }) });
    for await (const line of agent.lines(`/tap?${query}`, stop)) {
      if (line.startsWith("#")) {
        skipped = Number(line.slice(1));
        continue;
      }
      shown += 1;
      // Whoever reads slowly makes the agent leave out more; nothing gathers here.
      if (io.stdout.write(`${line}\n`) === false) await drained(io, stop.signal);
    }
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
  if (skipped > 0) {
    const paint = coloursFor(io.stderr, io.env);
    const text = `${formatCount(skipped)} records were left out, beside ${formatCount(shown)} shown: they came too fast`;
    io.stderr.write(`${paint.yellow("note:")} ${text}\n`);
  }
  return 0;
}

async function drained({ stdout }: CliIo, signal: AbortSignal): Promise<void> {
  // Once asked to stop, what is still to be shown is shown without waiting.
  if (stdout.once !== undefined && !signal.aborted) await untilWoken(signal, (wake) => stdout.once?.("drain", wake));
}
