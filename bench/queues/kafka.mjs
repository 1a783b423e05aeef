/**
 * From a file into Kafka with transactions, and from Kafka into a file, exactly once, by the real agent; beside the plain
 * client on the same broker. The agent's start is taken off. `LINES=200000 node bench/queues/kafka.mjs`
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createJiti } from "jiti";
import { LINES, lines, report, runOnce, workFolder } from "./measure.mjs";

const { KafkaServer, createTopic, kafkaClient } = await createJiti(import.meta.url).import(
  "../../test/servers/kafka.ts",
);
const server = await KafkaServer.start();
const { Consumer, Producer } = await kafkaClient();
const base = { clientId: "bench", bootstrapBrokers: [server.address], timeout: 30_000, retries: 50, retryDelay: 20 };
const folder = workFolder();
const texts = lines();
for (const topic of ["plain", "full", "empty"]) await createTopic(server.address, topic, 1);

/** The plain client with transactions of as many records as the agent's batches hold. */
const producer = new Producer({ ...base, idempotent: true, transactionalId: "bench" });
let startedAt = performance.now();
for (let at = 0; at < LINES; at += 1300) {
  const transaction = await producer.beginTransaction({ producerId: -1n, producerEpoch: -1 });
  const messages = texts
    .slice(at, at + 1300)
    .map((text) => ({ topic: "plain", partition: 0, value: Buffer.from(text) }));
  await transaction.send({ messages });
  await transaction.commit();
}
const produceCeiling = report("plain client commits transactions", LINES, (performance.now() - startedAt) / 1000);
await producer.close(true);

const consumer = new Consumer({ ...base, groupId: "plain" });
startedAt = performance.now();
const stream = await consumer.consume({ topics: ["plain"], mode: "earliest", isolationLevel: 1, autocommit: 1000 });
let count = 0;
for await (const _message of stream) {
  count += 1;
  if (count === LINES) break;
}
const consumeCeiling = report("plain client consumes", LINES, (performance.now() - startedAt) / 1000);
await consumer.close(true);

const path = join(folder, "logs", "a.log");
const into = (topic) =>
  `[sources.app]\ntype = "file"\ninclude = [${JSON.stringify(path)}]\n[sinks.out]\ntype = "kafka"\ninputs = ["app"]\nbrokers = ["${server.address}"]\ntopic = "${topic}"\ntransactional = true\nencoding = "raw"\n`;
const from = (topic, out) =>
  `[sources.topic]\ntype = "kafka"\nbrokers = ["${server.address}"]\ntopics = ["${topic}"]\ngroup_id = "${topic}"\n[sinks.out]\ntype = "file"\ninputs = ["topic"]\npath = ${JSON.stringify(join(folder, out))}\nencoding = "raw"\n`;

writeFileSync(path, "one line\n");
const startSeconds = await runOnce(folder, "empty", into("empty"));
writeFileSync(path, `${texts.join("\n")}\n`);
const inSeconds = await runOnce(folder, "into", into("full"));
report("tailrace: file -> kafka, exactly once", LINES, inSeconds - startSeconds, produceCeiling);
const emptySeconds = await runOnce(folder, "from-empty", from("empty", "empty.out"));
const outSeconds = await runOnce(folder, "from", from("full", "full.out"));
report("tailrace: kafka -> file, exactly once", LINES, outSeconds - emptySeconds, consumeCeiling);
await server[Symbol.asyncDispose]();
