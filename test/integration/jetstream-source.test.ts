import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { pipeline } from "../../src/agent/pipeline-builder.ts";
import { jetstreamSource } from "../../src/sources/jetstream.ts";
import type { SourceDefinition } from "../../src/stage/index.ts";
import { type MemoryTarget, memorySink } from "../../src/testing/memory-stages.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { eventually, NatsServers } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-stream-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Events that one run until the end of what there is delivers. */
async function runOnce(source: SourceDefinition, options: object): Promise<{ [field: string]: unknown }[]> {
  const events: { [field: string]: unknown }[] = [];
  const target: MemoryTarget = {
    texts: [],
    mark: 0,
    answer: (batch) => {
      events.push(...batch.records.map(({ event }) => event));
      return undefined;
    },
  };
  await pipeline()
    .from(source, options as never)
    .into(memorySink(target), {})
    .run({ stateDir: join(folder, "state"), once: true });
  return events;
}

describe.skipIf(!needs("nats-server"))("jetstream source", () => {
  let servers: NatsServers;
  let connection: NatsConnection;

  beforeAll(async () => {
    servers = await NatsServers.start();
    connection = await connect({ servers: servers.urls });
  });
  afterAll(async () => {
    await connection?.close();
    await servers?.[Symbol.asyncDispose]();
  });

  const publish = async (subject: string, bodies: readonly string[]) => {
    for (const body of bodies) connection.publish(subject, body);
    await connection.flush();
  };

  it("makes events of bodies, with subject and sequence beside them, and acknowledges them once they are committed", async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: "EVENTS", subjects: ["events.>"] });
    await publish("events.a", ['{"level":"info","file":"/upstream"}', "plain"]);
    const options = { servers: servers.urls, stream: "EVENTS", consumer: "tailrace" };
    const events = await runOnce(jetstreamSource, options);
    expect(events).toMatchObject([
      { source: "source", subject: "events.a", sequence: 1, level: "info", file: "/upstream" },
      { source: "source", subject: "events.a", sequence: 2, message: "plain" },
    ]);
    const info = await manager.consumers.info("EVENTS", "tailrace");
    expect(info).toMatchObject({ num_ack_pending: 0, num_pending: 0, ack_floor: { stream_seq: 2 } });
    expect(await runOnce(jetstreamSource, options)).toEqual([]);
    await publish("events.a", ["third"]);
    expect(await runOnce(jetstreamSource, options)).toMatchObject([{ message: "third", sequence: 3 }]);
  });

  it("reads what a filter leaves of many subjects to its end, with numbers that are not for it in between", async () => {
    await (await jetstreamManager(connection)).streams.add({ name: "MANY", subjects: ["many.>"] });
    for (let round = 0; round < 400; round += 1) {
      connection.publish("many.theirs", "no");
      connection.publish("many.ours", `${round}`);
    }
    await connection.flush();
    const options = { servers: servers.urls, stream: "MANY", consumer: "c", filter_subject: "many.ours", batch: 7 };
    const events = await runOnce(jetstreamSource, options);
    expect(events.map(({ message }) => message)).toEqual(Array.from({ length: 400 }, (_, round) => `${round}`));
  });

  it("reads on with more holes than a settled set holds, as the messages in them come back when who had them is gone", async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: "HOLES", subjects: ["holes.>"] });
    await manager.consumers.add("HOLES", {
      durable_name: "c",
      ack_policy: AckPolicy.Explicit,
      ack_wait: 3_000_000_000,
      max_ack_pending: 16_384,
    });
    const bodies = Array.from({ length: 1200 }, (_, round) => `${round}`);
    await publish("holes.a", bodies);
    // Another agent takes every second message and dies with them.
    const other = await connect({ servers: servers.urls });
    const theirs = await jetstream(other).consumers.get("HOLES", "c");
    for (let taken = 0; taken < 600; taken += 1) {
      await theirs.next();
      if (taken < 599) (await theirs.next())?.nak(1);
    }
    await other.close();
    const options = { servers: servers.urls, stream: "HOLES", consumer: "c", batch: 16 };
    const events = await runOnce(jetstreamSource, options);
    expect(events.map(({ message }) => Number(message)).sort((a, b) => a - b)).toEqual(bodies.map(Number));
  });

  it("takes a message that is larger than what it asks for at once", async () => {
    await (await jetstreamManager(connection)).streams.add({ name: "LARGE", subjects: ["large.>"] });
    await publish("large.a", ["small", "x".repeat(500_000), "small again"]);
    const options = { servers: servers.urls, stream: "LARGE", consumer: "c", max_batch_bytes: 1024 };
    const events = await runOnce(jetstreamSource, options);
    expect(events.map(({ message }) => String(message).length)).toEqual([5, 500_000, 11]);
  });

  it("starts at the end of a stream where it is told to", async () => {
    await (await jetstreamManager(connection)).streams.add({ name: "OLD", subjects: ["old.>"] });
    await publish("old.a", ["before"]);
    const options = { servers: servers.urls, stream: "OLD", consumer: "c", read_from: "end" };
    expect(await runOnce(jetstreamSource, options)).toEqual([]);
    await publish("old.a", ["after"]);
    expect(await runOnce(jetstreamSource, options)).toMatchObject([{ message: "after" }]);
  });

  it("refuses a consumer that acknowledges all before one at once", async () => {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: "ALL", subjects: ["all.>"] });
    await manager.consumers.add("ALL", { durable_name: "c", ack_policy: AckPolicy.All });
    const options = { servers: servers.urls, stream: "ALL", consumer: "c" };
    await expect(runOnce(jetstreamSource, options)).rejects.toThrow(/ack_policy/);
  });

  it("tells in a probe what is missing, and shows no password", async () => {
    const context = sinkContext({ name: "js" });
    const parse = (over: object) =>
      jetstreamSource.options.parse({ servers: servers.urls, stream: "NONE", consumer: "c", ...over });
    await expect(jetstreamSource.probe!(parse({}), context)).rejects.toThrow("there is no stream NONE");
    const secret = parse({ servers: ["nats://me:hunter2@127.0.0.1:1"], timeout_ms: 500 });
    const failure = await jetstreamSource.probe!(secret, context).catch((error: Error) => error);
    expect(String(failure)).toContain("no connection to NATS");
    expect(String(failure)).not.toContain("hunter2");
  });

  it("goes on after the server was killed and came back, with all that it held, once and in order", async () => {
    await (await jetstreamManager(connection)).streams.add({ name: "HELD", subjects: ["held.>"] });
    const count = 5000;
    await publish(
      "held.a",
      Array.from({ length: count }, (_, index) => `${index}`),
    );
    let open = () => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const target: MemoryTarget = {
      texts: [],
      mark: 0,
      answer: async () => {
        await gate;
        return undefined;
      },
    };
    const stop = new AbortController();
    const options = { servers: servers.urls, stream: "HELD", consumer: "c", batch: 50, ack_wait_ms: 1000 };
    const running = pipeline()
      .from(jetstreamSource, options)
      .into(memorySink(target), {})
      .run({ stateDir: join(folder, "state"), signal: stop.signal });
    const manager = await jetstreamManager(connection);
    await eventually(async () => {
      expect((await manager.consumers.info("HELD", "c")).num_ack_pending).toBeGreaterThan(0);
    });
    await servers.node.kill();
    await servers.node.start();
    open();
    await eventually(async () => expect(target.texts.length).toBe(count));
    await eventually(async () => {
      const again = await connect({ servers: servers.urls });
      const info = await (await jetstreamManager(again)).consumers.info("HELD", "c");
      await again.close();
      expect(info).toMatchObject({ num_ack_pending: 0, num_pending: 0 });
    });
    stop.abort();
    await running;
    expect(target.texts).toEqual(Array.from({ length: count }, (_, index) => `${index}`));
  });
});
