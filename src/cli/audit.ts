import type { Command } from "commander";
import { checkpointRows } from "../agent/checkpoint-rows.ts";
import type { CheckpointRow } from "../agent/control.ts";
import { LEDGER_NOTE, type LedgerEdge, storedLedger, unbalancedEdges } from "../agent/ledger.ts";
import { action } from "./action.ts";
import { type ConfigOptions, withConfigOptions } from "./config-options.ts";
import { type CliIo, coloursFor } from "./io.ts";
import { readStore, stateFromOptions } from "./state.ts";
import { table } from "./table.ts";

const EXAMPLES = `
On every edge of the pipeline sent = received + dropped + in channel, in records, at any moment. On a running agent this
is the ledger of now; else that of the last run. What a kill left in channel was not delivered, and is read again.

Examples:
  tailrace audit
  tailrace audit --json

Exit code: 0 it adds up, 1 it does not.`;

type Options = ConfigOptions & { readonly json?: boolean };

interface Audit {
  readonly edges: readonly LedgerEdge[] | undefined;
  readonly files: readonly CheckpointRow[];
  readonly isRunning: boolean;
}

/** `tailrace audit`: the ledger, edge by edge, file by file. */
export function register(program: Command, io: CliIo): void {
  withConfigOptions(program.command("audit").description("the ledger: every record accounted for, edge by edge"))
    .option("--json", "print JSON")
    .addHelpText("after", EXAMPLES)
    .action(action(io, async (_, options: Options) => print(await auditOf(options, io), options, io)));
}

async function auditOf(options: Options, io: CliIo): Promise<Audit> {
  const { stateDir, agent } = await stateFromOptions(options, io);
  if (agent !== undefined) {
    const { edges } = (await agent.get("/audit")) as { edges: LedgerEdge[] };
    return { edges, files: (await agent.get("/checkpoints")) as CheckpointRow[], isRunning: true };
  }
  const { Checkpoint } = await import("../checkpoint/index.ts");
  const checkpoint = new Checkpoint(await readStore(stateDir));
  return { edges: storedLedger(checkpoint.note(LEDGER_NOTE)), files: checkpointRows(checkpoint), isRunning: false };
}

function print({ edges = [], files, isRunning }: Audit, options: Options, io: CliIo): number {
  const unbalanced = unbalancedEdges(edges);
  if (options.json) io.stdout.write(`${JSON.stringify({ edges }, null, 2)}\n`);
  else if (edges.length === 0) io.stderr.write("no run has left a ledger yet\n");
  else {
    io.stdout.write(
      table(
        ["component", "channel", "sent", "received", "dropped", "in channel", ""],
        edges.map((edge) => [
          edge.component,
          edge.channel,
          edge.sent,
          edge.received,
          edge.dropped,
          edge.in_channel,
          unbalanced.includes(edge) ? "does not add up" : "ok",
        ]),
      ),
    );
    if (files.length > 0) io.stdout.write(`\n${fileTable(files)}`);
  }
  const paint = coloursFor(io.stderr, io.env);
  for (const edge of unbalanced) {
    const missing = edge.sent - edge.received - edge.dropped - edge.in_channel;
    io.stderr.write(
      `${paint.red("error:")} ${edge.component}/${edge.channel}: ${Math.abs(missing)} records ${missing > 0 ? "are missing" : "too many"}\n`,
    );
  }
  if (!options.json && edges.length > 0 && unbalanced.length === 0)
    io.stderr.write(`it adds up (${isRunning ? "the agent is running" : "the last run"})\n`);
  return unbalanced.length > 0 ? 1 : 0;
}

function fileTable(files: readonly CheckpointRow[]): string {
  return table(
    ["file", "source", "sink", "committed", "size", "left", "state"],
    files.map((row) => [
      row.path,
      row.source,
      row.sink || "-",
      row.position,
      row.size,
      // A finished file's size is that of its last generation; nothing of it is left to read.
      Math.max(0, row.size - row.position - row.ahead),
      row.isFinished ? "finished" : "live",
    ]),
  );
}
