import { join } from "node:path";
import type { Command } from "commander";
import type { DeadLetter, DeadLetterReader, DeadLetterStore } from "../dead-letters/index.ts";
import { action } from "./action.ts";
import { type ConfigOptions, withConfigOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";
import { type CommandState, stateFromOptions } from "./state.ts";
import { table } from "./table.ts";

type Options = ConfigOptions & { readonly json?: boolean; readonly component?: string; readonly all?: boolean };

/** `tailrace dlq`: the records that a sink or transform refused for good. */
export function register(program: Command, io: CliIo): void {
  const dlq = program
    .command("dlq")
    .description("records that a sink or a transform refused for good")
    .addHelpText(
      "after",
      `
Examples:
  tailrace dlq list
  tailrace dlq show 3f2a9c0d11aa45e7
  tailrace dlq replay --component out     send them to the component again, now or when the agent next runs
  tailrace dlq purge 3f2a9c0d11aa45e7`,
    );
  withConfigOptions(dlq.command("list").description("list dead letters"))
    .option("--component <name>", "of this component only")
    .option("--json", "print JSON")
    .action(action(io, (_, options: Options) => list(options, io)));
  withConfigOptions(dlq.command("show").description("print one dead letter as JSON").argument("<id>")).action(
    action(io, ([id], options: Options) => show(id!, options, io)),
  );
  for (const [name, description] of [
    ["replay", "send dead letters to their component again"],
    ["purge", "delete dead letters for good"],
  ] as const) {
    withConfigOptions(dlq.command(name).description(description).argument("[id...]"))
      .option("--component <name>", "all of this component")
      .option("--all", "all there are")
      .action(
        action(io, (ids, options: Options) =>
          change(
            name,
            ids.filter((id) => id !== undefined),
            options,
            io,
          ),
        ),
      );
  }
}

async function list(options: Options, io: CliIo): Promise<number> {
  const letters = await reading(options, io, (reader) => lettersOf(reader, options));
  if (options.json) io.stdout.write(`${JSON.stringify(letters.map(shown), null, 2)}\n`);
  else if (letters.length === 0) io.stderr.write("no dead letters\n");
  else {
    const rows = letters.map(({ id, component, attempts, time, reason }) => [id, component, attempts, time, reason]);
    io.stdout.write(table(["id", "component", "attempts", "time", "reason"], rows));
  }
  return 0;
}

async function show(id: string, options: Options, io: CliIo): Promise<number> {
  const letter = await reading(options, io, (reader) => reader.get(id));
  if (letter === undefined) {
    io.stderr.write(`there is no dead letter ${id}\n`);
    return 1;
  }
  io.stdout.write(`${JSON.stringify(shown(letter), null, 2)}\n`);
  return 0;
}

async function change(what: "replay" | "purge", ids: readonly string[], options: Options, io: CliIo): Promise<number> {
  if (ids.length === 0 && !options.all && options.component === undefined) {
    io.stderr.write(`error: say which: ids, --component NAME, or --all (tailrace dlq ${what} --help)\n`);
    return 2;
  }
  const state = await stateFromOptions(options, io);
  const chosen =
    ids.length > 0 ? ids : (await readingFrom(state, (reader) => lettersOf(reader, options))).map(({ id }) => id);
  const changed =
    state.agent === undefined
      ? await writing(state, (store) => (what === "replay" ? store.markForReplay(chosen) : store.remove(chosen)))
      : await askAgent(state.agent, what, chosen);
  const when = state.agent === undefined ? "sent again when the agent next runs" : "sent again";
  io.stderr.write(`${changed} of ${chosen.length} dead letters ${what === "replay" ? when : "deleted"}\n`);
  return changed === chosen.length ? 0 : 1;
}

async function askAgent(
  agent: NonNullable<CommandState["agent"]>,
  what: "replay" | "purge",
  ids: readonly string[],
): Promise<number> {
  const answer = (await agent.post(`/dlq/${what}`, { ids })) as { replayed?: number; purged?: number };
  return answer.replayed ?? answer.purged ?? 0;
}

async function lettersOf(reader: DeadLetterReader, options: Options): Promise<DeadLetter[]> {
  const letters: DeadLetter[] = [];
  for await (const letter of reader.list(options.component === undefined ? {} : { component: options.component }))
    letters.push(letter);
  return letters;
}

async function reading<Result>(
  options: Options,
  io: CliIo,
  read: (reader: DeadLetterReader) => Promise<Result>,
): Promise<Result> {
  return readingFrom(await stateFromOptions(options, io), read);
}

/** Reads beside a running agent too: the store allows it. */
async function readingFrom<Result>(
  { stateDir }: CommandState,
  read: (reader: DeadLetterReader) => Promise<Result>,
): Promise<Result> {
  const { openDeadLettersForReading } = await import("../dead-letters/index.ts");
  const reader = await openDeadLettersForReading(join(stateDir, "dead-letters"));
  try {
    return await read(reader);
  } finally {
    await reader.close();
  }
}

async function writing<Result>(
  { stateDir, plan }: CommandState,
  write: (store: DeadLetterStore) => Promise<Result>,
): Promise<Result> {
  const [{ openDeadLetters }, { lockDirectory }, { systemRandom }] = await Promise.all([
    import("../dead-letters/index.ts"),
    import("../runtime/directory-lock.ts"),
    import("../runtime/random.ts"),
  ]);
  using _lock = await lockDirectory(stateDir);
  const store = await openDeadLetters({
    folder: join(stateDir, "dead-letters"),
    maxBytes: plan.deadLetters.maxBytes,
    random: systemRandom,
  });
  try {
    return await write(store);
  } finally {
    await store.close();
  }
}

function shown({ id, component, reason, attempts, time, event }: DeadLetter) {
  return { id, component, reason, attempts, time, event };
}
