/**
 * From a file into JetStream and from JetStream into a file, exactly once, by the real agent; beside the plain client on the
 * same server. The agent's start (about as long as an empty run) is taken off. `LINES=200000 node bench/queues/jetstream.mjs`
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { createJiti } from "jiti";
import { LINES, lines, report, runOnce, workFolder } from "./measure.mjs";

const { NatsServers } = await createJiti(import.meta.url).import("../../test/servers/nats.ts");
const servers = await NatsServers.start();
const connection = await connect({ servers: servers.urls });
const manager = await jetstreamManager(connection);
const client = jetstream(connection);
const folder = workFolder();
const texts = lines();

// The plain client, as its own documentation publishes many: a window of promises.
await manager.streams.add({ name: "PLAIN", subjects: ["plain.>"] });
let startedAt = performance.now();
for (let at = 0; at < LINES; at += 1000) {
  const window = texts
    .slice(at, at + 1000)
    .map((text, index) => client.publish("plain.a", text, { msgID: `${at + index}` }));
  await Promise.all(window);
}
const publishCeiling = report("plain client publishes", LINES, (performance.now() - startedAt) / 1000);

await manager.consumers.add("PLAIN", { durable_name: "plain", ack_policy: AckPolicy.Explicit, max_ack_pending: 16384 });
startedAt = performance.now();
let count = 0;
for await (const message of await (await client.consumers.get("PLAIN", "plain")).consume({ max_messages: 2000 })) {
  message.ack();
  count += 1;
  if (count === LINES) break;
}
await connection.flush();
const consumeCeiling = report("plain client consumes and acknowledges", LINES, (performance.now() - startedAt) / 1000);

const path = join(folder, "logs", "a.log");
const into = (stream) =>
  `[sources.app]\ntype = "file"\ninclude = [${JSON.stringify(path)}]\n[sinks.out]\ntype = "jetstream"\ninputs = ["app"]\nservers = ${JSON.stringify(servers.urls)}\nstream = "${stream}"\nsubject = "${stream}.app"\ncreate = true\nencoding = "raw"\n`;
const from = (stream, out) =>
  `[sources.stream]\ntype = "jetstream"\nservers = ${JSON.stringify(servers.urls)}\nstream = "${stream}"\nconsumer = "tailrace"\n[sinks.out]\ntype = "file"\ninputs = ["stream"]\npath = ${JSON.stringify(join(folder, out))}\nencoding = "raw"\n`;

writeFileSync(path, "one line\n");
const startSeconds = await runOnce(folder, "empty", into("EMPTY"));
writeFileSync(path, `${texts.join("\n")}\n`);
const inSeconds = await runOnce(folder, "into", into("FULL"));
report("tailrace: file -> jetstream, exactly once", LINES, inSeconds - startSeconds, publishCeiling);
const { state } = await manager.streams.info("FULL");
if (state.messages !== LINES) throw new Error(`the stream holds ${state.messages} messages, not ${LINES}`);

const emptySeconds = await runOnce(folder, "from-empty", from("EMPTY", "empty.out"));
const outSeconds = await runOnce(folder, "from", from("FULL", "full.out"));
report("tailrace: jetstream -> file, exactly once", LINES, outSeconds - emptySeconds, consumeCeiling);
await connection.close();
await servers[Symbol.asyncDispose]();
