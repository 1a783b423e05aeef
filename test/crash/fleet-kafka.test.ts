import { describe, it } from "vitest";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { firstSeed } from "../seed.ts";
import { createTopic } from "../servers/kafka.ts";
import { KafkaCluster } from "../servers/kafka-cluster.ts";
import { needs } from "../servers/needs.ts";
import { type Backbone, bringsEveryLineOnce, fleetExample } from "./fleet.ts";
import { passing } from "./machine.ts";

/** What happens, one after the other: at least each disturbance of the cluster. */
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 6);
const SEED = firstSeed();

const PARTITIONS = 4;

async function kafkaBackbone(): Promise<Backbone> {
  const cluster = await KafkaCluster.start();
  await createTopic(cluster.servers[0]!.address, "logs", PARTITIONS);
  await cluster.untilInSync("logs");
  const [one, two, three] = cluster.addresses as [string, string, string];
  /** Somebody who leads a partition. */
  const leader = async (random: SeededRandom) => {
    const leaders = (await cluster.leadersOf("logs")).filter((id) => id >= 0);
    return cluster.server(leaders[random.int(0, leaders.length - 1)]!);
  };
  return {
    edge: fleetExample("edge-kafka"),
    aggregator: fleetExample("aggregator-kafka"),
    env: { KAFKA_1: one, KAFKA_2: two, KAFKA_3: three },
    disturbances: {
      // Two of three must hold a record: before the next disturbance all three do.
      "a leader killed, for longer than others wait": async (random) => {
        const server = await leader(random);
        await server.kill();
        await passing(3000 + random.int(0, 500));
        await server.start();
        await cluster.untilInSync("logs");
      },
      "a leader killed and back at once": async (random) => {
        const server = await leader(random);
        await server.kill();
        await server.start();
        await cluster.untilInSync("logs");
      },
      "a partition moved to another leader": async (random) => {
        const partition = random.int(0, PARTITIONS - 1);
        const before = (await cluster.leadersOf("logs"))[partition]!;
        const others = cluster.servers.filter(({ id }) => id !== before);
        await cluster.moveLeader("logs", partition, others[random.int(0, others.length - 1)]!.id);
      },
      "a leader stopped in order": async (random) => {
        const server = await leader(random);
        await server.stop();
        await server.start();
        await cluster.untilInSync("logs");
      },
    },
    [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
  };
}

describe.skipIf(!needs("a Kafka broker"))(
  "a fleet › edges, a Kafka cluster, aggregators that share it, and one table",
  () => {
    postgresOrSkip();

    it(
      `brings every line once into the table over three brokers, whoever is killed or moved (seed ${SEED})`,
      () => bringsEveryLineOnce(kafkaBackbone, { seed: SEED, rounds: ROUNDS, pace: { linesPerTick: 2, tickMs: 10 } }),
      240_000 + ROUNDS * 15_000,
    );
  },
);
