import { z } from "zod";
import { placeOf, postgresUrl } from "../postgres/address.ts";
import { CONCURRENCY, MAX_TRANSACTION_BYTES, TransactionalSink } from "../postgres/transactional-sink.ts";
import { defineSink, retryOptions, timeoutMs } from "../stage/index.ts";
import { TableTarget } from "./postgres/table-target.ts";

const options = z.strictObject({
  url: postgresUrl(),
  table: z.string().min(1).describe('The table to copy into: "logs", or "schema.logs".'),
  create: z
    .boolean()
    .default(false)
    .describe(
      "Make the table where it is missing. Without: it is there, and each of its columns gets the event's field of the same name.",
    ),
  timeout_ms: timeoutMs().describe("Longest wait for a connection, and for each answer of the server, milliseconds."),
  retry: retryOptions(),
});

/**
 * Copies records into a table, and says in the same transaction what it has copied.
 *
 * Exactly once: the positions in `tailrace.positions` are there if and only if the rows are. After a COMMIT without an
 * answer a fresh connection tells which of the two it is. A row that the table refuses (a constraint, a NUL byte in a
 * text, a time that is none) is bisected into the dead letters.
 *
 * A table that we made is also unique on the record's id: what comes again from a source that is acknowledged upstream
 * (a queue) is not stored a second time.
 */
export const postgresSink = defineSink({
  type: "postgres",
  summary: "Copies records into a table of Postgres, exactly once.",
  options,
  guarantee: "exactly_once",
  concurrency: CONCURRENCY,
  gatherBytes: MAX_TRANSACTION_BYTES,
  target: ({ url, table }) => `${placeOf(url)} ${table}`,
  isUniqueOnRecordId: ({ create }) => create,
  open: ({ url, timeout_ms, table, create }, context) =>
    TransactionalSink.open({ url, timeoutMs: timeout_ms }, context, new TableTarget({ table, create }, context)),
  probe: ({ url, timeout_ms, table, create }, context) =>
    TransactionalSink.probe({ url, timeoutMs: timeout_ms }, context, new TableTarget({ table, create }, context)),
});
