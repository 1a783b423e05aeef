import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { firstSeed } from "../seed.ts";
import { createTopic, KafkaServer, kafkaClient, produce, readTopic } from "../servers/kafka.ts";
import { needs } from "../servers/needs.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 2);
const SEED = firstSeed();

const RETRY = "timeout_ms = 5000\nretry = { initial_ms = 20, max_ms = 200 }";

describe.skipIf(!needs("a Kafka broker"))("agent › kill -9 with Kafka", () => {
  let server: KafkaServer;

  beforeAll(async () => {
    server = await KafkaServer.start();
  });
  afterAll(() => server?.[Symbol.asyncDispose]());

  const restart = async (random: SeededRandom) => {
    await server.kill();
    await passing(random.int(0, 300));
    await server.start();
  };

  it(
    `commits each line once and in order, whoever of agent and broker is killed (seed ${SEED})`,
    async () => {
      const random = new SeededRandom(SEED);
      await using machine = new CrashMachine();
      await createTopic(server.address, "lines", 3);
      const config = machine.configure({
        sink: `type = "kafka"\nbrokers = ["${server.address}"]\ntopic = "lines"\ntransactional = true\nencoding = "raw"\n${RETRY}`,
      });
      const writer = await machine.writer({
        files: ["a.log", "b.log"],
        linesPerTick: 10,
        tickMs: 5,
        payloadBytes: 100,
        splitLines: true,
        seed: SEED,
      });
      for (let round = 0; round < ROUNDS; round += 1) {
        const agent = machine.agent(config);
        await passing(random.int(600, 2500));
        if (round === 1 || random.chance(0.2)) {
          await restart(random);
          await passing(random.int(0, 2000));
        }
        await agent.killAtWork();
      }
      const written = await writer.stop();
      const exit = await machine.agent(config, "--once").end(90_000);
      expect(exit.code, exit.stderr).toBe(0);
      const verdict = verify(written, await readTopic(server.address, "lines"), { allowRepeats: false });
      expect(verdict.problems.length, `seed ${SEED}\n${describeProblems(verdict)}\n${exit.stderr}`).toBe(0);
      expect(verdict.lines).toBeGreaterThan(0);
    },
    180_000 + ROUNDS * 20_000,
  );

  it(
    `reads each committed record once and in order into a file, whoever is killed (seed ${SEED})`,
    async () => {
      const random = new SeededRandom(SEED + 1);
      await using machine = new CrashMachine();
      await createTopic(server.address, "records", 3);
      const config = machine.configure({
        more: `[sources.topic]\ntype = "kafka"\nbrokers = ["${server.address}"]\ntopics = ["records"]\ngroup_id = "crash"\nsession_timeout_ms = 2000\ntimeout_ms = 5000\n[sinks.read]\ntype = "file"\ninputs = ["topic"]\npath = ${JSON.stringify(`${machine.output}.read`)}\nencoding = "json"`,
      });
      const files = ["p0", "p1", "p2"];
      const written = new Map(files.map((file) => [file, [] as string[]]));
      const read = () => machine.linesOf(`${machine.output}.read`);
      const { Producer } = await kafkaClient();
      for (let round = 0; round < ROUNDS; round += 1) {
        const texts = files.flatMap((file) => {
          const lines = written.get(file)!;
          const added = Array.from(
            { length: 1000 },
            (_, index) => `${file} ${lines.length + index + 1} of round ${round}`,
          );
          lines.push(...added);
          return added;
        });
        const agent = machine.agent(config);
        const before = read().length;
        await produce(server.address, "records", texts, (index) => Math.floor(index / 1000));
        // What is aborted must never be seen; it leaves holes in the offsets.
        const producer = new Producer({
          clientId: "noise",
          bootstrapBrokers: [server.address],
          idempotent: true,
          transactionalId: `noise-${round}`,
          retries: 20,
          retryDelay: 50,
          timeout: 5000,
        });
        const transaction = await producer.beginTransaction({ producerId: -1n, producerEpoch: -1 });
        const noise = files.map((_, partition) => ({
          topic: "records",
          partition,
          value: Buffer.from("never committed"),
        }));
        await transaction.send({ messages: noise });
        await transaction.abort();
        await producer.close(true);
        await until(() => agent.isOver || read().length > before, "records to be read");
        await passing(random.int(0, 500));
        if (round === 1) {
          await restart(random);
          await passing(random.int(0, 1000));
        }
        await agent.killAtWork();
      }
      const exit = await machine.agent(config, "--once").end(90_000);
      expect(exit.code, exit.stderr).toBe(0);
      const events = read().map((line) => JSON.parse(line) as { message: string; topic: string; partition: number });
      expect(new Set(events.map(({ topic }) => topic))).toEqual(new Set(["records"]));
      const verdict = verify(
        written,
        events.map(({ message }) => message),
        { allowRepeats: false },
      );
      expect(verdict.problems.length, `seed ${SEED}\n${describeProblems(verdict)}\n${exit.stderr}`).toBe(0);
    },
    180_000 + ROUNDS * 20_000,
  );
});
