import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { postgresOrSkip } from "../integration/postgres-or-skip.ts";
import { firstSeed } from "../seed.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { CrashMachine, passing } from "./machine.ts";

const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 3);
const SEED = firstSeed();

interface Work {
  /** Rows that have arrived. */
  readonly arrived: () => Promise<number>;
  /** The rounds are over. */
  readonly finish: () => Promise<void>;
  readonly isThrough: () => Promise<boolean>;
}

/** Runs agents and kills them, or the server, or both, each time after some have arrived; then lets one agent finish. */
async function killing(
  machine: CrashMachine,
  server: PostgresServer,
  toml: string,
  random: SeededRandom,
  { arrived, finish, isThrough }: Work,
): Promise<string> {
  let agent = machine.agent(toml);
  const killed = { agents: 0, servers: 0 };
  const account = () => `killed ${JSON.stringify(killed)}\n${agent.stderr}`;
  const within = async (holds: () => Promise<boolean>, limitMs: number) => {
    for (const endMs = Date.now() + limitMs; Date.now() < endMs; await passing(20))
      if (await holds().catch(() => false)) return true;
    return false;
  };
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = await arrived();
    if (!(await isThrough())) await within(async () => (await arrived()) > before, 30_000);
    await passing(random.int(0, 300));
    expect(agent.isOver, `the agent ended by itself:\n${account()}`).toBe(false);
    const victims = random.int(0, 2);
    if (victims !== 1) {
      agent.kill();
      await agent.exited;
      killed.agents += 1;
    }
    if (victims !== 0) {
      await server.kill();
      await server.restart();
      killed.servers += 1;
    }
    if (victims !== 1) agent = machine.agent(toml);
  }
  await finish();
  expect(await within(isThrough, 60_000), `not through in 60 s: ${account()}`).toBe(true);
  agent.signal("SIGTERM");
  expect((await agent.end()).code, agent.stderr).toBe(0);
  return account();
}

function configure(machine: CrashMachine, source: string, sink: string): string {
  const path = join(machine.folder, "queue.toml");
  const retry = "retry = { initial_ms = 20, max_ms = 200 }\ntimeout_ms = 2000";
  writeFileSync(
    path,
    `state_dir = ${JSON.stringify(machine.stateDir)}\n[api]\nenabled = false\n[sources.in]\n${source}\ntimeout_ms = 2000\n[sinks.out]\ninputs = ["in"]\n${sink}\n${retry}\n`,
  );
  return path;
}

describe("agent › kill -9 of the agent and of Postgres, with a source in it", () => {
  postgresOrSkip();

  it(
    `brings every message of a queue into a table exactly once, unique on the record id (seed ${SEED})`,
    async () => {
      const random = new SeededRandom(SEED);
      await using server = await PostgresServer.start(["fsync=off"]);
      await using machine = new CrashMachine();
      const total = 20_000;
      // An agent that ends at once makes PGMQ and the queue.
      const make = join(machine.folder, "make.toml");
      writeFileSync(
        make,
        `state_dir = "${machine.folder}/made"\n[api]\nenabled = false\n[sources.none]\ntype = "file"\ninclude = ["${machine.logs}/none"]\n[sinks.q]\ntype = "pgmq"\ninputs = ["none"]\nurl = "${server.url()}"\nqueue = "tasks"\ncreate = true\n`,
      );
      expect((await machine.agent(make, "--once").end()).code).toBe(0);
      await server.query(
        "SELECT count(*) FROM pgmq.send_batch('tasks', ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, $1::int) n))",
        [total],
      );
      const toml = configure(
        machine,
        `type = "pgmq"\nurl = "${server.url()}"\nqueue = "tasks"\nvisibility_timeout_ms = 1000\npoll_interval_ms = 50\nmax_reads = 0`,
        `type = "postgres"\nurl = "${server.url()}"\ntable = "done"\ncreate = true`,
      );
      const one = async (text: string) => Number((await server.query<{ n: string }>(text))[0]!.n);
      const account = await killing(machine, server, toml, random, {
        arrived: () => one("SELECT count(*) AS n FROM done").catch(() => 0),
        finish: async () => {},
        isThrough: async () => (await one("SELECT count(*) AS n FROM pgmq.q_tasks")) === 0,
      });
      expect(await one("SELECT count(*) AS n FROM done"), account).toBe(total);
      expect(await one("SELECT count(DISTINCT event->>'n') AS n FROM done"), account).toBe(total);
      expect(await one("SELECT count(*) AS n FROM pgmq.a_tasks"), account).toBe(total);
    },
    180_000 + ROUNDS * 5000,
  );

  it(
    `brings every committed row exactly once and in order, whatever the order of the commits (seed ${SEED + 1})`,
    async () => {
      const random = new SeededRandom(SEED + 1);
      await using server = await PostgresServer.start(["fsync=off"]);
      await server.query("CREATE TABLE events (id bigserial PRIMARY KEY, message text)");
      // Nothing but positions keeps a row from coming twice.
      await server.query("CREATE TABLE copies (number bigserial, id bigint)");
      await using machine = new CrashMachine();
      const toml = configure(
        machine,
        `type = "postgres"\nurl = "${server.url()}"\ntable = "events"\ncursor_column = "id"\npoll_interval_ms = 20\nsettle_ms = 100\nbatch = 50`,
        `type = "postgres"\nurl = "${server.url()}"\ntable = "copies"`,
      );
      let isWriting = true;
      // Programs that insert a few rows, wait, and commit or do not.
      const writers = Array.from({ length: 4 }, async () => {
        const own = random.fork();
        while (isWriting) {
          try {
            const client = await server.client();
            try {
              while (isWriting) {
                await client.query("BEGIN");
                for (let rows = own.int(1, 5); rows > 0; rows -= 1)
                  await client.query("INSERT INTO events (message) VALUES ('x')");
                await passing(own.int(0, 40));
                await client.query(own.chance(0.2) ? "ROLLBACK" : "COMMIT");
              }
            } finally {
              await client.end().catch(() => {});
            }
          } catch {
            // The server was killed.
            await passing(20);
          }
        }
      });
      const count = async (table: string) =>
        Number((await server.query<{ n: string }>(`SELECT count(*) AS n FROM ${table}`))[0]!.n);
      const account = await killing(machine, server, toml, random, {
        arrived: () => count("copies").catch(() => 0),
        finish: async () => {
          isWriting = false;
          await Promise.all(writers);
        },
        isThrough: async () => !isWriting && (await count("events")) === (await count("copies")),
      });
      const events = await server.query<{ id: string }>("SELECT id FROM events ORDER BY id");
      const copies = await server.query<{ id: string }>("SELECT id FROM copies ORDER BY number");
      expect(copies.length, account).toBe(events.length);
      expect(
        copies.map(({ id }) => id),
        account,
      ).toEqual(events.map(({ id }) => id));
      expect(events.length).toBeGreaterThan(100);
    },
    180_000 + ROUNDS * 5000,
  );
});
