import type pg from "pg";
import { afterAll, beforeAll, describe, it } from "vitest";
import { pgmqSink } from "../../src/sinks/pgmq.ts";
import { postgresSink } from "../../src/sinks/postgres.ts";
import type { SinkDefinition } from "../../src/stage/index.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { type SinkTarget, sinkContract } from "../../src/testing/sink-contract.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { postgresOrSkip } from "./postgres-or-skip.ts";

let server: PostgresServer;
let targets = 0;

/** The contract asks for what is there without waiting: a client of ours looks all the time. */
async function watched(options: (name: string) => object, rowsOf: (name: string) => string): Promise<SinkTarget> {
  const name = `target_${++targets}`;
  let lines: string[] = [];
  let connections = -1;
  let isOver = false;
  let client: pg.Client | undefined;
  const look = async () => {
    client ??= await server.client();
    const { rows } = await client.query<{ n: number }>(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name LIKE 'tailrace%'",
    );
    connections = rows[0]!.n;
    lines = (await client.query<{ line: string }>(rowsOf(name))).rows.map(({ line }) => line);
  };
  const loop = (async () => {
    while (!isOver) {
      // No table yet, or no server at the moment.
      await look().catch(() => {
        if (server.isRunning === false) client = undefined;
      });
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await client?.end().catch(() => {});
  })();
  return {
    options: { url: server.url(), timeout_ms: 3000, create: true, ...options(name) },
    lines: () => lines,
    connections: () => connections,
    kill: () => server.kill(),
    start: async () => {
      client = undefined;
      await server.restart();
    },
    async close() {
      isOver = true;
      await loop;
      if (!server.isRunning) await server.restart();
    },
  };
}

const sinks: readonly {
  readonly definition: SinkDefinition;
  readonly target: () => Promise<SinkTarget>;
}[] = [
  {
    definition: postgresSink,
    target: () =>
      watched(
        (table) => ({ table }),
        (table) => `SELECT event::text AS line FROM "${table}" ORDER BY ctid`,
      ),
  },
  {
    definition: pgmqSink,
    target: () =>
      watched(
        (queue) => ({ queue }),
        (queue) => `SELECT message::text AS line FROM pgmq.q_${queue} ORDER BY msg_id`,
      ),
  },
];

describe.each(sinks)("$definition.type, as a sink", ({ definition, target }) => {
  postgresOrSkip();
  beforeAll(async () => {
    server = await PostgresServer.start(["fsync=off"]);
  });
  afterAll(() => server[Symbol.asyncDispose]());
  for (const { title, run } of sinkContract({ definition, context: sinkContext(), target })) it(title, run, 20_000);
});
