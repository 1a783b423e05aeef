import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 4);
const SEED = Number(process.env["TAILRACE_TEST_SEED"] ?? Date.now() % 2 ** 31);

const sinks = [
  {
    title: "postgres",
    // Nothing but the positions keeps a line from coming twice: the table has no key.
    prepare: ["CREATE TABLE lines (number bigserial, message text)"],
    config: 'type = "postgres"\ntable = "lines"',
    select: "SELECT message FROM lines ORDER BY number",
  },
  {
    title: "pgmq",
    prepare: [],
    config: 'type = "pgmq"\nqueue = "lines"\ncreate = true',
    select: "SELECT message->>'message' AS message FROM pgmq.q_lines ORDER BY msg_id",
  },
];

describe("agent › kill -9 of the agent and of Postgres", () => {
  postgresOrSkip();

  it.each(sinks.map((one, index) => ({ ...one, seed: SEED + index })))(
    "delivers every line exactly once and in order: $title (seed $seed)",
    async ({ prepare, config, select, seed }) => {
      const random = new SeededRandom(seed);
      await using server = await PostgresServer.start(["fsync=off"]);
      for (const statement of prepare) await server.query(statement);
      await using machine = new CrashMachine();
      const toml = machine.configure({
        sink: `${config}\nurl = "${server.url()}"\ntimeout_ms = 2000\nretry = { initial_ms = 20, max_ms = 200 }`,
      });
      const writer = await machine.writer({
        files: ["a.log", "b.log", "c.log"],
        linesPerTick: 10,
        tickMs: 5,
        payloadBytes: 200,
        splitLines: true,
        seed,
      });
      let agent = machine.agent(toml);
      let killed = { agents: 0, servers: 0 };
      const count = async () => (await server.query(`SELECT 1 FROM (${select}) AS all_lines`).catch(() => [])).length;
      for (let round = 0; round < ROUNDS; round += 1) {
        if (random.chance(0.7)) {
          const before = await count();
          for (const endMs = Date.now() + 10_000; Date.now() < endMs && (await count()) <= before; ) await passing(10);
        }
        await passing(random.int(0, 400));
        expect(agent.isOver, `the agent ended by itself (seed ${seed}):\n${agent.stderr}`).toBe(false);
        const victims = random.int(0, 2);
        if (victims !== 1) {
          agent.kill();
          await agent.exited;
          killed = { ...killed, agents: killed.agents + 1 };
        }
        if (victims !== 0) {
          await server.kill();
          await passing(random.int(0, 200));
          await server.restart();
          killed = { ...killed, servers: killed.servers + 1 };
        }
        if (victims !== 1) agent = machine.agent(toml);
      }
      const written = await writer.stop();
      // Before its first word a signal just ends it.
      await until(() => agent.hasSaid("memory ceiling"), "the agent to start");
      agent.signal("SIGTERM");
      expect((await agent.end()).code, agent.stderr).toBe(0);
      const exit = await machine.agent(toml, "--once").end();
      const rows = await server.query<{ message: string }>(select);
      const verdict = verify(
        written,
        rows.map(({ message }) => message),
        { allowRepeats: false },
      );
      const account = `seed ${seed}, killed ${JSON.stringify(killed)}, ${rows.length} lines\n${describeProblems(verdict)}\n${exit.stderr}`;
      expect(exit.code, account).toBe(0);
      expect(verdict.problems.length, account).toBe(0);
      console.info(`${rows.length} lines, killed ${JSON.stringify(killed)}`);
    },
    60_000 + ROUNDS * 10_000,
  );
});

