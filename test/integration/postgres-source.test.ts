import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import type { EventFields } from "../../src/record/index.ts";
import { defineSink, delivered } from "../../src/stage/index.ts";
import { PostgresServer } from "../servers/postgres.ts";
import { postgresOrSkip } from "./postgres-or-skip.ts";
import { ServedAgent, until } from "./served-agent.ts";

let server: PostgresServer;
let client: pg.Client;
let tables = 0;
let table = "";

describe("postgres source", () => {
  postgresOrSkip();
  beforeAll(async () => {
    server = await PostgresServer.start(["fsync=off"]);
    client = await server.client();
  });
  afterAll(async () => {
    await client?.end();
    await server?.[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    table = `events_${++tables}`;
  });

  const agent = (events: EventFields[], source: object = {}) => {
    const target = defineSink({
      type: "target",
      summary: "Keeps events.",
      guarantee: "at_least_once",
      options: z.strictObject({}),
      open: async () => ({
        async write(batch) {
          events.push(...batch.records.map(({ event }) => event));
          return delivered();
        },
        async [Symbol.asyncDispose]() {},
      }),
    });
    return ServedAgent.start(
      {
        sources: {
          t: {
            type: "postgres",
            url: server.url(),
            table,
            cursor_column: "id",
            poll_interval_ms: 20,
            settle_ms: 50,
            ...source,
          },
        },
        sinks: { out: { type: "target", inputs: ["t"] } },
      },
      { sinks: [target] },
    );
  };

  it("brings each row as an event, in order, with the types that JSON has", async () => {
    await client.query(
      `CREATE TABLE "${table}" (id int PRIMARY KEY, message text, big bigint, exact numeric, deep jsonb, tags text[], at timestamptz, yes boolean, nothing text)`,
    );
    const events: EventFields[] = [];
    await using _served = await agent(events, { batch: 2 });
    await client.query(
      `INSERT INTO "${table}" VALUES (5, 'five', 9007199254740993, 1.10, '{"a":[1]}', '{x,y}', '2026-01-02T03:04:05.678Z', true, NULL), (3, 'three', 3, NULL, NULL, NULL, NULL, false, NULL), (70000, 'late', NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
    );
    await until(() => events.length === 3, "the rows");
    expect(events.map(({ id }) => id)).toEqual([3, 5, 70000]);
    expect(events[1]).toMatchObject({
      source: "t",
      message: "five",
      // No number of JSON could hold these two.
      big: "9007199254740993",
      exact: "1.10",
      deep: { a: [1] },
      tags: ["x", "y"],
      at: expect.stringMatching(/^2026-01-02T03:04:05\.678\+00:00$/),
      yes: true,
      nothing: null,
    });
    expect(events[0]).toMatchObject({ big: 3, exact: null, yes: false });
  });

  it("waits for a row that is committed after a later one, and passes one that never is", async () => {
    await client.query(`CREATE TABLE "${table}" (id bigserial PRIMARY KEY, message text)`);
    const events: EventFields[] = [];
    await using _served = await agent(events);
    const insert = `INSERT INTO "${table}" (message) VALUES ($1)`;
    const [slow, undone] = [await server.client(), await server.client()];
    await client.query(insert, ["one"]);
    // Between 0, where reading begins, and its value might come another one.
    await until(() => events.length === 1, "the first");
    await slow.query("BEGIN");
    await slow.query(insert, ["two"]);
    await undone.query("BEGIN");
    await undone.query(insert, ["three"]);
    await client.query(insert, ["four"]);
    // Long enough for a reader that does not mind gaps, and for settle_ms.
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(events.map(({ message }) => message)).toEqual(["one"]);
    await undone.query("ROLLBACK");
    await slow.query("COMMIT");
    await until(() => events.length >= 3, "the others");
    expect(events.map(({ message }) => message)).toEqual(["one", "two", "four"]);
    await slow.end();
    await undone.end();
  });

  it.each([
    ["there is no table", "", "id"],
    ["has no column", "id int PRIMARY KEY", "nr"],
    ["is text", "id text PRIMARY KEY", "id"],
    ["is timestamp", "id timestamptz PRIMARY KEY", "id"],
    ["is not unique", "id int NOT NULL", "id"],
    ["may be NULL", "id int UNIQUE", "id"],
    ["2^53", "id bigint PRIMARY KEY DEFAULT 9007199254740993", "id"],
    ["negative", "id int PRIMARY KEY DEFAULT -1", "id"],
  ])("refuses what has no order of positions: %s", async (words, columns, cursor) => {
    if (columns !== "") {
      await client.query(`CREATE TABLE "${table}" (${columns}, a int)`);
      if (columns.includes("DEFAULT")) await client.query(`INSERT INTO "${table}" (a) VALUES (1)`);
    }
    const served = await agent([], { cursor_column: cursor });
    const result = await served.ended!;
    expect(result.exitCode).toBe(1);
    expect(result.first?.error.message).toContain(words);
    await served[Symbol.asyncDispose]();
  });
});
