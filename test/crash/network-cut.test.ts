import { readFileSync } from "node:fs";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, it } from "vitest";
import { firstSeed } from "../seed.ts";
import { NatsServers, readStream } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { hasPostgres, PostgresServer } from "../servers/postgres.ts";
import { orSkip, passing } from "./machine.ts";
import { deliverThroughCuts, type Target, untilAsync } from "./network-cut.ts";

const SEED = firstSeed();

/** Nothing but the positions keeps a line from coming twice: the table has no key. */
async function postgres(address: string): Promise<Target> {
  const server = await PostgresServer.start(["fsync=off"], { address });
  await server.query("CREATE TABLE lines (number bigserial, message text)");
  const set = async (statement: string) => {
    await server.query(statement);
    await server.query("SELECT pg_reload_conf()");
  };
  const count = async () => Number((await server.query<{ n: string }>("SELECT count(*) AS n FROM lines"))[0]!.n);
  return {
    sink: `type = "postgres"\ntable = "lines"\nurl = "${server.url()}"`,
    count,
    lines: async () =>
      (await server.query<{ message: string }>("SELECT message FROM lines ORDER BY number")).map(
        ({ message }) => message,
      ),
    async holdCommit() {
      // A COMMIT is carried out and then waits for a standby that never comes.
      await set("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
      const waiting =
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'tailrace%'";
      await untilAsync(
        async () => (await server.query(waiting)).length > 0,
        () => "a COMMIT that waits",
      );
      return { count: await count(), release: () => set("ALTER SYSTEM RESET synchronous_standby_names") };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** What this machine's kernel has got for a listener's connections, and the listener has not read (proc_net_tcp). */
function unreadBytes(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8").split("\n");
  const unread = rows
    .map((row) => row.trim().split(/\s+/))
    .filter(([, address, , state]) => address?.endsWith(local) && state === "01")
    .map(([, , , , queues]) => Number.parseInt(queues!.split(":")[1]!, 16));
  return Math.max(0, ...unread);
}

async function jetStream(address: string): Promise<Target> {
  const servers = await NatsServers.start(1, { address });
  const connection = await connect({ servers: servers.urls });
  const manager = await jetstreamManager(connection);
  await manager.streams.add({ name: "LOGS", subjects: ["logs.app"] });
  const count = async () => (await manager.streams.info("LOGS")).state.messages;
  return {
    sink: `type = "jetstream"\nservers = ${JSON.stringify(servers.urls)}\nstream = "LOGS"\nsubject = "logs.app"\nencoding = "raw"`,
    count,
    lines: async () => (await readStream(connection, "LOGS")).map(({ body }) => body),
    async holdCommit() {
      for (;;) {
        const before = await count();
        // Messages reach its machine, and the server is not awake: enough of them that one is whole.
        servers.node.pause();
        for (const endMs = Date.now() + 500; Date.now() < endMs; await passing(5)) {
          if (unreadBytes(servers.node.port) > 2000)
            return { count: before, release: async () => servers.node.resume() };
        }
        // It came while the agent had to wait for answers: once more.
        servers.node.resume();
        await untilAsync(
          async () => (await count()) > before,
          () => "messages after a pause that held none",
        );
      }
    },
    async [Symbol.asyncDispose]() {
      await connection.close();
      await servers[Symbol.asyncDispose]();
    },
  };
}

describe("agent › the network is cut", () => {
  it(`delivers every line exactly once and in order: postgres (seed ${SEED})`, async (context) => {
    orSkip(context, hasPostgres() ? true : undefined, "PostgreSQL (Debian: postgresql)");
    await deliverThroughCuts(context, { title: "postgres", start: postgres, linesPerTick: 5, tickMs: 10, seed: SEED });
  });

  it(`delivers every line exactly once and in order: jetstream (seed ${SEED})`, {
    timeout: 180_000,
  }, async (context) => {
    orSkip(context, needs("nats-server") ? true : undefined, "nats-server");
    await deliverThroughCuts(context, {
      title: "jetstream",
      start: jetStream,
      linesPerTick: 5,
      tickMs: 10,
      seed: SEED,
    });
  });
});
