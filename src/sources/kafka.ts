import { z } from "zod";
import { StageError } from "../errors.ts";
import { KafkaConnector } from "../kafka/client.ts";
import { brokerErrors } from "../kafka/failure.ts";
import { kafkaFields, kafkaMistakes, topicName } from "../kafka/options.ts";
import { defineSource, timeoutMs } from "../stage/index.ts";
import { KafkaSource } from "./kafka/kafka-source.ts";

const options = z.strictObject({
  ...kafkaFields,
  topics: z.array(topicName("A topic.")).min(1).describe("The topics to read."),
  group_id: z
    .string()
    .min(1)
    .regex(/^\S+$/, "must not hold white space")
    .describe("The consumer group: its members share the partitions."),
  read_from: z
    .enum(["beginning", "end"])
    .default("beginning")
    .describe(
      "Where to start in a partition that neither we nor the group have read: at its first record, or its end.",
    ),
  max_fetch_bytes: z
    .int()
    .min(1024)
    .default(1048576)
    .describe("Bytes of records asked for at once, of each broker; a batch of records comes whole."),
  session_timeout_ms: z
    .int()
    .min(1000)
    .default(30000)
    .describe("After so long without a word from us the group gives our partitions to others; ms."),
  rebalance_timeout_ms: z
    .int()
    .min(1000)
    .default(60000)
    .describe("The group waits so long for its members when it is formed anew; ms."),
  timeout_ms: timeoutMs(),
});

/**
 * Reads Kafka topics as a member of a consumer group, committed records only. A body that is a JSON object becomes the
 * event's fields, any other its `message`; beside them stand `topic`, `partition` and `record_offset`.
 *
 * Positions are kept by partition and sink: exactly once into sinks that keep positions. The group's offsets follow behind
 * our own commits. When partitions move, what is in flight is finished and told to the group before they go.
 */
export const kafkaSource = defineSource({
  type: "kafka",
  summary: "Reads Kafka topics as a member of a consumer group.",
  replay: "replayable",
  options,
  check: kafkaMistakes,
  async open(checked, context) {
    return new KafkaSource(checked, await KafkaConnector.load(checked, context), context);
  },
  async probe(checked, context) {
    const connector = await KafkaConnector.load(checked, context);
    const { base, client } = connector;
    const admin = new client.Admin({ ...base, retries: 0 });
    try {
      await admin.metadata({ topics: [...checked.topics], forceUpdate: true });
    } catch (thrown) {
      const reason = brokerErrors(thrown).has("UNKNOWN_TOPIC_OR_PARTITION")
        ? `not all of these topics are there: ${checked.topics.join(", ")}`
        : connector.describe(thrown);
      throw new StageError("TR_STAGE_OPEN", context.name, reason);
    } finally {
      await admin.close();
    }
  },
});
