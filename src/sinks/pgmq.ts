import { z } from "zod";
import { placeOf, postgresUrl } from "../postgres/address.ts";
import { CONCURRENCY, MAX_TRANSACTION_BYTES, TransactionalSink } from "../postgres/transactional-sink.ts";
import { defineSink, retryOptions, timeoutMs } from "../stage/index.ts";
import { QueueTarget } from "./pgmq/queue-target.ts";

const options = z.strictObject({
  url: postgresUrl(),
  queue: z.string().min(1).max(47).describe("The queue to send to."),
  create: z
    .boolean()
    .default(false)
    .describe(
      "Make the queue where it is missing, and PGMQ itself: the extension where the server has it, else its plain SQL.",
    ),
  timeout_ms: timeoutMs().describe("Longest wait for a connection, and for each answer of the server, milliseconds."),
  retry: retryOptions(),
});

/**
 * Sends records to a queue of PGMQ, each event a message, and says in the same transaction what it has sent: exactly once
 * from sources that can be read again, as with the `postgres` sink. A queue keeps no record ids, so what a queue's source
 * brings a second time is sent a second time.
 */
export const pgmqSink = defineSink({
  type: "pgmq",
  summary: "Sends records to a queue of PGMQ, exactly once.",
  options,
  guarantee: "exactly_once",
  concurrency: CONCURRENCY,
  gatherBytes: MAX_TRANSACTION_BYTES,
  target: ({ url, queue }) => `${placeOf(url)} ${queue}`,
  open: ({ url, timeout_ms, queue, create }, context) =>
    TransactionalSink.open({ url, timeoutMs: timeout_ms }, context, new QueueTarget({ queue, create }, context.name)),
  probe: ({ url, timeout_ms, queue, create }, context) =>
    TransactionalSink.probe({ url, timeoutMs: timeout_ms }, context, new QueueTarget({ queue, create }, context.name)),
});
