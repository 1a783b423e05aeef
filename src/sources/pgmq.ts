import { z } from "zod";
import { postgresUrl } from "../postgres/address.ts";
import { loadDrivers } from "../postgres/driver.ts";
import { probePostgres } from "../postgres/reader.ts";
import { defineSource, timeoutMs } from "../stage/index.ts";
import { describeQueue, QueueSource } from "./pgmq/queue-source.ts";

const options = z.strictObject({
  url: postgresUrl(),
  queue: z.string().min(1).max(47).describe("The queue to read."),
  visibility_timeout_ms: z
    .int()
    .min(1000)
    .default(30000)
    .describe(
      "How long nobody else sees a message that was read, milliseconds, in whole seconds; extended while it is worked on.",
    ),
  batch: z.int().min(1).max(10000).default(100).describe("Messages that are read at once."),
  poll_interval_ms: z
    .int()
    .min(1)
    .default(1000)
    .describe("How often an idle queue is looked at, milliseconds; a notification only makes it sooner."),
  on_ack: z.enum(["archive", "delete"]).default("archive").describe("What becomes of a message that was delivered."),
  max_reads: z
    .int()
    .min(0)
    .default(5)
    .describe("A message that was read so often without being delivered goes to the dead letters; 0: never."),
  enable_notify: z
    .boolean()
    .default(false)
    .describe("Have the queue notify of inserts: changes its trigger, throttle 250 ms."),
  timeout_ms: timeoutMs().describe("Longest wait for a connection, and for each answer of the server, milliseconds."),
});

/**
 * Messages of a queue of PGMQ. Each is archived (or deleted) once every sink has it and that is committed, one by one and
 * in whatever order they end; until then its visibility timeout is extended. Any number of agents share a queue.
 *
 * At least once: a kill between the sink's answer and the archive brings a message again, with the same record id.
 */
export const pgmqSource = defineSource({
  type: "pgmq",
  summary: "Reads messages of a PGMQ queue, shared with other agents; archives each once it is delivered.",
  replay: "acknowledged",
  options,
  async open(checked, context) {
    await loadDrivers(checked.url);
    return new QueueSource(
      {
        url: checked.url,
        queue: checked.queue,
        visibilitySeconds: Math.ceil(checked.visibility_timeout_ms / 1000),
        batch: checked.batch,
        pollIntervalMs: checked.poll_interval_ms,
        onAck: checked.on_ack,
        maxReads: checked.max_reads,
        enablesNotify: checked.enable_notify,
        timeoutMs: checked.timeout_ms,
      },
      context,
    );
  },
  probe: ({ url, queue, timeout_ms }, context) =>
    probePostgres({ url, timeoutMs: timeout_ms }, context, {
      what: `queue ${queue}`,
      find: (session) => describeQueue(session, queue, context.name),
    }),
});
