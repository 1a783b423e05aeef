import { connect, createServer, type Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Batch, Messages, type Origin } from "../../src/record/index.ts";
import { pgmqSink } from "../../src/sinks/pgmq.ts";
import { postgresSink } from "../../src/sinks/postgres.ts";
import type { Sink } from "../../src/stage/index.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { testCertificate } from "../../src/testing/test-certificate.ts";
import { contractBatch } from "../../src/testing/transform-contract.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { KeptMarks } from "./lone-sink.ts";
import { postgresOrSkip } from "./postgres-or-skip.ts";
import { ServedAgent, until } from "./served-agent.ts";

let server: PostgresServer;
let tables = 0;
let table = "";
const { signal } = new AbortController();

describe("sinks of Postgres", () => {
  postgresOrSkip();
  beforeAll(async () => {
    server = await PostgresServer.start(["fsync=off"]);
  });
  afterAll(() => server?.[Symbol.asyncDispose]());
  beforeEach(() => {
    table = `rows_${++tables}`;
  });

  const openTable = (store: KeptMarks, more: object = {}, url = server.url()) =>
    postgresSink.open(
      postgresSink.options.parse({ url, table, create: true, timeout_ms: 3000, ...more }),
      store.context(),
    );
  const openQueue = (url = server.url()) =>
    pgmqSink.open(
      pgmqSink.options.parse({ url, queue: table, create: true, timeout_ms: 3000 }),
      new KeptMarks().context(),
    );
  const queued = async () => {
    const rows = await server.query<{ m: string }>(
      `SELECT message->>'message' AS m FROM pgmq."q_${table}" ORDER BY msg_id`,
    );
    return rows.map(({ m }) => m);
  };
  const rowsOf = (name = table) => server.query<{ [column: string]: unknown }>(`SELECT * FROM "${name}" ORDER BY ctid`);
  const write = (sink: Sink, batch: Batch, way?: string) =>
    sink.write(batch, way === undefined ? { signal } : { signal, way });
  const generation = async () =>
    Number(
      (
        await server.query<{ g: string }>("SELECT generation AS g FROM tailrace.sinks ORDER BY opened_at DESC LIMIT 1")
      )[0]!.g,
    );

  it("makes the table of the contract, and fills it", async () => {
    await using sink = await openTable(new KeptMarks());
    await sink.recover!();
    const batch = contractBatch(["one\ttab \\ back", "two"]);
    expect(await write(sink, batch)).toEqual({ kind: "delivered" });
    const [row] = await rowsOf();
    expect(Object.keys(row!)).toEqual(["id", "time", "source", "file", "offset", "message", "event"]);
    expect(row).toMatchObject({ id: batch.records[0]!.id, message: "one\ttab \\ back", offset: "0" });
    expect(row!["event"]).toEqual(batch.records[0]!.event);
    expect((row!["time"] as Date).toISOString()).toBe(batch.records[0]!.event["timestamp"]);
  });

  it("puts what waits into one transaction", async () => {
    await using sink = await openTable(new KeptMarks());
    await sink.recover!();
    const before = await generation();
    const batches = Array.from({ length: 50 }, (_, file) => contractBatch(["a", "b"], { key: `file-${file}` }));
    const outcomes = await Promise.all(batches.map((batch) => write(sink, batch)));
    expect(outcomes.every(({ kind }) => kind === "delivered")).toBe(true);
    expect(await rowsOf()).toHaveLength(100);
    expect((await generation()) - before).toBeLessThanOrEqual(2);
  });

  it("tells the positions of what it holds, by file and way, also to the next one", async () => {
    await server.query(`CREATE TABLE "${table}" (message text)`);
    const store = new KeptMarks();
    const first = contractBatch(["a"], { offset: 0 });
    const third = contractBatch(["c"], { offset: 100 });
    {
      await using sink = await openTable(store, { create: false });
      expect(await sink.recover!()).toEqual({ positions: [], standsAlone: false });
      await write(sink, first, "parse");
      await write(sink, third, "parse");
      await write(sink, third, "");
    }
    await using again = await openTable(store, { create: false });
    const { positions, standsAlone } = await again.recover!();
    expect(standsAlone).toBe(false);
    const { end } = third.ranges[0]!;
    expect(positions).toHaveLength(2);
    expect(positions).toContainEqual({
      source: "contract",
      file: first.origin.key,
      way: "parse",
      value: { prefix: first.ranges[0]!.end, ranges: [{ start: 100, end }] },
    });
  });

  it("knows after a COMMIT without an answer that it went through", async () => {
    const store = new KeptMarks();
    await using proxy = await CuttingProxy.start(server.port);
    await using sink = await openTable(store, {}, server.url().replace(String(server.port), String(proxy.port)));
    await sink.recover!();
    proxy.cutBehind = hasEndOfRows;
    const batch = contractBatch(["a", "b"]);
    const outcome = await write(sink, batch);
    expect(outcome).toMatchObject({ kind: "retry", isOutcomeUnknown: true });
    const { positions, standsAlone } = await sink.recover!();
    expect(standsAlone).toBe(false);
    expect(positions[0]!.value.prefix).toBe(batch.ranges.at(-1)!.end);
    expect(await rowsOf()).toHaveLength(2);
    // And a sink that is asked for it again nevertheless does not store it twice.
    expect(await write(sink, contractBatch(["c"], { offset: 1000 }))).toEqual({ kind: "delivered" });
    expect(await rowsOf()).toHaveLength(3);
  });

  it("knows after a COMMIT that never arrived that nothing did", async () => {
    const store = new KeptMarks();
    await using proxy = await CuttingProxy.start(server.port);
    await using sink = await openTable(store, {}, server.url().replace(String(server.port), String(proxy.port)));
    await sink.recover!();
    proxy.cutBefore = hasEndOfRows;
    const batch = contractBatch(["a", "b"]);
    expect(await write(sink, batch)).toMatchObject({ kind: "retry", isOutcomeUnknown: true });
    expect((await sink.recover!()).positions).toEqual([]);
    expect(await write(sink, batch)).toEqual({ kind: "delivered" });
    expect(await rowsOf()).toHaveLength(2);
  });

  it.each(["COPY", "the row", END_OF_ROWS])(
    "goes on after the network swallowed everything from %j on",
    async (word) => {
      await using proxy = await CuttingProxy.start(server.port);
      const url = server.url().replace(String(server.port), String(proxy.port));
      await using sink = await openTable(new KeptMarks(), { timeout_ms: 1000 }, url);
      await sink.recover!();
      proxy.swallowFrom = word;
      const batch = contractBatch(["the row", "b"]);
      // The server still holds the transaction open, and its lock.
      expect(await write(sink, batch)).toMatchObject({ kind: "retry", reason: expect.stringContaining("no answer") });
      let isRecovered = false;
      for (let tries = 0; tries < 10 && !isRecovered; tries += 1) {
        isRecovered = await sink.recover!().then(
          ({ positions }) => positions.length === 0,
          () => false,
        );
      }
      expect(isRecovered).toBe(true);
      expect(await write(sink, batch)).toEqual({ kind: "delivered" });
      expect(await rowsOf()).toHaveLength(2);
    },
  );

  it("is out as soon as somebody else has opened the same sink", async () => {
    const store = new KeptMarks();
    await using one = await openTable(store);
    await one.recover!();
    await write(one, contractBatch(["a"]));
    await using two = await openTable(store);
    await two.recover!();
    await expect(write(one, contractBatch(["b"], { offset: 100 }))).rejects.toMatchObject({ code: "TR_SINK_FENCED" });
    await expect(one.recover!()).rejects.toMatchObject({ code: "TR_SINK_FENCED" });
    expect(await write(two, contractBatch(["b"], { offset: 100 }))).toEqual({ kind: "delivered" });
    expect(await rowsOf()).toHaveLength(2);
  });

  it("says of a database that was put back that what it holds stands alone, until that is committed", async () => {
    const store = new KeptMarks();
    {
      await using sink = await openTable(store);
      await sink.recover!();
      await write(sink, contractBatch(["a"]));
      await sink.committed!();
    }
    const saved = await server.query<{ sink: string; epoch: string; generation: string }>(
      "SELECT * FROM tailrace.sinks",
    );
    {
      await using sink = await openTable(store);
      await sink.recover!();
      await write(sink, contractBatch(["b"], { offset: 100 }));
    }
    // What a backup of then brings back.
    const mine = store.marks.get("uuid");
    const then = saved.find(({ sink }) => sink === mine)!;
    await server.query("UPDATE tailrace.sinks SET epoch = $2, generation = $3 WHERE sink = $1", [
      mine,
      then.epoch,
      then.generation,
    ]);
    await server.query("UPDATE tailrace.positions SET ranges = '[]' WHERE sink = $1", [mine]);
    for (let start = 0; start < 2; start += 1) {
      // Dying in between must not make it look as if nothing was lost.
      const sink = await openTable(store);
      const { standsAlone, positions } = await sink.recover!();
      expect({ standsAlone, ranges: positions[0]?.value.ranges }).toEqual({ standsAlone: true, ranges: [] });
      await sink[Symbol.asyncDispose]();
    }
    {
      await using sink = await openTable(store);
      await sink.recover!();
      for (let commit = 0; commit < 2; commit += 1) await sink.committed!();
    }
    await using sink = await openTable(store);
    expect((await sink.recover!()).standsAlone).toBe(false);
  });

  it("stores what an acknowledged source brings again once, but never takes one record for another", async () => {
    const origin: Origin = {
      source: "queue",
      key: "q#1",
      kind: "acknowledged",
      recordIdPrefix: "abc",
      file: undefined,
    };
    const batch = (...numbers: number[]) =>
      Batch.ofMessages(
        origin,
        new Messages(
          numbers.map((number) => ({ number, body: Buffer.from("{}"), fields: { n: number } })),
          { readAtMs: 0, host: "h" },
        ),
        { start: 0, end: 10 },
        2,
      );
    await using sink = await openTable(new KeptMarks());
    await sink.recover!();
    expect(await write(sink, batch(1, 2), "a")).toEqual({ kind: "delivered" });
    expect(await write(sink, batch(1, 2, 3), "a")).toEqual({ kind: "delivered" });
    expect((await rowsOf()).map(({ id }) => id)).toEqual(["abc:1", "abc:2", "abc:3"]);
    // By another way come other events under the same ids.
    expect(await write(sink, batch(3), "b")).toMatchObject({ kind: "rejected" });
    expect(await rowsOf()).toHaveLength(3);
  });

  it("fills the columns that a table has by their names, and says what finds no place", async () => {
    await server.query(
      `CREATE TABLE "${table}" (n bigserial, message text NOT NULL, level text DEFAULT 'info', tags text[], deep json, raw bytea, at timestamptz)`,
    );
    const store = new KeptMarks();
    await using sink = await openTable(store, { create: false });
    await sink.recover!();
    const batch = contractBatch(["x", "y", "z"]);
    const [one, two, three] = batch.records;
    const made = batch.withRecords([
      one!.with({ message: "one", tags: ["a", 'b"c', "d,e"], deep: { a: [1, "\t"] }, lost: 1 }),
      two!.with({ message: "two", level: "warn", raw: "bytes", at: "2026-01-02T03:04:05Z" }),
      three!.with({ message: { not: "text" }, level: null }),
    ]);
    expect(await write(sink, made)).toEqual({ kind: "delivered" });
    const rows = await rowsOf();
    rows.sort((a, b) => String(a["message"]).localeCompare(String(b["message"])));
    expect(rows).toMatchObject([
      { message: '{"not":"text"}', level: null },
      { message: "one", level: "info", tags: ["a", 'b"c', "d,e"], deep: { a: [1, "\t"] }, raw: null },
      { message: "two", level: "warn", tags: null, raw: Buffer.from("bytes"), at: new Date("2026-01-02T03:04:05Z") },
    ]);
    expect(store.warnings).toHaveLength(1);
    expect(store.warnings[0]).toContain("lost");
  });

  it("stores nothing of what was refused late, however much of it was sent by then", async () => {
    const batch = contractBatch(Array.from({ length: 1500 }, (_, n) => `${n} ${"x".repeat(200)}`));
    const made = (bad: object) =>
      batch.withRecords(batch.records.map((each, n) => (n === 1400 ? each.with({ ...each.event, ...bad }) : each)));
    await using rows = await openTable(new KeptMarks());
    await rows.recover!();
    expect(await write(rows, made({ timestamp: "no time" }))).toMatchObject({ kind: "rejected" });
    expect(await rowsOf()).toHaveLength(0);
    expect(await write(rows, made({}))).toEqual({ kind: "delivered" });
    expect((await rowsOf()).map(({ id }) => id)).toEqual(batch.records.map(({ id }) => id));

    await using messages = await openQueue();
    await messages.recover!();
    expect(await write(messages, made({ message: "a \u0000 byte" }))).toMatchObject({ kind: "rejected" });
    expect(await queued()).toEqual([]);
    expect(await write(messages, made({}))).toEqual({ kind: "delivered" });
    expect(await queued()).toEqual(batch.records.map(({ event }) => event["message"]));
  });

  it("fails for good over an event that cannot be written as JSON, and has stored nothing of what came before it", async () => {
    const batch = contractBatch(Array.from({ length: 1500 }, (_, n) => `${n} ${"x".repeat(200)}`));
    const made = batch.withRecords(
      batch.records.map((each, n) => (n === 1400 ? each.with({ ...each.event, n: 1n }) : each)),
    );
    await using rows = await openTable(new KeptMarks());
    await rows.recover!();
    await expect(write(rows, made)).rejects.toThrow("BigInt");
    expect(await rowsOf()).toHaveLength(0);
    await using messages = await openQueue();
    await messages.recover!();
    await expect(write(messages, made)).rejects.toThrow("BigInt");
    expect(await queued()).toEqual([]);
  });

  it.each([
    ["Sync", "cutBehind", true],
    ["Sync", "cutBefore", false],
  ] as const)("knows whether messages were sent whose %s had no answer (%s)", async (_, how, isSent) => {
    await using proxy = await CuttingProxy.start(server.port);
    await using sink = await openQueue(server.url().replace(String(server.port), String(proxy.port)));
    await sink.recover!();
    proxy[how] = endsWithSync;
    const batch = contractBatch(["a", "b"]);
    expect(await write(sink, batch)).toMatchObject({ kind: "retry", isOutcomeUnknown: true });
    const { positions } = await sink.recover!();
    expect(positions.map(({ value }) => value.prefix)).toEqual(isSent ? [batch.ranges.at(-1)!.end] : []);
    expect(await queued()).toEqual(isSent ? ["a", "b"] : []);
  });

  it.each([
    ["there is no table", { create: false }, ""],
    ["lacks", { create: true }, 'CREATE TABLE "TABLE" (id text PRIMARY KEY, message text)'],
    [
      "not unique",
      { create: true },
      'CREATE TABLE "TABLE" (id text, time timestamptz, source text, file text, "offset" bigint, message text, event jsonb)',
    ],
  ])("says what is wrong with a table: %s", async (words, options, statement) => {
    if (statement !== "") await server.query(statement.replace('TABLE"', `${table}"`).replace('"TABLE', `"${table}`));
    await using sink = await openTable(new KeptMarks(), options);
    await expect(sink.recover!()).rejects.toMatchObject({
      code: "TR_STAGE_OPEN",
      message: expect.stringContaining(words),
    });
  });

  it("needs no more of its user than to write what it writes, once the tables are made", async () => {
    await server.query(`CREATE TABLE "${table}" (message text)`);
    {
      await using admin = await openTable(new KeptMarks(), { create: false });
      await admin.recover!();
    }
    for (const statement of [
      `CREATE ROLE "user_${table}" LOGIN`,
      `GRANT USAGE ON SCHEMA tailrace TO "user_${table}"`,
      `GRANT SELECT, INSERT, UPDATE, DELETE ON tailrace.sinks, tailrace.positions TO "user_${table}"`,
    ])
      await server.query(statement);
    const open = () => openTable(new KeptMarks(), { create: false }, server.url({ user: `user_${table}` }));
    {
      await using sink = await open();
      await expect(sink.recover!()).rejects.toThrow("may not INSERT");
    }
    await server.query(`GRANT INSERT ON "${table}" TO "user_${table}"`);
    await using sink = await open();
    await sink.recover!();
    expect(await write(sink, contractBatch(["a"]))).toEqual({ kind: "delivered" });
  });

  it("says that a queue is missing, and makes it where it is told to", async () => {
    const open = (create: boolean) =>
      pgmqSink.open(pgmqSink.options.parse({ url: server.url(), queue: table, create }), new KeptMarks().context());
    {
      await using sink = await open(true);
      await sink.recover!();
    }
    expect(await server.query("SELECT 1 FROM pgmq.meta WHERE queue_name = $1", [table])).toHaveLength(1);
    await server.query("SELECT pgmq.drop_queue($1)", [table]);
    await using sink = await open(false);
    await expect(sink.recover!()).rejects.toMatchObject({ message: expect.stringContaining("there is no queue") });
  });

  it("encrypts as the URL says, and trusts whom it says", async () => {
    const certificate = testCertificate();
    try {
      await using encrypted = await PostgresServer.start(["fsync=off"], { tls: certificate });
      const ask = async (query: string) => {
        await using sink = await openTable(new KeptMarks(), {}, `${encrypted.url()}${query}`);
        await sink.recover!();
        const [row] = await encrypted.query<{ ssl: boolean }>(
          "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'tailrace%' ORDER BY backend_start DESC",
        );
        return row!.ssl;
      };
      expect(await ask("")).toBe(false);
      expect(await ask("?sslmode=no-verify")).toBe(true);
      expect(await ask(`?sslmode=verify-full&sslrootcert=${certificate.certPath}`)).toBe(true);
      await expect(ask("?sslmode=verify-full")).rejects.toThrow(/certificate/);
    } finally {
      certificate.remove();
    }
  });

  it("never shows a password", async () => {
    const secret = "s3cret/p%40ss";
    const url = server.url().replace("postgres@", `postgres:${encodeURIComponent(secret)}@`);
    const store = new KeptMarks();
    await using sink = await openTable(store, {}, url.replace("127.0.0.1", "nowhere.invalid"));
    const messages: string[] = [];
    await sink.recover!().catch((error: Error) => void messages.push(String(error), error.stack ?? ""));
    const outcome = await write(sink, contractBatch(["a"]));
    messages.push(JSON.stringify(outcome), ...store.warnings);
    await postgresSink.probe!(postgresSink.options.parse({ url: `${url}x`, table }), sinkContext()).catch(
      (error: Error) => messages.push(String(error)),
    );
    expect(messages.length).toBeGreaterThan(3);
    expect(messages.join("\n")).not.toContain("s3cret");
    expect(messages.join("\n")).not.toContain(encodeURIComponent(secret));
    const refused = postgresSink.options.safeParse({ url: "postgres://h/d?password=x", table });
    expect(refused.error?.issues[0]?.message).toContain("in front of the @");
  });

  it("puts rows that a table refuses into the dead letters, and only those", async () => {
    await server.query(
      `CREATE TABLE "${table}" (message text, at timestamptz, level text CHECK (level IS DISTINCT FROM 'bad'))`,
    );
    await using served = await ServedAgent.start(
      {
        transforms: { parse: { type: "json", inputs: ["app"] } },
        sinks: { out: { type: "postgres", inputs: ["parse"], url: server.url(), table } },
      },
      {},
    );
    const bad = [
      '{"message":"nul \\u0000 byte"}',
      '{"message":"no time","at":"yesterday at noon or so"}',
      '{"message":"refused","level":"bad"}',
    ];
    const lines = Array.from({ length: 60 }, (_, n) => bad[n / 20] ?? `{"message":"good ${n}"}`);
    served.append(`${lines.join("\n")}\n`);
    await until(async () => (await served.agent.deadLetters(10)).length === 3, "the dead letters");
    await until(async () => (await rowsOf()).length === 57, "the good rows");
    const letters = await served.agent.deadLetters(10);
    expect(letters.map(({ event }) => event["message"]).sort()).toEqual(["no time", "nul \u0000 byte", "refused"]);
    expect(letters.every(({ reason }) => /SQLSTATE 2[23]/.test(reason))).toBe(true);
  });
});

/** CopyDone (PostgreSQL 15, section 55.7): what the server commits behind. */
const END_OF_ROWS = "c\0\0\0\u0004";
const hasEndOfRows = (text: string) => text.includes(END_OF_ROWS);
/** Sync: where the server commits what it was asked before. */
const endsWithSync = (text: string) => text.endsWith("S\0\0\0\u0004");

/** Between a client and the server: hangs up on the client at a word that it says, before or after the server has it. */
class CuttingProxy {
  readonly port: number;
  cutBehind: ((text: string) => boolean) | undefined;
  cutBefore: ((text: string) => boolean) | undefined;
  /** From this word on nothing more comes through on its connection, and nobody is told. */
  swallowFrom: string | undefined;
  readonly #close: () => Promise<void>;

  private constructor(port: number, close: () => Promise<void>) {
    this.port = port;
    this.#close = close;
  }

  static async start(target: number): Promise<CuttingProxy> {
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      const upstream = connect(target, "127.0.0.1");
      let isSwallowed = false;
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.once("close", () => {
          if (isSwallowed) return;
          client.destroy();
          upstream.destroy();
        });
      }
      upstream.on("data", (bytes) => void client.write(bytes));
      client.on("data", (bytes) => {
        const text = bytes.toString("latin1");
        if (isSwallowed) return;
        if (proxy.swallowFrom !== undefined && text.includes(proxy.swallowFrom)) {
          proxy.swallowFrom = undefined;
          isSwallowed = true;
          return;
        }
        if (proxy.cutBefore?.(text)) {
          proxy.cutBefore = undefined;
          client.destroy();
          return;
        }
        if (!proxy.cutBehind?.(text)) return void upstream.write(bytes);
        proxy.cutBehind = undefined;
        // The server has it, and its answer finds nobody.
        upstream.removeAllListeners("data");
        upstream.once("data", () => client.destroy());
        upstream.write(bytes);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const proxy = new CuttingProxy(port, async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    });
    return proxy;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}
