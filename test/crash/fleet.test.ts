import { fileURLToPath } from "node:url";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { firstSeed } from "../seed.ts";
import { createTopic, KafkaServer } from "../servers/kafka.ts";
import { eventually, NatsServers } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { type Agent, CrashMachine, passing, until, type Writer } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

/** Kills per backbone. */
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 8);
const SEED = firstSeed();

const example = (name: string) => fileURLToPath(new URL(`../../examples/fleet/${name}.toml`, import.meta.url));

/** Something durable between edges and aggregators, whose parts can be killed. */
interface Backbone extends AsyncDisposable {
  readonly edge: string;
  readonly aggregator: string;
  readonly env: { readonly [name: string]: string };
  /** Kills one of its servers and starts it again on the same data. */
  disturb(random: SeededRandom): Promise<void>;
}

async function natsBackbone(): Promise<Backbone> {
  const servers = await NatsServers.start(3);
  const connection = await eventually(() => connect({ servers: servers.urls, timeout: 2000 }));
  const manager = await eventually(() => jetstreamManager(connection));
  await eventually(() => manager.streams.add({ name: "LOGS", subjects: ["logs.*"], num_replicas: 3 }));
  await connection.close();
  const [one, two, three] = servers.urls as [string, string, string];
  return {
    edge: example("edge-jetstream"),
    aggregator: example("aggregator-jetstream"),
    env: { NATS_1: one, NATS_2: two, NATS_3: three },
    async disturb(random) {
      const node = servers.nodes[random.int(0, 2)]!;
      await node.kill();
      await passing(random.int(0, 500));
      await node.start();
    },
    [Symbol.asyncDispose]: () => servers[Symbol.asyncDispose](),
  };
}

async function kafkaBackbone(): Promise<Backbone> {
  const server = await KafkaServer.start();
  await createTopic(server.address, "logs", 4);
  return {
    edge: example("edge-kafka"),
    aggregator: example("aggregator-kafka"),
    env: { KAFKA: server.address },
    async disturb(random) {
      await server.kill();
      await passing(random.int(0, 500));
      await server.start();
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** One member of the fleet: its folder, and the agent that runs in it now. */
class Member implements AsyncDisposable {
  readonly machine = new CrashMachine();
  readonly #config: string;
  readonly #env: { readonly [name: string]: string };
  agent: Agent | undefined;

  constructor(config: string, env: { readonly [name: string]: string }) {
    this.#config = config;
    this.#env = { ...env, TAILRACE_STATE: this.machine.stateDir, LOGS: `${this.machine.logs}/*.log` };
  }

  start(...flags: string[]): Agent {
    this.agent = this.machine.agentIn({ env: this.#env }, this.#config, ...flags);
    return this.agent;
  }

  async kill(): Promise<void> {
    this.agent?.kill();
    await this.agent?.exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.machine[Symbol.asyncDispose]();
  }
}

describe.skipIf(!needs("nats-server"))("a fleet › edges, a backbone, aggregators that share it, and one table", () => {
  postgresOrSkip();

  it.each([
    { title: "over JetStream, three nodes", open: natsBackbone },
    { title: "over Kafka", open: kafkaBackbone },
  ])(
    `brings every line once into the table, whoever is killed: $title (seed ${SEED})`,
    async ({ title, open }) => {
      if (title.includes("Kafka") && !needs("a Kafka broker")) return;
      const random = new SeededRandom(SEED);
      await using postgres = await PostgresServer.start(["fsync=off"]);
      await using backbone = await open();
      const env = { ...backbone.env, POSTGRES: postgres.url() };
      await using first = new Member(backbone.edge, { ...env, HOST: "edge1" });
      await using second = new Member(backbone.edge, { ...env, HOST: "edge2" });
      await using left = new Member(backbone.aggregator, env);
      await using right = new Member(backbone.aggregator, env);
      const members = [first, second, left, right];
      const writers: Writer[] = [];
      for (const [index, edge] of [first, second].entries()) {
        const files = [`a${index}.log`, `b${index}.log`];
        const options = { linesPerTick: 5, tickMs: 10, payloadBytes: 100, splitLines: true };
        writers.push(await edge.machine.writer({ files, ...options, seed: SEED + index }));
      }
      for (const member of members) member.start();
      const rows = () =>
        postgres
          .query<{ message: string }>(`SELECT message FROM logs ORDER BY file, "offset"`)
          .catch(() => [] as { message: string }[]);
      const countRows = () =>
        postgres.query<{ count: string }>("SELECT count(*) FROM logs").then(
          ([row]) => Number(row!.count),
          () => 0,
        );
      const killed = { members: 0, servers: 0 };
      for (let round = 0; round < ROUNDS; round += 1) {
        const before = await countRows();
        for (const endMs = Date.now() + 10_000; Date.now() < endMs && (await countRows()) <= before; )
          await passing(50);
        await passing(random.int(0, 300));
        const victim = random.int(0, 5);
        if (victim < 4) {
          const member = members[victim]!;
          expect(member.agent!.isOver, member.agent!.stderr).toBe(false);
          await member.kill();
          member.start();
          killed.members += 1;
        } else if (victim === 4) {
          await backbone.disturb(random);
          killed.servers += 1;
        } else {
          await postgres.kill();
          await postgres.restart();
          killed.servers += 1;
        }
      }
      const written = new Map<string, readonly string[]>();
      for (const writer of writers) for (const [file, lines] of await writer.stop()) written.set(file, lines);
      const total = [...written.values()].reduce((sum, lines) => sum + lines.length, 0);
      let count = 0;
      for (const endMs = Date.now() + 120_000; Date.now() < endMs && count < total; await passing(200))
        count = await countRows();
      // Whatever would come twice has time to.
      await passing(500);
      for (const { agent } of members) {
        await until(() => agent!.hasSaid("memory ceiling"), "the agent to start");
        agent!.signal("SIGTERM");
      }
      const exits = await Promise.all(members.map(({ agent }) => agent!.end()));
      const verdict = verify(
        written,
        (await rows()).map(({ message }) => message),
        { allowRepeats: false },
      );
      const account = `seed ${SEED}, ${total} lines, killed ${JSON.stringify(killed)}\n${describeProblems(verdict)}\n${exits.map(({ stderr }) => stderr.slice(-2000)).join("\n--\n")}`;
      expect(verdict.problems.length, account).toBe(0);
      expect(verdict.lines, account).toBe(total);
      expect(
        exits.map(({ code }) => code),
        account,
      ).toEqual([0, 0, 0, 0]);
      console.info(`${total} lines over 2 edges and 2 aggregators, killed ${JSON.stringify(killed)}`);
    },
    240_000 + ROUNDS * 15_000,
  );
});
