import { connect, type NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, it } from "vitest";
import { jetstreamSink } from "../../src/sinks/jetstream.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { type SinkTarget, sinkContract } from "../../src/testing/sink-contract.ts";
import { NatsServers, readStream } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";

describe.skipIf(!needs("nats-server"))("jetstream, as a sink", () => {
  let servers: NatsServers;
  let targets = 0;

  beforeAll(async () => {
    servers = await NatsServers.start();
  });
  afterAll(() => servers?.[Symbol.asyncDispose]());

  /** The contract asks for what is there without waiting: a client of ours looks all the time. */
  async function target(): Promise<SinkTarget> {
    targets += 1;
    const stream = `T${targets}`;
    let lines: string[] = [];
    let isOver = false;
    let connection: NatsConnection | undefined;
    const look = async () => {
      if (connection === undefined || connection.isClosed())
        connection = await connect({ servers: servers.urls, reconnect: false });
      lines = (await readStream(connection, stream)).map(({ body }) => body);
    };
    const loop = (async () => {
      while (!isOver) {
        // No stream yet, or no server at the moment.
        await look().catch(() => {});
        await new Promise((passed) => setTimeout(passed, 10));
      }
      await connection?.close().catch(() => {});
    })();
    return {
      options: { servers: servers.urls, stream, subject: `t${targets}.app`, create: true, timeout_ms: 2000 },
      lines: () => lines,
      kill: () => servers.node.kill(),
      start: () => servers.node.start(),
      stall: () => servers.node.pause(),
      async close() {
        isOver = true;
        servers.node.resume();
        if (!servers.node.isRunning) await servers.node.start();
        await loop;
      },
    };
  }

  for (const { title, run } of sinkContract({ definition: jetstreamSink, context: sinkContext(), target }))
    it(title, run);
});
