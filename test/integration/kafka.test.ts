import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { pipeline } from "../../src/agent/pipeline-builder.ts";
import type { Batch } from "../../src/record/index.ts";
import { kafkaSink } from "../../src/sinks/kafka.ts";
import { kafkaSource } from "../../src/sources/kafka.ts";
import { linesBatch, memorySink } from "../../src/testing/memory-stages.ts";
import { createTopic, KafkaServer, produce, readCommitted, readTopic } from "../servers/kafka.ts";
import { needs } from "../servers/needs.ts";
import { deliver, fateOf, KeptMarks, numberedLines } from "./lone-sink.ts";

const signal = new AbortController().signal;

const textsOf = (batch: Batch) => batch.records.map((record) => String(record.event["message"]));

type Input = Parameters<typeof kafkaSource.options.parse>[0] & object;

/** Events of one run of the source, until the end of what there is. */
async function eventsOf(options: Input, stateDir: string): Promise<{ [field: string]: unknown }[]> {
  const events: { [field: string]: unknown }[] = [];
  const answer = (batch: Batch) => {
    events.push(...batch.records.map(({ event }) => event));
    return undefined;
  };
  await pipeline()
    .from(kafkaSource, options as never)
    .into(memorySink({ texts: [], mark: 0, answer }), {})
    .run({ stateDir, once: true });
  return events;
}

describe.skipIf(!needs("a Kafka broker"))("kafka", () => {
  let server: KafkaServer;
  let topics = 0;

  beforeAll(async () => {
    server = await KafkaServer.start();
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  const keeper = async (over: object = {}, partitions = 2) => {
    topics += 1;
    const topic = `t${topics}`;
    await createTopic(server.address, topic, partitions);
    const options = {
      brokers: [server.address],
      topic,
      transactional: true,
      encoding: "text",
      timeout_ms: 5000,
      ...over,
    };
    const kept = new KeptMarks();
    return { topic, kept, open: () => kafkaSink.open(kafkaSink.options.parse(options), kept.context()) };
  };

  it("commits records and positions together: what was committed is known after a crash, and is not repeated", async () => {
    const { topic, open } = await keeper();
    {
      await using sink = await open();
      expect((await sink.recover!()).positions).toEqual([]);
      await Promise.all([deliver(sink, numberedLines("a", 0, 1000)), deliver(sink, numberedLines("b", 0, 500))]);
      await deliver(sink, numberedLines("a", 1000, 1500));
      // It dies here; nothing of it is in our own store.
    }
    await using sink = await open();
    const { positions, standsAlone } = await sink.recover!();
    const line = numberedLines("a", 0, 1).byteLength;
    expect(standsAlone).toBe(false);
    expect(positions.toSorted((one, other) => (one.file < other.file ? -1 : 1))).toEqual([
      { source: "app", file: "a", way: "", value: { prefix: 1500 * line, ranges: [] } },
      { source: "app", file: "b", way: "", value: { prefix: 500 * line, ranges: [] } },
    ]);
    await deliver(sink, numberedLines("a", 1500, 1600));
    const found = await readCommitted(server.address, topic);
    expect(found.filter((text) => text.startsWith("a"))).toEqual(textsOf(numberedLines("a", 0, 1600)));
    expect(found.filter((text) => text.startsWith("b"))).toEqual(textsOf(numberedLines("b", 0, 500)));
  });

  it("is fenced for good by another run with the same state, and nothing of it comes through", async () => {
    const { topic, open } = await keeper();
    await using first = await open();
    await first.recover!();
    await deliver(first, numberedLines("a", 0, 10));
    await using second = await open();
    await second.recover!();
    const outcome = await first.write(numberedLines("a", 10, 20), { signal, way: "" });
    expect(outcome).toMatchObject({ kind: "retry", isOutcomeUnknown: true });
    // On a loaded machine an answer of the broker's may come too late.
    const fate = () =>
      first.recover!().then(
        () => "recovered",
        ({ code }: { code: string }) => code,
      );
    await expect.poll(fate).toBe("TR_SINK_FENCED");
    expect((await deliver(second, numberedLines("a", 10, 30))).at(-1)).toEqual({ kind: "delivered" });
    expect(await readCommitted(server.address, topic)).toEqual(textsOf(numberedLines("a", 0, 30)));
    // Kafka's own consumer sees the same.
    expect(await readTopic(server.address, topic)).toEqual(textsOf(numberedLines("a", 0, 30)));
  });

  it("refuses a message that the topic does not take, and leaves nothing of its batch", async () => {
    const { topic, open } = await keeper();
    await using sink = await open();
    await sink.recover!();
    const large = linesBatch("app", "c", 0, ["small", "x".repeat(2_000_000)]);
    expect(await fateOf(sink, large)).toMatchObject({ kind: "rejected" });
    await deliver(sink, numberedLines("a", 0, 10));
    expect(await readCommitted(server.address, topic)).toEqual(textsOf(numberedLines("a", 0, 10)));
  });

  it("delivers at least once without transactions, each record with its id", async () => {
    const { topic, open } = await keeper({ transactional: false });
    await using sink = await open();
    await sink.recover!();
    expect((await deliver(sink, numberedLines("a", 0, 1000))).at(-1)).toEqual({ kind: "delivered" });
    // Who had to ask twice may have sent twice.
    const found = new Set(await readCommitted(server.address, topic));
    expect([...found]).toEqual(textsOf(numberedLines("a", 0, 1000)));
  });

  it("makes events of bodies, with topic, partition and record_offset beside them, and tells the group how far it is", async () => {
    const state = mkdtempSync(join(tmpdir(), "tailrace-kafka-source-"));
    onTestFinished(() => rmSync(state, { recursive: true, force: true }));
    const readOnce = (options: Input) => eventsOf(options, state);
    await createTopic(server.address, "events", 2);
    await produce(server.address, "events", ['{"level":"info","offset":7}', "plain"], (index) => index);
    const options = { brokers: [server.address], topics: ["events"], group_id: "g", session_timeout_ms: 3000 };
    const events = await readOnce(options);
    expect(events.toSorted((one, other) => Number(one["partition"]) - Number(other["partition"]))).toMatchObject([
      { source: "source", topic: "events", partition: 0, record_offset: 0, level: "info", offset: 7 },
      { source: "source", topic: "events", partition: 1, record_offset: 0, message: "plain" },
    ]);
    expect(await readOnce(options)).toEqual([]);
    // An agent without our state goes on where the group is.
    rmSync(state, { recursive: true });
    await produce(server.address, "events", ["third"]);
    expect(await readOnce(options)).toMatchObject([{ message: "third", partition: 0, record_offset: 1 }]);
  });
  it("goes on after the broker was killed and came back, without losing or repeating", async () => {
    const { topic, open } = await keeper();
    await using sink = await open();
    await sink.recover!();
    await deliver(sink, numberedLines("a", 0, 100));
    await server.kill();
    const during = deliver(sink, numberedLines("a", 100, 200));
    await server.start();
    await during;
    expect(await readCommitted(server.address, topic)).toEqual(textsOf(numberedLines("a", 0, 200)));
  });
});
