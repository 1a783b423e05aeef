import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { ControlClient } from "../agent/control-client.ts";
import type { DeadLetter, DeadLetterReader, DeadLetterStore } from "../dead-letters/index.ts";
import { action } from "./action.ts";
import { type ConfigOptions, withConfigOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";
import { Output } from "./output.ts";
import { type CommandState, stateFromOptions } from "./state.ts";
import { columns, table } from "./table.ts";

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
  const output = new Output(io.stdout);
  const count = await reading(options, io, (reader) => {
    const letters = reader.list(filterOf(options));
    return options.json ? printJson(letters, output) : printTable(letters, output);
  });
  if (count === 0 && !options.json) io.stderr.write("no dead letters\n");
  return 0;
}

/** As `JSON.stringify(letters, null, 2)` would have it, letter by letter: all of them may be more than fits in memory. */
async function printJson(letters: AsyncIterable<DeadLetter>, output: Output): Promise<number> {
  let count = 0;
  for await (const letter of letters) {
    const json = JSON.stringify(shown(letter), null, 2).replaceAll("\n", "\n  ");
    await output.write(`${count === 0 ? "[" : ","}\n  ${json}`);
    count += 1;
    if (!output.hasReader) break;
  }
  await output.write(count === 0 ? "[]\n" : "\n]\n");
  return count;
}

const HEADING = ["id", "component", "attempts", "time", "reason"];

/** The columns are as wide as the first rows want them: the rest is printed as it is read. */
const MEASURED_ROWS = 200;

async function printTable(letters: AsyncIterable<DeadLetter>, output: Output): Promise<number> {
  let count = 0;
  const first: (string | number)[][] = [];
  let line: ((row: readonly (string | number)[]) => string) | undefined;
  for await (const { id, component, attempts, time, reason } of letters) {
    const row = [id, component, attempts, time, reason];
    count += 1;
    if (line !== undefined) await output.write(line(row));
    else if (first.push(row) === MEASURED_ROWS) {
      line = columns(HEADING, first);
      await output.write(table(HEADING, first));
    }
    if (!output.hasReader) break;
  }
  if (line === undefined && count > 0) await output.write(table(HEADING, first));
  return count;
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
  const { agent } = state;
  if (agent === undefined && !existsSync(lettersIn(state))) {
    io.stderr.write(`there are no dead letters in ${state.stateDir}\n`);
    return ids.length === 0 ? 0 : 1;
  }
  let chosen = 0;
  let changed = 0;
  const changePages = async (reader: DeadLetterReader, changePage: (page: readonly string[]) => Promise<number>) => {
    for await (const page of pagesOf(ids.length > 0 ? [...new Set(ids)] : idsIn(reader, options))) {
      changed += await changePage(page);
      chosen += page.length;
    }
  };
  const tell = () => {
    const done = what === "purge" ? "deleted" : `sent again${agent === undefined ? " when the agent next runs" : ""}`;
    io.stderr.write(`${changed} of ${chosen} dead letters ${done}\n`);
  };
  try {
    if (agent !== undefined) await readingFrom(state, (reader) => changePages(reader, askingAgent(agent, what)));
    else
      await writing(state, (store) =>
        changePages(store, (page) => (what === "replay" ? store.markForReplay(page) : store.remove(page))),
      );
  } catch (error) {
    if (chosen > 0) tell();
    throw error;
  }
  tell();
  // Of all there are, some may have gone meanwhile; somebody who names one wants to know.
  return ids.length === 0 || changed === chosen ? 0 : 1;
}

/** So many at once: a request has a bound, and an agent must answer it in time. */
const IDS_AT_ONCE = 1000;

async function* pagesOf(ids: Iterable<string> | AsyncIterable<string>): AsyncGenerator<readonly string[]> {
  let page: string[] = [];
  for await (const id of ids) {
    if (page.push(id) < IDS_AT_ONCE) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}

async function* idsIn(reader: DeadLetterReader, options: Options): AsyncGenerator<string> {
  for await (const { id } of reader.list(filterOf(options))) yield id;
}

const askingAgent = (agent: ControlClient, what: "replay" | "purge") => async (ids: readonly string[]) => {
  const answer = (await agent.post(`/dlq/${what}`, { ids })) as { replayed?: number; purged?: number };
  return answer.replayed ?? answer.purged ?? 0;
};

const filterOf = ({ component }: Options) => (component === undefined ? {} : { component });

const lettersIn = ({ stateDir }: CommandState) => join(stateDir, "dead-letters");

async function reading<Result>(
  options: Options,
  io: CliIo,
  read: (reader: DeadLetterReader) => Promise<Result>,
): Promise<Result> {
  return readingFrom(await stateFromOptions(options, io), read);
}

/** Reads beside a running agent too: the store allows it. */
async function readingFrom<Result>(
  state: CommandState,
  read: (reader: DeadLetterReader) => Promise<Result>,
): Promise<Result> {
  const { openDeadLettersForReading } = await import("../dead-letters/index.ts");
  const reader = await openDeadLettersForReading(lettersIn(state));
  try {
    return await read(reader);
  } finally {
    await reader.close();
  }
}

async function writing<Result>(
  state: CommandState,
  write: (store: DeadLetterStore) => Promise<Result>,
): Promise<Result> {
  const [{ openDeadLetters }, { lockDirectory }, { systemRandom }] = await Promise.all([
    import("../dead-letters/index.ts"),
    import("../runtime/directory-lock.ts"),
    import("../runtime/random.ts"),
  ]);
  using _lock = await lockDirectory(state.stateDir);
  const store = await openDeadLetters({
    folder: lettersIn(state),
    maxBytes: state.plan.deadLetters.maxBytes,
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
