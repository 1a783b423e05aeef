import { jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DataRecord } from "../../src/record/index.ts";
import { jetstreamSink } from "../../src/sinks/jetstream.ts";
import type { Outcome } from "../../src/stage/index.ts";
import { linesBatch } from "../../src/testing/memory-stages.ts";
import { eventually, NatsServers, readStream } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { deliver, KeptMarks, numberedLines } from "./lone-sink.ts";

const signal = new AbortController().signal;

describe.skipIf(!needs("nats-server"))("jetstream sink", () => {
  let servers: NatsServers;
  let connection: NatsConnection;
  let streams = 0;

  beforeAll(async () => {
    servers = await NatsServers.start();
    connection = await connect({ servers: servers.urls });
  });
  afterAll(async () => {
    await connection?.close();
    await servers?.[Symbol.asyncDispose]();
  });

  const keeper = (over: object = {}) => {
    streams += 1;
    const stream = `S${streams}`;
    const options = {
      servers: servers.urls,
      stream,
      subject: `s${streams}.app`,
      create: true,
      encoding: "text",
      ...over,
    };
    const kept = new KeptMarks();
    const open = () => jetstreamSink.open(jetstreamSink.options.parse(options), kept.context());
    return { stream, subject: options.subject, kept, open };
  };
  const bodies = async (stream: string) => (await readStream(connection, stream)).map(({ body }) => body);
  const expected = (key: string, to: number) =>
    numberedLines(key, 0, to).records.map((record) => String(record.event["message"]));

  it("publishes each record as one message with an id of its own, in order", async () => {
    const { stream, open } = keeper({ encoding: "json" });
    await using sink = await open();
    await sink.recover!();
    for (let from = 0; from < 5000; from += 1000) await deliver(sink, numberedLines("a", from, from + 1000));
    const messages = await readStream(connection, stream);
    expect(messages.map(({ body }) => (JSON.parse(body) as { message: string }).message)).toEqual(expected("a", 5000));
    expect(new Set(messages.map(({ id }) => id)).size).toBe(5000);
  });

  it("repeats nothing after a crash at any moment between two commits, whichever way the replay is cut", async () => {
    const { stream, kept, open } = keeper();
    {
      await using sink = await open();
      await sink.recover!();
      await deliver(sink, numberedLines("a", 0, 100));
      await kept.commit(sink);
      await deliver(sink, numberedLines("a", 100, 250));
      await deliver(sink, numberedLines("b", 0, 10));
      // It dies here, with everything behind 100 uncommitted.
    }
    await using sink = await open();
    const { positions } = await sink.recover!();
    const line = numberedLines("a", 0, 1).byteLength;
    expect(positions.map(({ file, value }) => ({ file, ...value }))).toEqual([
      { file: "a", prefix: 0, ranges: [{ start: 100 * line, end: 250 * line }] },
      { file: "b", prefix: 10 * line, ranges: [] },
    ]);
    await deliver(sink, numberedLines("a", 100, 160));
    await deliver(sink, numberedLines("a", 160, 300));
    await deliver(sink, numberedLines("b", 0, 20));
    const found = await bodies(stream);
    for (const [key, count] of [
      ["a", 300],
      ["b", 20],
    ] as const)
      expect(found.filter((body) => body.startsWith(key))).toEqual(expected(key, count));
  });

  it("publishes the rest of an event that was split, where only some of its parts had got through", async () => {
    const { stream, kept, open } = keeper();
    const whole = numberedLines("a", 0, 3);
    const [first, second, third] = whole.records as [DataRecord, DataRecord, DataRecord];
    const parts = [0, 1, 2].map((part) => second.with({ message: `part ${part}` }, part));
    const split = whole.withRecords([first, ...parts, third]);
    {
      await using sink = await open();
      await sink.recover!();
      await deliver(sink, split);
    }
    // A stream where the connection went behind part 1.
    const manager = await jetstreamManager(connection);
    const cut = keeper();
    const { created } = await manager.streams.add({ name: cut.stream, subjects: [cut.subject] });
    for (const seq of [1, 2, 3]) {
      const { data, header: headers } = (await manager.streams.getMessage(stream, { seq }))!;
      headers.delete("Nats-Expected-Stream");
      headers.delete("Nats-Expected-Last-Subject-Sequence");
      connection.publish(cut.subject, data, { headers });
    }
    await connection.flush();
    cut.kept.save({ uuid: kept.marks.get("uuid"), epoch: 1, sequence: 0, created });
    await using sink = await cut.open();
    const { positions } = await sink.recover!();
    expect(positions).toEqual([{ source: "app", file: "a", way: "", value: { prefix: first.range.end, ranges: [] } }]);
    await deliver(sink, split);
    expect(await bodies(cut.stream)).toEqual(["a 000000", "part 0", "part 1", "part 2", "a 000002"]);
  });

  it("is fenced for good by another sink on its subject, and nothing of it comes through", async () => {
    const { stream, kept, open } = keeper();
    await using first = await open();
    await first.recover!();
    await deliver(first, numberedLines("a", 0, 10));
    await kept.commit(first);
    await using second = await open();
    await second.recover!();
    await deliver(second, numberedLines("a", 10, 20));
    const outcome = await first.write(numberedLines("a", 10, 20), { signal, way: "" });
    expect(outcome).toMatchObject({ kind: "retry", isOutcomeUnknown: true });
    await expect(first.recover!()).rejects.toMatchObject({ code: "TR_SINK_FENCED" });
    expect(await bodies(stream)).toEqual(expected("a", 20));
  });

  it("keeps the order and loses nothing while others publish into the same stream", async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: "SHARED", subjects: ["shared.>"] });
    const { open } = keeper({ stream: "SHARED", subject: "shared.ours", create: false });
    await using sink = await open();
    await sink.recover!();
    let isDone = false;
    const others = (async () => {
      for (let count = 0; !isDone; count += 1) {
        connection.publish("shared.theirs", `theirs ${count}`);
        if (count % 5 === 0) await connection.flush();
      }
    })();
    const outcomes: Outcome[] = [];
    for (let from = 0; from < 4000; from += 500)
      outcomes.push(...(await deliver(sink, numberedLines("a", from, from + 500))));
    isDone = true;
    await others;
    expect(outcomes).toEqual(outcomes.map(() => ({ kind: "delivered" })));
    const ours = (await readStream(connection, "SHARED")).filter(({ subject }) => subject === "shared.ours");
    expect(ours.map(({ body }) => body)).toEqual(expected("a", 4000));
  });

  it("goes on behind messages of its own that arrived after it had asked what there is", async () => {
    const { stream, subject, kept, open } = keeper();
    await using late = await open();
    await late.recover!();
    await deliver(late, numberedLines("a", 0, 5));
    await kept.commit(late);
    await using sink = await open();
    // What the dead one had still on its way comes in between: same sink, an epoch before.
    await Promise.all([sink.recover!(), deliver(late, numberedLines("a", 5, 8))]);
    await deliver(sink, numberedLines("a", 5, 12));
    expect(subject).toMatch(/^s/);
    expect(await bodies(stream)).toEqual(expected("a", 12));
  });

  it.each(["interest", "workqueue"] as const)(
    "refuses a stream with %s retention, unless it need not be exact",
    async (retention) => {
      const manager = await jetstreamManager(connection);
      const stream = `R_${retention}`;
      await manager.streams.add({ name: stream, subjects: [`${stream}.>`], retention });
      const options = { stream, subject: `${stream}.app` };
      await using sink = await keeper(options).open();
      await expect(sink.recover!()).rejects.toThrow(/retention/);
      await using atLeastOnce = await keeper({ ...options, exactly_once: false }).open();
      await atLeastOnce.recover!();
      expect((await deliver(atLeastOnce, numberedLines("a", 0, 100))).at(-1)).toEqual({ kind: "delivered" });
    },
  );

  it("stands alone with what the stream holds, where that was made anew", async () => {
    const { stream, kept, open } = keeper();
    {
      await using sink = await open();
      await sink.recover!();
      await deliver(sink, numberedLines("a", 0, 100));
      await kept.commit(sink);
    }
    await (await jetstreamManager(connection)).streams.delete(stream);
    await using sink = await open();
    expect(await sink.recover!()).toEqual({ positions: [], standsAlone: true });
    await deliver(sink, numberedLines("a", 0, 100));
    expect(await bodies(stream)).toEqual(expected("a", 100));
  });

  it("refuses a message that the server does not take, and publishes nothing of its batch", async () => {
    const { stream, open } = keeper();
    await using sink = await open();
    await sink.recover!();
    const large = linesBatch("app", "c", 0, ["small", "x".repeat(2_000_000)]);
    expect(await sink.write(large, { signal, way: "" })).toMatchObject({ kind: "rejected" });
    expect(await bodies(stream)).toEqual([]);
  });

  it("loses and repeats nothing while nodes of a cluster of three are killed and come back", async () => {
    await using cluster = await NatsServers.start(3);
    const [near] = cluster.nodes as [(typeof cluster.nodes)[0], ...typeof cluster.nodes];
    const setUp = await eventually(() => connect({ servers: cluster.urls, timeout: 1000 }));
    const manager = await jetstreamManager(setUp, { checkAPI: false });
    await eventually(() => manager.streams.add({ name: "C", subjects: ["c.>"], num_replicas: 3 }));
    await setUp.close();
    const { open } = keeper({ servers: cluster.urls, stream: "C", subject: "c.app", create: false, timeout_ms: 1000 });
    await using sink = await open();
    await eventually(() => sink.recover!());
    const writing = (async () => {
      for (let from = 0; from < 12_000; from += 300) await deliver(sink, numberedLines("a", from, from + 300));
    })();
    for (const node of cluster.nodes.slice(0, 2)) {
      await new Promise((passed) => setTimeout(passed, 150));
      await node.kill();
      await new Promise((passed) => setTimeout(passed, 300));
      await node.start();
      await eventually(async () => {
        const again = await connect({ servers: [node.url], timeout: 1000 });
        const { cluster: peers } = await (await jetstreamManager(again, { checkAPI: false })).streams.info("C");
        await again.close();
        if (peers?.replicas?.some(({ current }) => !current) !== false) throw new Error("not all nodes are there");
      });
    }
    await writing;
    const reading = await connect({ servers: [near.url] });
    const found = await eventually(() => readStream(reading, "C"));
    await reading.close();
    expect(found.map(({ body }) => body)).toEqual(expected("a", 12_000));
  });
});
