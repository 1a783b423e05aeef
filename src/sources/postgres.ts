import { z } from "zod";
import { postgresUrl } from "../postgres/address.ts";
import { loadDrivers } from "../postgres/driver.ts";
import { probePostgres } from "../postgres/reader.ts";
import { defineSource, timeoutMs } from "../stage/index.ts";
import { describeCursorTable } from "./postgres/cursor-table.ts";
import { TableSource } from "./postgres/table-source.ts";

const options = z.strictObject({
  url: postgresUrl(),
  table: z.string().min(1).describe('The table to read: "events", or "schema.events".'),
  cursor_column: z
    .string()
    .min(1)
    .describe("The column that orders it: an integer, unique, never negative, that grows with each insert."),
  batch: z.int().min(1).max(100000).default(1000).describe("Rows that are read at once."),
  poll_interval_ms: z.int().min(1).default(1000).describe("How often an idle table is looked at, milliseconds."),
  settle_ms: z
    .int()
    .min(0)
    .default(1000)
    .describe(
      "How long a missing cursor value is waited for once every transaction of its time has ended, milliseconds.",
    ),
  timeout_ms: timeoutMs().describe("Longest wait for a connection, and for each answer of the server, milliseconds."),
});

/**
 * Rows of a table in the order of a cursor column, each once: new rows as they come, the position is the cursor's value.
 * Rows that are committed out of order are not missed (`horizon.ts`); what is changed or deleted later is not seen.
 */
export const postgresSource = defineSource({
  type: "postgres",
  summary: "Reads the rows of a Postgres table in the order of an integer column.",
  replay: "replayable",
  options,
  async open(checked, context) {
    await loadDrivers(checked.url);
    return new TableSource(
      {
        url: checked.url,
        table: checked.table,
        cursorColumn: checked.cursor_column,
        batch: checked.batch,
        pollIntervalMs: checked.poll_interval_ms,
        settleMs: checked.settle_ms,
        timeoutMs: checked.timeout_ms,
      },
      context,
    );
  },
  probe: ({ url, table, cursor_column, timeout_ms }, context) =>
    probePostgres({ url, timeoutMs: timeout_ms }, context, {
      what: `table ${table}`,
      find: (session) => describeCursorTable(session, table, cursor_column, context.name),
    }),
});
