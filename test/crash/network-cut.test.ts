import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { describe, expect, it } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { NatsServers, readStream } from "../servers/nats.ts";
import { needs } from "../servers/needs.ts";
import { hasPostgres, PostgresServer } from "../servers/postgres.ts";
import { CrashMachine, orSkip, passing } from "./machine.ts";
import { type Cut, Network } from "./network.ts";
import { describeProblems, verify } from "./verify.ts";

const SEED = Number(process.env["TAILRACE_TEST_SEED"] ?? Date.now() % 2 ** 31);

/** The agent's own patience; most cuts last longer. */
const TIMEOUT_MS = 1000;

/** A server that listens on the network to be cut; the test itself asks it from this side, always. */
interface Target extends AsyncDisposable {
  /** Body of the sink. */
  readonly sink: string;
  count(): Promise<number>;
  lines(): Promise<string[]>;
  /** Resolves when the server has something of the agent's to commit that it does not finish before `release`. */
  holdCommit(): Promise<Held>;
}

interface Held {
  /** Lines that were there before. */
  readonly count: number;
  release(): Promise<void>;
}

/** Nothing but the positions keeps a line from coming twice: the table has no key. */
async function postgres(address: string): Promise<Target> {
  const server = await PostgresServer.start(["fsync=off"], { address });
  await server.query("CREATE TABLE lines (number bigserial, message text)");
  const set = async (statement: string) => {
    await server.query(statement);
    await server.query("SELECT pg_reload_conf()");
  };
  const count = async () => Number((await server.query<{ n: string }>("SELECT count(*) AS n FROM lines"))[0]!.n);
  return {
    sink: `type = "postgres"\ntable = "lines"\nurl = "${server.url()}"`,
    count,
    lines: async () =>
      (await server.query<{ message: string }>("SELECT message FROM lines ORDER BY number")).map(
        ({ message }) => message,
      ),
    async holdCommit() {
      // A COMMIT is carried out and then waits for a standby that never comes.
      await set("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
      const waiting =
        "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'tailrace%'";
      await untilAsync(
        async () => (await server.query(waiting)).length > 0,
        () => "a COMMIT that waits",
      );
      return { count: await count(), release: () => set("ALTER SYSTEM RESET synchronous_standby_names") };
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

async function jetStream(address: string): Promise<Target> {
  const servers = await NatsServers.start(1, { address });
  const connection = await connect({ servers: servers.urls });
  const manager = await jetstreamManager(connection);
  await manager.streams.add({ name: "LOGS", subjects: ["logs.app"] });
  const count = async () => (await manager.streams.info("LOGS")).state.messages;
  return {
    sink: `type = "jetstream"\nservers = ${JSON.stringify(servers.urls)}\nstream = "LOGS"\nsubject = "logs.app"\nencoding = "raw"`,
    count,
    lines: async () => (await readStream(connection, "LOGS")).map(({ body }) => body),
    async holdCommit() {
      const before = await count();
      // Messages reach its machine, and the server is not awake.
      servers.node.pause();
      await passing(100);
      return { count: before, release: async () => servers.node.resume() };
    },
    async [Symbol.asyncDispose]() {
      await connection.close();
      await servers[Symbol.asyncDispose]();
    },
  };
}

/** `answerLost`: the commit that the cut came into ends while nobody hears it; `late`: behind the mending. */
type Moment = "any" | "answerLost" | "late";

const CUTS: readonly { readonly how: Cut; readonly moment: Moment; readonly ms: readonly [number, number] }[] = [
  { how: "silent", moment: "any", ms: [1500, 2500] },
  { how: "answers", moment: "answerLost", ms: [1200, 2000] },
  { how: "link", moment: "any", ms: [1500, 2500] },
  { how: "silent", moment: "late", ms: [1200, 2000] },
  // Too short for anybody to lose patience: TCP sends it all again.
  { how: "link", moment: "any", ms: [100, 500] },
  { how: "requests", moment: "any", ms: [1500, 2500] },
  { how: "silent", moment: "answerLost", ms: [100, 500] },
];

const targets = [
  { title: "postgres", isThere: hasPostgres, needed: "PostgreSQL (Debian: postgresql)", start: postgres },
  { title: "jetstream", isThere: () => needs("nats-server"), needed: "nats-server", start: jetStream },
];

describe("agent › the network is cut", () => {
  it.for(targets.map((one, index) => ({ ...one, seed: SEED + index })))(
    "delivers every line exactly once and in order: $title (seed $seed)",
    { timeout: 60_000 },
    async ({ title, isThere, needed, start, seed }, context) => {
      orSkip(context, isThere() ? true : undefined, needed);
      const network = orSkip(context, Network.make(context), "root and iproute2, for a network namespace");
      const random = new SeededRandom(seed);
      await using target = await start(network.address);
      await using machine = new CrashMachine();
      const toml = machine.configure({
        sink: `${target.sink}\ntimeout_ms = ${TIMEOUT_MS}\nretry = { initial_ms = 20, max_ms = 200 }`,
      });
      const writer = await machine.writer({
        files: ["a.log", "b.log", "c.log"],
        linesPerTick: 5,
        tickMs: 10,
        payloadBytes: 200,
        splitLines: true,
        seed,
      });
      const agent = machine.agentIn({ through: network.through }, toml);
      const isAlive = () =>
        expect(agent.isOver, `the agent ended by itself (seed ${seed}):\n${agent.stderr}`).toBe(false);
      /** Resolves when more than `count` lines are there; gives the milliseconds. */
      const moreThan = async (count: number, when: string) => {
        const startMs = Date.now();
        await untilAsync(
          async () => {
            isAlive();
            return (await target.count()) > count;
          },
          () => `lines to arrive ${when} (seed ${seed}):\n${agent.stderr}`,
        );
        return Date.now() - startMs;
      };
      /** The writer writes every 10 ms: without a cut this never resolves. */
      const untilNothingComes = async (how: Cut) => {
        let last = { count: -1, sinceMs: 0 };
        await untilAsync(
          async () => {
            const count = await target.count();
            if (count !== last.count) last = { count, sinceMs: Date.now() };
            return Date.now() - last.sinceMs > 300;
          },
          () => `${how} to cut the network (seed ${seed})`,
        );
      };
      const resumedMs: number[] = [];
      let cutMs = 0;
      for (const { how, moment, ms } of CUTS) {
        await moreThan(await target.count(), `before ${how}`);
        await passing(random.int(0, 200));
        const held = moment === "any" ? undefined : await target.holdCommit();
        network.cut(how);
        const startMs = Date.now();
        if (moment === "answerLost") {
          await held!.release();
          await moreThan(held!.count, "while nobody hears that they did");
        }
        const lengthMs = random.int(...ms);
        // What had come through is carried out; after that nothing comes. (A server that is held cannot be asked.)
        if (moment !== "late" && lengthMs > TIMEOUT_MS) await untilNothingComes(how);
        await passing(startMs + lengthMs - Date.now());
        const before = moment === "late" ? held!.count : await target.count();
        network.mend();
        cutMs += Date.now() - startMs;
        if (moment === "late") {
          await passing(random.int(0, 500));
          await held!.release();
        }
        resumedMs.push(await moreThan(before, `after ${how} was mended`));
      }
      const written = await writer.stop();
      const total = [...written.values()].reduce((sum, lines) => sum + lines.length, 0);
      await moreThan(total - 1, "at the end");
      agent.signal("SIGTERM");
      expect((await agent.end()).code, agent.stderr).toBe(0);
      // Nothing is left, and nothing comes again.
      const exit = await machine.agentIn({ through: network.through }, toml, "--once").end();
      const verdict = verify(written, await target.lines(), { allowRepeats: false });
      const account = `seed ${seed}, ${verdict.lines} lines\n${describeProblems(verdict)}\n${agent.stderr}\n${exit.stderr}`;
      expect(exit.code, account).toBe(0);
      expect(verdict.problems.length, account).toBe(0);
      // Its own account is the same, also of what it heard of only when it asked.
      const own = agent.log.find(({ delivered }) => delivered !== undefined);
      expect(own, account).toMatchObject({ delivered: total, acknowledged: total, dropped: 0, dead_lettered: 0 });
      const losses = agent.log.filter(({ event }) => event === "sink_down").length;
      expect(losses, account).toBeGreaterThan(0);
      console.info(
        `${title}: ${verdict.lines} lines, cut ${CUTS.length} times, ${cutMs} ms together, ${losses} connections lost; went on after ${resumedMs.join(", ")} ms`,
      );
    },
  );
});

async function untilAsync(holds: () => Promise<boolean>, what: () => string): Promise<void> {
  for (const endMs = Date.now() + 15_000; !(await holds()); await passing(10))
    if (Date.now() > endMs) throw new Error(`waited in vain for ${what()}`);
}
