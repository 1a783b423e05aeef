import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, it } from "vitest";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { firstSeed } from "../seed.ts";
import { eventually, NatsServers } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { type Backbone, bringsEveryLineOnce, fleetExample } from "./fleet.ts";
import { passing } from "./machine.ts";

/** What happens, one after the other. */
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 8);
const SEED = firstSeed();

async function natsBackbone(): Promise<Backbone> {
  const servers = await NatsServers.start(3);
  const connection = await eventually(() => connect({ servers: servers.urls, timeout: 2000 }));
  const manager = await eventually(() => jetstreamManager(connection));
  await eventually(() => manager.streams.add({ name: "LOGS", subjects: ["logs.*"], num_replicas: 3 }));
  await connection.close();
  const [one, two, three] = servers.urls as [string, string, string];
  return {
    edge: fleetExample("edge-jetstream"),
    aggregator: fleetExample("aggregator-jetstream"),
    env: { NATS_1: one, NATS_2: two, NATS_3: three },
    disturbances: {
      "a node killed": async (random) => {
        const node = servers.nodes[random.int(0, 2)]!;
        await node.kill();
        await passing(random.int(0, 500));
        await node.start();
      },
    },
    [Symbol.asyncDispose]: () => servers[Symbol.asyncDispose](),
  };
}

describe.skipIf(!needs("nats-server"))("a fleet › edges, a backbone, aggregators that share it, and one table", () => {
  postgresOrSkip();

  it(
    `brings every line once into the table over JetStream, three nodes, whoever is killed (seed ${SEED})`,
    () => bringsEveryLineOnce(natsBackbone, { seed: SEED, rounds: ROUNDS, pace: { linesPerTick: 5, tickMs: 10 } }),
    240_000 + ROUNDS * 15_000,
  );
});
