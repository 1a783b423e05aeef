import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { firstSeed } from "../seed.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { CrashMachine, passing, until } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 4);
const SEED = firstSeed();

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
          for (const endMs = Date.now() + 30_000; Date.now() < endMs && (await count()) <= before; ) await passing(10);
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
    180_000 + ROUNDS * 10_000,
  );

  it.each([
    { title: "while no agent ran", isRunning: false },
    { title: "under a running agent, which ends for it", isRunning: true },
  ])("sends again what a restored database has lost: $title", async ({ isRunning }) => {
    await using server = await PostgresServer.start(["fsync=off"]);
    await server.query("CREATE TABLE lines (number bigserial, message text)");
    await using machine = new CrashMachine();
    const toml = machine.configure({
      sink: `type = "postgres"\ntable = "lines"\nurl = "${server.url()}"\nretry = { initial_ms = 20, max_ms = 200 }`,
    });
    const log = join(machine.logs, "a.log");
    const append = (from: number) =>
      appendFileSync(log, Array.from({ length: 100 }, (_, n) => `line ${from + n}\n`).join(""));
    const lines = async () =>
      (await server.query<{ message: string }>("SELECT message FROM lines ORDER BY number")).map(
        ({ message }) => message,
      );
    const all = (count: number) => Array.from({ length: count }, (_, n) => `line ${n}`);
    const tables = ["lines", "tailrace.sinks", "tailrace.positions"];

    append(0);
    expect((await machine.agent(toml, "--once").end()).code).toBe(0);
    for (const [index, name] of tables.entries()) await server.query(`CREATE TABLE backup_${index} AS TABLE ${name}`);
    append(100);
    let agent = machine.agent(toml, ...(isRunning ? [] : ["--once"]));
    if (isRunning) await asyncUntil(async () => (await lines()).length === 200, "the lines to arrive");
    else expect((await agent.end()).code).toBe(0);
    expect(await lines()).toEqual(all(200));

    await server.query("TRUNCATE lines, tailrace.sinks, tailrace.positions");
    for (const [index, name] of tables.entries()) await server.query(`INSERT INTO ${name} TABLE backup_${index}`);
    append(200);
    if (isRunning) {
      const exit = await agent.end();
      expect(exit.code, exit.stderr).toBe(1);
      expect(exit.stderr).toContain("restored or recreated while the agent ran");
    }
    agent = machine.agent(toml, "--once");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(exit.stderr).toContain("sink_rewound");
    expect(await lines(), exit.stderr).toEqual(all(300));
    // Known now, and no more than that.
    expect((await machine.agent(toml, "--once").end()).stderr).not.toContain("sink_rewound");
    expect(await lines()).toEqual(all(300));
  });
});

async function asyncUntil(holds: () => Promise<boolean>, what: string): Promise<void> {
  for (const endMs = Date.now() + 60_000; !(await holds()); await passing(20))
    if (Date.now() > endMs) throw new Error(`waited in vain for ${what}`);
}
