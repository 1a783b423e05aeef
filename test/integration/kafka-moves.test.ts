import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KafkaConnector } from "../../src/kafka/client.ts";
import { kafkaSink } from "../../src/sinks/kafka.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { CrashMachine, until } from "../crash/machine.ts";
import { createTopic, produce, readCommitted } from "../servers/kafka.ts";
import { KafkaCluster } from "../servers/kafka-cluster.ts";
import { needs } from "../servers/needs.ts";
import { deliver, KeptMarks, numberedLines } from "./lone-sink.ts";

/** A transaction that nobody ends lives so long; what waits for that is far too slow. */
const TIMEOUT_MS = 60_000;
const SOON_MS = 25_000;

describe.skipIf(!needs("a Kafka broker"))("kafka › leaders that move, three brokers", () => {
  let cluster: KafkaCluster;

  beforeAll(async () => {
    cluster = await KafkaCluster.start();
    await createTopic(cluster.servers[0]!.address, "moving", 3);
    await cluster.untilInSync("moving");
  });
  afterAll(() => cluster?.[Symbol.asyncDispose]());

  const open = (kept: KeptMarks) => {
    const options = { brokers: cluster.addresses, topic: "moving", transactional: true, timeout_ms: TIMEOUT_MS };
    return kafkaSink.open(kafkaSink.options.parse({ ...options, encoding: "text" }), kept.context());
  };
  const took = async (work: () => Promise<unknown>) => {
    const startMs = performance.now();
    await work();
    return performance.now() - startMs;
  };

  it("recovers at once where its own transaction was left open with positions in it", async () => {
    const kept = new KeptMarks();
    {
      await using sink = await open(kept);
      await sink.recover!();
      await deliver(sink, numberedLines("a", 0, 10));
    }
    // As a kill in the middle of a transaction leaves it: positions are there, and no commit.
    const uuid = String(kept.marks.get("uuid"));
    const connector = await KafkaConnector.load(
      { brokers: cluster.addresses, tls: { enabled: false, verify: true }, timeout_ms: TIMEOUT_MS },
      sinkContext(),
    );
    const producer = new connector.client.Producer({
      ...connector.impatient,
      idempotent: true,
      transactionalId: `tailrace-${uuid}`,
    });
    const transaction = await producer.beginTransaction({ producerId: -1n, producerEpoch: -1 });
    const partition = Number.parseInt(uuid.slice(0, 8), 16) % 8;
    const position = {
      key: Buffer.from(JSON.stringify(["position", uuid, "app", "z", ""])),
      value: Buffer.from('{"prefix":1,"ranges":[]}'),
    };
    await transaction.send({ messages: [{ topic: "tailrace-positions", partition, ...position }] });
    await producer.close(true);
    await using sink = await open(kept);
    const recovered = await took(async () => {
      const { positions } = await sink.recover!();
      expect(positions.map(({ file }) => file)).toEqual(["a"]);
    });
    expect(recovered).toBeLessThan(SOON_MS);
  });

  it("goes on writing within seconds when one of its partitions gets another leader", async () => {
    await cluster.moveLeader("moving", [0, 1, 2], 1);
    await cluster.moveLeader("tailrace-positions", [0, 1, 2, 3, 4, 5, 6, 7], 1);
    const kept = new KeptMarks();
    await using sink = await open(kept);
    await sink.recover!();
    const files = ["b", "c", "d", "e"];
    const write = (from: number, to: number) =>
      Promise.all(files.map((file) => deliver(sink, numberedLines(file, from, to))));
    await write(0, 10);
    let longestMs = 0;
    for (const [round, partition] of [0, 1].entries()) {
      await cluster.moveLeader("moving", [partition], 2);
      // The client knows the old leader; part of what it sends arrives, and part does not.
      longestMs = Math.max(longestMs, await took(() => write(10 * (round + 1), 10 * (round + 2))));
    }
    const found = await readCommitted(cluster.addresses[0]!, "moving");
    for (const file of files) {
      const expected = numberedLines(file, 0, 30).records.map(({ event }) => String(event["message"]));
      expect(found.filter((text) => text.startsWith(file))).toEqual(expected);
    }
    expect(longestMs).toBeLessThan(SOON_MS);
    console.info(`the longest write over a moved leader took ${Math.round(longestMs)} ms`);
  });

  it("keeps its place in the group while leaders move and a broker goes", async () => {
    await createTopic(cluster.addresses[0]!, "read", 3);
    await cluster.untilInSync("read");
    await cluster.moveLeader("read", [0, 1, 2], 3);
    await using machine = new CrashMachine();
    const config = machine.configure({
      more: `[sources.stream]\ntype = "kafka"\nbrokers = ${JSON.stringify(cluster.addresses)}\ntopics = ["read"]\ngroup_id = "moves"\n[sinks.read]\ntype = "file"\ninputs = ["stream"]\npath = "${machine.output}.read"\nencoding = "raw"`,
    });
    const agent = machine.agent(config);
    const read = () => machine.linesOf(`${machine.output}.read`);
    let sent: string[] = [];
    const send = async () => {
      const texts = Array.from({ length: 30 }, (_, index) => `line ${sent.length + index}`);
      await produce(cluster.addresses[1]!, "read", texts, (index) => index % 3);
      sent = [...sent, ...texts];
      await until(() => agent.isOver || read().length >= sent.length, "what was sent");
    };
    await send();
    // Until then the cluster makes the topic of the groups' offsets, and whoever leads it may change.
    const said = () => agent.log.filter(({ msg }) => msg.startsWith("stream ")).map(({ msg }) => msg);
    const atFirst = said().length;
    await cluster.moveLeader("read", [0], 2);
    await send();
    await cluster.server(3).stop();
    await send();
    expect(agent.isOver, agent.stderr).toBe(false);
    expect(read().toSorted()).toEqual(sent.toSorted());
    expect(said().slice(atFirst)).toEqual([]);
  });
});
