import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import type { DataRecord } from "../../src/record/index.ts";
import { untilWoken } from "../../src/runtime/until-woken.ts";
import { defineSink, delivered, retry, type WriteProgress } from "../../src/stage/index.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { postgresOrSkip } from "./postgres-or-skip.ts";
import { ServedAgent, until } from "./served-agent.ts";

let server: PostgresServer;
let client: pg.Client;
let queues = 0;
let queue = "";

describe("pgmq source", () => {
  postgresOrSkip();

  beforeAll(async () => {
    server = await PostgresServer.start(["fsync=off"]);
    await server.installPgmq();
    client = await server.client();
  });

  afterAll(async () => {
    await client?.end();
    await server?.[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    queue = `queue_${++queues}`;
    await client.query("SELECT pgmq.create($1)", [queue]);
  });

  /** A sink that is whatever the test wants of each record. */
  const target = (take: (record: DataRecord, progress: WriteProgress) => void | Promise<void>, concurrency = 8) =>
    defineSink({
      type: "target",
      summary: "What the test says.",
      guarantee: "at_least_once",
      concurrency,
      order: "none",
      options: z.strictObject({}),
      open: async () => ({
        async write(batch, { progress, signal }) {
          const work = Promise.all(batch.records.map((record) => take(record, progress!)));
          await untilWoken(signal, (wake) => void work.then(wake));
          return signal.aborted ? retry("given up") : delivered();
        },
        async [Symbol.asyncDispose]() {},
      }),
    });

  const agent = (
    source: object,
    sink: ReturnType<typeof target>,
    more: Parameters<typeof ServedAgent.start>[0] & object = {},
  ) =>
    ServedAgent.start(
      {
        sources: { q: { type: "pgmq", url: server.url(), queue, poll_interval_ms: 50, ...source } },
        sinks: { out: { type: "target", inputs: ["q"] } },
        checkpoint: { commit_interval_ms: 10 },
        ...more,
      },
      { sinks: [sink] },
    );

  const send = (count: number, body = (n: number): unknown => ({ n })) =>
    client.query("SELECT count(*) FROM pgmq.send_batch($1, $2::jsonb[])", [
      queue,
      Array.from({ length: count }, (_, n) => JSON.stringify(body(n))),
    ]);
  const count = async (table: string) =>
    Number((await client.query(`SELECT count(*) AS n FROM pgmq.${table}_${queue}`)).rows[0].n);

  it("brings ten thousand messages of a burst once, and archives each", async () => {
    const seen = new Map<unknown, number>();
    await using served = await agent(
      { batch: 1000, enable_notify: true },
      target(({ event }) => void seen.set(event["n"], (seen.get(event["n"]) ?? 0) + 1)),
    );
    await send(10_000);
    await until(async () => (await count("a")) === 10_000, "every message to be archived");
    expect(await count("q")).toBe(0);
    expect(seen.size).toBe(10_000);
    expect([...seen.values()].every((times) => times === 1)).toBe(true);
    // However many inserts were notified, one notice of the queue waits at most.
    const listeners = served.agent.channels().find(({ channel }) => channel === "event_listeners")!;
    expect(listeners).toMatchObject({ component: "orchestration", capacity: 10000, overflow: "block" });
  });

  it("makes events of objects, beside message_id and read_count, and messages of everything else", async () => {
    const events: object[] = [];
    await using _served = await agent(
      {},
      target(({ event }) => void events.push(event)),
    );
    for (const body of [{ a: 1, source: "mine" }, "text", [1], null])
      await client.query("SELECT pgmq.send($1, $2)", [queue, JSON.stringify(body)]);
    await until(async () => (await count("a")) === 4, "all to be archived");
    expect(events).toMatchObject([
      { message_id: 1, read_count: 1, a: 1, source: "mine" },
      { message_id: 2, message: '"text"', source: "q" },
      { message: "[1]" },
      { message: "null" },
    ]);
  });

  it("deletes where it is told to", async () => {
    await using _served = await agent(
      { on_ack: "delete" },
      target(() => {}),
    );
    await send(10);
    await until(async () => (await count("q")) === 0, "the queue to be empty");
    expect(await count("a")).toBe(0);
  });

  it("acknowledges each message as it ends, and extends the time-out of one that lasts", async () => {
    let release = () => {};
    const slow = new Promise<void>((resolve) => (release = resolve));
    const seen: unknown[] = [];
    await using _served = await agent(
      { visibility_timeout_ms: 2000, poll_interval_ms: 20 },
      target(async (record, progress) => {
        seen.push(record.event["n"]);
        if (record.event["n"] === 3) await slow;
        progress.delivered(record);
      }),
    );
    await send(10);
    await until(async () => (await count("a")) === 9, "the others to be archived");
    await new Promise((resolve) => setTimeout(resolve, 4200));
    // More than two time-outs later.
    release();
    await until(async () => (await count("a")) === 10, "the slow one to be archived");
    expect(seen.sort()).toEqual(Array.from({ length: 10 }, (_, n) => n));
    const { rows } = await client.query(`SELECT max(read_ct) AS reads FROM pgmq.a_${queue}`);
    expect(rows[0].reads).toBe(1);
  });

  it("sends what was read too often to the dead letters, and archives it", async () => {
    await send(3);
    // Message 2 has been read twice by somebody who died.
    for (let read = 0; read < 2; read += 1) await client.query("SELECT pgmq.set_vt($1, 2::bigint, 0)", [queue]);
    await client.query(`UPDATE pgmq.q_${queue} SET read_ct = 2 WHERE msg_id = 2`);
    const seen: unknown[] = [];
    await using served = await agent(
      { max_reads: 2 },
      target(({ event }) => void seen.push(event["n"])),
    );
    await until(async () => (await count("a")) === 3, "all to be archived");
    expect(seen).toEqual([0, 2]);
    const letters = await served.agent.deadLetters(10);
    expect(letters).toMatchObject([{ component: "q", attempts: 2, event: { n: 1, message_id: 2 } }]);
    expect(letters[0]!.reason).toContain("max_reads = 2");
    // Sent again, it goes where the source's messages go.
    expect(await served.agent.replayDeadLetters([letters[0]!.id])).toBe(1);
    await until(async () => (await served.agent.deadLetters(10)).length === 0, "the letter to be delivered");
    expect(seen).toEqual([0, 2, 1]);
  });

  it("shares a queue with other agents: each message is worked on by one", async () => {
    const seen = new Map<unknown, string>();
    let twice = 0;
    const take = (who: string) =>
      target(async ({ event }) => {
        if (seen.has(event["n"])) twice += 1;
        seen.set(event["n"], who);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }, 2);
    await using _one = await agent({ batch: 10 }, take("one"));
    await using _two = await agent({ batch: 10 }, take("two"));
    await until(async () => (await looking()) === 2, "both to look for messages");
    await send(600);
    await until(async () => (await count("a")) === 600, "all to be archived");
    expect(twice).toBe(0);
    const shares = [...seen.values()].filter((who) => who === "one").length;
    expect(shares).toBeGreaterThan(0);
    expect(shares).toBeLessThan(600);
  });

  /** Agents whose last look is over, and so many milliseconds old. */
  const looking = async (ageMs = 0) =>
    (
      await client.query(
        `SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT msg_id%' AND state = 'idle' AND clock_timestamp() - state_change > $1 * interval '1 ms'`,
        [ageMs],
      )
    ).rowCount;

  it("leaves to others what a slow sink could not work on for long", async () => {
    const sink = target(() => new Promise<void>(() => {}));
    await using _served = await agent({ batch: 10 }, sink, { shutdown: { sink_grace_ms: 50 } });
    await send(1000);
    await until(async () => (await hidden()) === 10, "one read to be held");
    // Several looks later it is still only that.
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await hidden()).toBe(10);
  });

  const hidden = async () =>
    Number((await client.query(`SELECT count(*) AS n FROM pgmq.q_${queue} WHERE vt > clock_timestamp()`)).rows[0].n);

  it("loses no message while its connections break and notifications come", async () => {
    const seen = new Map<unknown, number>();
    await using _served = await agent(
      { batch: 50, enable_notify: true, poll_interval_ms: 200 },
      target(({ event }) => void seen.set(event["n"], (seen.get(event["n"]) ?? 0) + 1)),
    );
    for (let round = 0; round < 20; round += 1) {
      await send(50, (n) => ({ n: round * 50 + n }));
      await client.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tailrace%'",
      );
    }
    await until(async () => (await count("a")) === 1000, "every message to be archived");
    expect(seen.size).toBe(1000);
  });

  it("hears of an insert long before it would look again", async () => {
    let arrived = 0;
    await using _served = await agent(
      { enable_notify: true, poll_interval_ms: 60_000 },
      target(() => {
        arrived = performance.now();
      }),
    );
    // Each look that finds nothing doubles the wait for the next: 1280 ms are over, so it is one of 2560.
    await until(async () => (await looking(1400)) === 1, "it to look seldom");
    const sentAt = performance.now();
    await send(1);
    await until(() => arrived > 0, "the message to come");
    expect(arrived - sentAt).toBeLessThan(1000);
  });

  it("gives back at the end what it has not worked on", async () => {
    const sink = target(() => new Promise<void>(() => {}));
    const served = await agent({ batch: 10 }, sink, { shutdown: { sink_grace_ms: 50 } });
    await send(20);
    await until(async () => (await hidden()) === 10, "one read to be held");
    served.agent.stop("test");
    await served.ended;
    await served[Symbol.asyncDispose]();
    expect(await hidden()).toBe(0);
    expect(await count("q")).toBe(20);
  });

  it("refuses to start without the queue", async () => {
    queue = "nowhere";
    const served = await agent(
      {},
      target(() => {}),
    );
    const result = await served.ended!;
    expect(result.exitCode).toBe(1);
    expect(result.first?.error.message).toContain("there is no queue");
    await served[Symbol.asyncDispose]();
  });
});
