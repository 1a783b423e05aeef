import { z } from "zod";
import { NatsConnector } from "../nats/connection.ts";
import { disconnect } from "../nats/disconnect.ts";
import { natsFields, natsMistakes, natsName, natsSubject } from "../nats/options.ts";
import { defineSource, timeoutMs } from "../stage/index.ts";
import { JetStreamSource } from "./jetstream/jetstream-source.ts";
import { SourceConsumer } from "./jetstream/source-consumer.ts";

const options = z.strictObject({
  ...natsFields,
  stream: natsName("The stream to read."),
  consumer: natsName("Name of the durable pull consumer to read through; made if it is not there."),
  filter_subject: natsSubject("Read messages of these subjects only; for a consumer that is made.", {
    wildcards: true,
  }).optional(),
  read_from: z
    .enum(["beginning", "end"])
    .default("beginning")
    .describe("Where to start in a stream that was never read: at its first message, or behind its last."),
  ack_wait_ms: z
    .int()
    .min(1000)
    .default(30000)
    .describe("A message that is not acknowledged for so long, nor said to be worked on, is delivered again; ms."),
  max_ack_pending: z
    .int()
    .positive()
    .default(16384)
    .describe("Messages that the consumer hands out, to all agents together, before some are acknowledged."),
  max_deliver: z
    .int()
    .nonnegative()
    .default(20)
    .describe("A message delivered so often without an acknowledgement goes to the dead letters; 0: no limit."),
  batch: z.int().positive().max(10000).default(256).describe("Messages asked for at once."),
  max_batch_bytes: z.int().min(1024).default(262144).describe("Bytes asked for at once."),
  timeout_ms: timeoutMs(),
});

/**
 * Reads a JetStream stream through a durable pull consumer, and acknowledges each message when it has ended at every sink
 * and that is committed. A body that is a JSON object becomes the event's fields, any other its `message`; beside them
 * stand `subject` and `sequence`.
 *
 * Positions are kept by sequence number, so that a message which is delivered again is not sent again into a sink that
 * keeps positions: exactly once for one agent. Several agents that share a consumer share its messages; one that takes
 * over what another had in flight may repeat it.
 */
export const jetstreamSource = defineSource({
  type: "jetstream",
  summary: "Reads a NATS JetStream stream through a durable pull consumer.",
  replay: "replayable",
  options,
  check: natsMistakes,
  async open(checked, context) {
    return new JetStreamSource(checked, await NatsConnector.load(checked, context), context);
  },
  async probe(checked, context) {
    const connector = await NatsConnector.load(checked, context);
    const connection = await connector.connect();
    try {
      const consumer = new SourceConsumer(connector, await connector.manager(connection), checked, context.name);
      await consumer.stream();
    } finally {
      await disconnect(connection);
    }
  },
});
