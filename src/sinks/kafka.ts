import { z } from "zod";
import { StageError } from "../errors.ts";
import { KafkaConnector } from "../kafka/client.ts";
import { brokerErrors } from "../kafka/failure.ts";
import { kafkaFields, kafkaMistakes, topicName } from "../kafka/options.ts";
import { defineSink, encoding, retryOptions, timeoutMs } from "../stage/index.ts";
import { KafkaSink } from "./kafka/kafka-sink.ts";

/** Batches in `write` at once: what comes while a transaction commits goes into the next one together. */
const CONCURRENCY = 16;

const options = z.strictObject({
  ...kafkaFields,
  topic: topicName("The topic to produce to; it must be there."),
  transactional: z
    .boolean()
    .default(false)
    .describe(
      "Exactly once: each commit holds records and positions. Consumers must read with isolation level read_committed. " +
        "false: at least once, by an idempotent producer, each record with the header `tailrace-record-id`.",
    ),
  positions_topic: topicName(
    "Compacted topic for the positions of transactional sinks, made if it is not there; sinks may share it.",
  ).default("tailrace-positions"),
  key_field: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Field of the event that is the message's key and chooses its partition. Without it: one partition a file.",
    ),
  compression: z.enum(["none", "gzip"]).default("none").describe("Compression of what is sent and stored."),
  max_request_bytes: z
    .int()
    .min(1024)
    .default(900000)
    .describe("Most bytes of records in one request; not above the topic's `max.message.bytes`."),
  encoding: encoding(),
  timeout_ms: timeoutMs().describe("Longest wait for an answer, and life of a transaction that nobody ends; ms."),
  retry: retryOptions(),
});

/**
 * Produces each record as one message. Records of one file go to one partition, in order, unless `key_field` says
 * otherwise.
 *
 * With `transactional`, exactly once: positions are in the same transaction as the records, in a compacted topic, and are
 * read back at each start and after each commit whose outcome is unknown (see `kafka/kafka-sink.ts`). Without it, at least
 * once.
 */
export const kafkaSink = defineSink({
  type: "kafka",
  summary: "Produces records to a Kafka topic, with transactions or without.",
  options,
  guarantee: ({ transactional: isTransactional }) => (isTransactional ? "exactly_once" : "at_least_once"),
  concurrency: CONCURRENCY,
  check: kafkaMistakes,
  async open(checked, context) {
    return new KafkaSink(checked, await KafkaConnector.load(checked, context), context);
  },
  async probe(checked, context) {
    const connector = await KafkaConnector.load(checked, context);
    const { base, client } = connector;
    const admin = new client.Admin({ ...base, retries: 0 });
    try {
      await admin.metadata({ topics: [checked.topic], forceUpdate: true });
    } catch (thrown) {
      const reason = brokerErrors(thrown).has("UNKNOWN_TOPIC_OR_PARTITION")
        ? `there is no topic ${checked.topic}`
        : connector.describe(thrown);
      throw new StageError("TR_STAGE_OPEN", context.name, reason);
    } finally {
      await admin.close();
    }
  },
});
