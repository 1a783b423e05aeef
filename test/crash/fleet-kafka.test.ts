import { describe, it } from "vitest";
import { toError } from "../../src/errors.ts";
import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { firstSeed } from "../seed.ts";
import { createTopic } from "../servers/kafka.ts";
import { KafkaCluster } from "../servers/kafka-cluster.ts";
import { needs } from "../servers/needs.ts";
import { type Backbone, bringsEveryLineOnce, fleetExample } from "./fleet.ts";
import { passing } from "./machine.ts";

/** What happens, one after the other: each disturbance of the cluster, an edge and an aggregator killed, and more. */
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 5);
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
  /** Comes back while others are disturbed. Two of three must hold a record: before the next one goes, all three do. */
  let back = Promise.resolve();
  const allBack = async () => {
    await back;
    await cluster.untilInSync("logs");
  };
  return {
    edge: fleetExample("edge-kafka"),
    aggregator: fleetExample("aggregator-kafka"),
    env: { KAFKA_1: one, KAFKA_2: two, KAFKA_3: three },
    disturbances: {
      "a leader killed, for longer than others wait": async (random) => {
        await allBack();
        const server = await leader(random);
        await server.kill();
        await passing(2500 + random.int(0, 500));
        back = server.start();
      },
      "a partition moved to another leader": async (random) => {
        await allBack();
        const partition = random.int(0, PARTITIONS - 1);
        const before = (await cluster.leadersOf("logs"))[partition]!;
        const others = cluster.servers.filter(({ id }) => id !== before);
        await cluster.moveLeader("logs", [partition], others[random.int(0, others.length - 1)]!.id);
      },
      "a leader stopped in order": async (random) => {
        await allBack();
        const server = await leader(random);
        await server.stop();
        back = server.start();
      },
    },
    async [Symbol.asyncDispose]() {
      await back.catch(toError);
      await cluster[Symbol.asyncDispose]();
    },
  };
}

describe.skipIf(!needs("a Kafka broker"))(
  "a fleet › edges, a Kafka cluster, aggregators that share it, and one table",
  () => {
    postgresOrSkip();

    it(
      `brings every line once into the table over three brokers, whoever is killed or moved (seed ${SEED})`,
      // A transaction takes one batch of each file, and time: many small batches would not keep pace.
      () => bringsEveryLineOnce(kafkaBackbone, { seed: SEED, rounds: ROUNDS, pace: { linesPerTick: 20, tickMs: 200 } }),
      240_000 + ROUNDS * 15_000,
    );
  },
);
