import { connect } from "@nats-io/transport-node";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { firstSeed } from "../seed.ts";
import { eventually, NatsServers, readStream } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 4);
const SEED = firstSeed();

const FILES = ["a.log", "b.log"];
const WRITER = { files: FILES, linesPerTick: 20, tickMs: 5, payloadBytes: 100, splitLines: true };

/** Every message of the stream, as `verify` wants it; and that no message id is there twice. */
async function arrivedIn(servers: NatsServers, stream: string): Promise<string[]> {
  const connection = await eventually(() => connect({ servers: servers.urls, timeout: 1000 }));
  try {
    const messages = await eventually(() => readStream(connection, stream));
    expect(new Set(messages.map(({ id }) => id)).size).toBe(messages.length);
    return messages.map(({ body }) => body);
  } finally {
    await connection.close();
  }
}

const sinkOf = ({ urls }: NatsServers) =>
  `type = "jetstream"\nservers = ${JSON.stringify(urls)}\nstream = "LOGS"\nsubject = "logs.app"\ncreate = true\nencoding = "raw"\ntimeout_ms = 2000\nretry = { initial_ms = 20, max_ms = 100 }`;

async function restart({ node }: NatsServers, random: SeededRandom): Promise<void> {
  await node.kill();
  await passing(random.int(0, 300));
  await node.start();
  await passing(random.int(0, 600));
}

describe.skipIf(!needs("nats-server"))("agent › kill -9 with JetStream", () => {
  it(
    `publishes each line once and in order, whoever of agent and server is killed (seed ${SEED})`,
    async () => {
      const random = new SeededRandom(SEED);
      await using servers = await NatsServers.start();
      await using machine = new CrashMachine();
      const config = machine.configure({ sink: sinkOf(servers) });
      const writer = await machine.writer({ ...WRITER, seed: SEED });
      for (let round = 0; round < ROUNDS; round += 1) {
        const agent = machine.agent(config);
        await passing(random.int(300, 1200));
        if (random.chance(0.5)) await restart(servers, random);
        await agent.killAtWork();
      }
      const written = await writer.stop();
      const exit = await machine.agent(config, "--once").end();
      expect(exit.code, exit.stderr).toBe(0);
      const verdict = verify(written, await arrivedIn(servers, "LOGS"), { allowRepeats: false });
      expect(verdict.problems.length, `seed ${SEED}\n${describeProblems(verdict)}\n${exit.stderr}`).toBe(0);
      expect(verdict.lines).toBeGreaterThan(0);
    },
    180_000 + ROUNDS * 10_000,
  );

  it(
    `reads each message once and in order into a file, whoever of agent and server is killed (seed ${SEED})`,
    async () => {
      const random = new SeededRandom(SEED + 1);
      await using servers = await NatsServers.start();
      await using machine = new CrashMachine();
      // One agent does both: what it publishes it reads again, into the file.
      const config = machine.configure({
        sink: sinkOf(servers),
        more: `[sources.stream]\ntype = "jetstream"\nservers = ${JSON.stringify(servers.urls)}\nstream = "LOGS"\nconsumer = "back"\ntimeout_ms = 2000\n[sinks.back]\ntype = "file"\ninputs = ["stream"]\npath = ${JSON.stringify(machine.output)}\nencoding = "raw"`,
      });
      const writer = await machine.writer({ ...WRITER, seed: SEED });
      for (let round = 0; round < ROUNDS; round += 1) {
        const agent = machine.agent(config);
        const before = machine.outputBytes();
        if (random.chance(0.8))
          await until(() => agent.isOver || machine.outputBytes() > before, "messages to come back");
        await passing(random.int(0, 800));
        if (random.chance(0.4)) await restart(servers, random);
        await agent.killAtWork();
      }
      const written = await writer.stop();
      const first = await machine.agent(config, "--once").end();
      // What the first one published may lie behind where its own source ended.
      const exit = await machine.agent(config, "--once").end();
      expect([first.code, exit.code], first.stderr + exit.stderr).toEqual([0, 0]);
      const verdict = verify(written, machine.outputLines(), { allowRepeats: false });
      expect(verdict.problems.length, `seed ${SEED}\n${describeProblems(verdict)}\n${exit.stderr}`).toBe(0);
    },
    180_000 + ROUNDS * 10_000,
  );
});
