import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { type Agent, CrashMachine, type LogLine, passing, until, type Writer, type WriterOptions } from "./machine.ts";
import { describeProblems, verify } from "./verify.ts";

/** One of the configurations that we ship. */
export const fleetExample = (name: string): string =>
  fileURLToPath(new URL(`../../examples/fleet/${name}.toml`, import.meta.url));

/** Something durable between edges and aggregators, whose parts can be killed. */
export interface Backbone extends AsyncDisposable {
  readonly edge: string;
  readonly aggregator: string;
  readonly env: { readonly [name: string]: string };
  /** Each disturbs its servers in a way of its own and leaves all of them at work; by what it does. */
  readonly disturbances: { readonly [what: string]: (random: SeededRandom) => Promise<void> };
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

/** What arrives in the table, looked at all the time. */
class Arrivals implements AsyncDisposable {
  readonly #postgres: PostgresServer;
  readonly #stop = new AbortController();
  readonly #watching: Promise<void>;
  #grewAtMs = Date.now();
  #longestMs = 0;
  count = 0;

  constructor(postgres: PostgresServer) {
    this.#postgres = postgres;
    this.#watching = this.#watch();
  }

  async rows(): Promise<string[]> {
    const text = `SELECT message FROM logs ORDER BY file, "offset"`;
    return (await this.#postgres.query<{ message: string }>(text)).map(({ message }) => message);
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stop;
    for (; !signal.aborted; await passing(50)) {
      const [found] = await this.#postgres
        .query<{ count: string }>("SELECT count(*) FROM logs")
        .catch(() => [] as { count: string }[]);
      this.#longestMs = Math.max(this.#longestMs, Date.now() - this.#grewAtMs);
      if (Number(found?.count ?? 0) <= this.count) continue;
      this.count = Number(found!.count);
      this.#grewAtMs = Date.now();
    }
  }

  /** The longest time in which nothing arrived, since it was asked before. */
  takePauseMs(): number {
    const longest = this.#longestMs;
    this.#longestMs = 0;
    return longest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#watching;
  }
}

/**
 * Two edges write lines into a backbone, two aggregators that share it write them into one table, and everybody is killed in
 * turn: in the end each line is in the table once.
 */
export async function bringsEveryLineOnce(
  open: () => Promise<Backbone>,
  options: {
    readonly seed: number;
    readonly rounds: number;
    readonly pace: Pick<WriterOptions, "linesPerTick" | "tickMs">;
  },
): Promise<void> {
  const { seed, rounds, pace } = options;
  const random = new SeededRandom(seed);
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
    writers.push(
      await edge.machine.writer({ files, ...pace, payloadBytes: 100, splitLines: true, seed: seed + index }),
    );
  }
  for (const member of members) member.start();
  await using arrivals = new Arrivals(postgres);
  const moves: { readonly [what: string]: () => Promise<void> } = {
    ...Object.fromEntries(
      members.map((member, index) => [
        index < 2 ? `edge ${index + 1} killed` : `aggregator ${index - 1} killed`,
        async () => {
          expect(member.agent!.isOver, member.agent!.stderr).toBe(false);
          await member.kill();
          member.start();
        },
      ]),
    ),
    "Postgres killed": async () => {
      await postgres.kill();
      await postgres.restart();
    },
    ...Object.fromEntries(
      Object.entries(backbone.disturbances).map(([what, disturb]) => [what, () => disturb(random)]),
    ),
  };
  const account: string[] = [];
  for (const what of drawn(random, moves, backbone, rounds)) {
    const before = arrivals.count;
    await arrived(arrivals, before, 15_000);
    await passing(random.int(0, 300));
    arrivals.takePauseMs();
    const startMs = Date.now();
    await moves[what]!();
    const doneMs = Date.now() - startMs;
    await arrived(arrivals, arrivals.count, 15_000);
    account.push(
      `${new Date(startMs).toISOString().slice(11, 19)} ${what} (${doneMs} ms; nothing arrived for ${arrivals.takePauseMs()} ms)`,
    );
  }
  const written = new Map<string, readonly string[]>();
  for (const writer of writers) for (const [file, lines] of await writer.stop()) written.set(file, lines);
  const total = [...written.values()].reduce((sum, lines) => sum + lines.length, 0);
  for (const endMs = Date.now() + 120_000; Date.now() < endMs && arrivals.count < total; ) await passing(100);
  // Whatever would come twice has time to.
  await passing(500);
  for (const { agent } of members) {
    await until(() => agent!.hasSaid("memory ceiling"), "the agent to start");
    agent!.signal("SIGTERM");
  }
  const exits = await Promise.all(members.map(({ agent }) => agent!.end()));
  const verdict = verify(written, await arrivals.rows(), { allowRepeats: false });
  const report = [
    `seed ${seed}, ${total} lines, ${new Date().toISOString()}`,
    ...account,
    describeProblems(verdict),
    ...members.map(({ agent }) => agent!.log.flatMap(complaint).slice(-30).join("\n")),
  ].join("\n");
  expect(verdict.problems.length, report).toBe(0);
  expect(verdict.lines, report).toBe(total);
  expect(
    exits.map(({ code }) => code),
    report,
  ).toEqual([0, 0, 0, 0]);
  console.info(`${total} lines over 2 edges and 2 aggregators:\n  ${account.join("\n  ")}`);
}

/** A line of the log that tells of trouble, or of its end, short. */
function complaint({ level, msg, time }: LogLine): string[] {
  const isTelling = level !== "info" || /again|memory ceiling|waiting/.test(msg);
  return isTelling ? [`${String(time)} ${msg.slice(0, 300)}`] : [];
}

/** Each disturbance of the backbone, an edge and an aggregator once, and the rest by chance; in any order. */
function drawn(random: SeededRandom, moves: object, backbone: Backbone, rounds: number): string[] {
  const all = Object.keys(moves);
  const either = random.int(1, 2);
  const each = [...Object.keys(backbone.disturbances), `edge ${either} killed`, `aggregator ${either} killed`];
  const others = Array.from({ length: Math.max(0, rounds - each.length) }, () => all[random.int(0, all.length - 1)]!);
  return [...each, ...others]
    .map((what) => ({ what, order: random.next() }))
    .sort((one, other) => one.order - other.order)
    .map(({ what }) => what);
}

/** More than so many rows, or `limitMs` are over: what comes next tells whether anything comes at all. */
async function arrived(arrivals: Arrivals, count: number, limitMs: number): Promise<void> {
  for (const endMs = Date.now() + limitMs; Date.now() < endMs && arrivals.count <= count; ) await passing(20);
}
