import { createInterface } from "node:readline";
import type { Command } from "commander";
import { checkpointRows } from "../agent/checkpoint-rows.ts";
import type { CheckpointRow } from "../agent/control.ts";
import type { Change } from "../checkpoint/index.ts";
import { ConfigError } from "../errors.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { action } from "./action.ts";
import { type ConfigOptions, withConfigOptions } from "./config-options.ts";
import type { CliIo } from "./io.ts";
import { changeStore, readStore, stateFromOptions } from "./state.ts";
import { table } from "./table.ts";

type Options = ConfigOptions & { readonly json?: boolean };

/** `tailrace checkpoints`: where every file stands at every sink. */
export function register(program: Command, io: CliIo): void {
  const checkpoints = program
    .command("checkpoints")
    .description("where every file stands at every sink, in bytes")
    .addHelpText(
      "after",
      `
Examples:
  tailrace checkpoints list
  tailrace checkpoints show /var/log/syslog --json
  tailrace checkpoints reset /var/log/syslog      it is read as a new file again
  tailrace checkpoints forget old_sink            for a sink that is gone for good
  tailrace checkpoints export > positions.ndjson
  tailrace checkpoints import < positions.ndjson`,
    );
  withConfigOptions(checkpoints.command("list").description("list all positions"))
    .option("--json", "print JSON")
    .action(action(io, async (_, options: Options) => list(await rowsOf(options, io), options, io)));
  withConfigOptions(checkpoints.command("show").description("the positions of one file").argument("<path>"))
    .option("--json", "print JSON")
    .action(
      action(io, async ([path], options: Options) => {
        const rows = (await rowsOf(options, io)).filter((row) => row.path === absolute(path!, io));
        if (rows.length > 0) return list(rows, options, io);
        io.stderr.write(`no checkpoint knows ${absolute(path!, io)}\n`);
        return 1;
      }),
    );
  withConfigOptions(checkpoints.command("reset").description("forget where a file stands").argument("<path>")).action(
    action(io, async ([path], options: Options) => {
      const files = await reset(absolute(path!, io), options, io);
      io.stderr.write(
        files === 0
          ? `no checkpoint knows ${absolute(path!, io)}\n`
          : `${absolute(path!, io)} is read as a new file again\n`,
      );
      return files === 0 ? 1 : 0;
    }),
  );
  withConfigOptions(
    checkpoints.command("forget").description("forget a sink and where it stands").argument("<sink>"),
  ).action(action(io, async ([sink], options: Options) => forget(sink!, options, io)));
  withConfigOptions(checkpoints.command("export").description("print the whole state as NDJSON")).action(
    action(io, async (_, options: Options) => {
      const { stateDir } = await stateFromOptions(options, io);
      const { exportRows } = await import("../checkpoint/index.ts");
      for (const line of exportRows(await readStore(stateDir))) io.stdout.write(`${line}\n`);
      return 0;
    }),
  );
  withConfigOptions(
    checkpoints.command("import").description("read an export from standard input into an empty state"),
  ).action(action(io, async (_, options: Options) => importRowsFrom(process.stdin, options, io)));
}

function absolute(path: string, io: CliIo): string {
  return path.startsWith("/") ? path : `${io.cwd}/${path.replace(/^\.\//, "")}`;
}

async function rowsOf(options: Options, io: CliIo): Promise<CheckpointRow[]> {
  const { stateDir, agent } = await stateFromOptions(options, io);
  if (agent !== undefined) return (await agent.get("/checkpoints")) as CheckpointRow[];
  const { Checkpoint } = await import("../checkpoint/index.ts");
  return checkpointRows(new Checkpoint(await readStore(stateDir)));
}

function list(rows: readonly CheckpointRow[], options: Options, io: CliIo): number {
  if (options.json) io.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else if (rows.length === 0) io.stderr.write("no checkpoints yet\n");
  else {
    io.stdout.write(
      table(
        ["path", "source", "sink", "position", "size", "state"],
        rows.map((row) => [
          row.path,
          row.source,
          row.sink || "-",
          row.position,
          row.size,
          row.isFinished ? "finished" : "live",
        ]),
      ),
    );
  }
  return 0;
}

async function reset(path: string, options: Options, io: CliIo): Promise<number> {
  const { stateDir, agent } = await stateFromOptions(options, io);
  if (agent !== undefined)
    return ((await agent.post("/commands", { command: "reset_position", path })) as { files: number }).files;
  return changeStore(stateDir, async (store) => {
    const { files, positions } = await store.load();
    const name = pathFromText(path);
    const found = files.filter((row) => row.value.names.at(-1) === name);
    const changes: Change[] = found.flatMap(({ source, file }) => [
      { table: "file", source, file, value: undefined },
      ...positions
        .filter((row) => row.source === source && row.file === file)
        .map(({ sink }) => ({ table: "position" as const, sink, source, file, value: undefined })),
    ]);
    if (changes.length > 0) await store.commit(changes);
    return found.length;
  });
}

async function forget(sink: string, options: Options, io: CliIo): Promise<number> {
  const { stateDir, agent } = await stateFromOptions(options, io);
  if (agent !== undefined)
    throw new ConfigError([{ message: `an agent runs on ${stateDir}; stop it before forgetting a sink` }], "TR_USAGE");
  const [{ Checkpoint }, { forgetSink }] = await Promise.all([
    import("../checkpoint/index.ts"),
    import("../pipeline/known-sinks.ts"),
  ]);
  const isKnown = await changeStore(stateDir, async (store) => {
    const changes = forgetSink(await Checkpoint.load(store), sink);
    if (changes.length > 0) await store.commit(changes);
    return changes.length > 0;
  });
  io.stderr.write(isKnown ? `${sink} is forgotten: it is a new sink now\n` : `no checkpoint knows a sink ${sink}\n`);
  return isKnown ? 0 : 1;
}

async function importRowsFrom(input: NodeJS.ReadableStream, options: Options, io: CliIo): Promise<number> {
  const { stateDir, agent } = await stateFromOptions(options, io);
  if (agent !== undefined)
    throw new ConfigError([{ message: `an agent runs on ${stateDir}; stop it before an import` }], "TR_USAGE");
  const { importRows, prepareStateDirectory } = await import("../checkpoint/index.ts");
  const changes = await importRows(createInterface({ input }), { name: "standard input" });
  // Only now: a bad export makes nothing.
  await prepareStateDirectory(stateDir);
  await changeStore(stateDir, async (store) => {
    const { positions, files } = await store.load();
    if (positions.length + files.length > 0) {
      throw new ConfigError(
        [{ message: `${stateDir} holds checkpoints already; import into an empty state directory` }],
        "TR_USAGE",
      );
    }
    await store.commit(changes);
  });
  io.stderr.write(`${changes.length} rows imported into ${stateDir}\n`);
  return 0;
}
