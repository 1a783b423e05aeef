import { describe, it } from "vitest";
import { firstSeed } from "../seed.ts";
import { CommittedReader, createTopic, KafkaServer } from "../servers/kafka.ts";
import { needs } from "../servers/needs.ts";
import { passing } from "./machine.ts";
import { deliverThroughCuts, type Target } from "./network-cut.ts";

const SEED = firstSeed();

async function kafka(address: string): Promise<Target> {
  const server = await KafkaServer.start({ address });
  await createTopic(server.address, "lines", 3);
  const reader = await CommittedReader.open(server.address, "lines");
  const count = async () => (await reader.read()).length;
  return {
    sink: `type = "kafka"\nbrokers = ["${server.address}"]\ntopic = "lines"\ntransactional = true\nencoding = "raw"`,
    count,
    lines: async () => [...(await reader.read())],
    async holdCommit() {
      // Somewhere in a transaction: records, positions and commit are a request each.
      server.pause();
      await passing(100);
      return { count: undefined, release: async () => server.resume() };
    },
    async [Symbol.asyncDispose]() {
      await reader[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

describe.skipIf(!needs("a Kafka broker"))("agent › the network to Kafka is cut", () => {
  it(`commits every line exactly once and in order (seed ${SEED})`, async (context) => {
    // A transaction takes some 60 ms and one batch of each file: with many small ones it would not keep pace.
    await deliverThroughCuts(context, { title: "kafka", start: kafka, linesPerTick: 20, tickMs: 150, seed: SEED });
  });
});
