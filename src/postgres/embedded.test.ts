import { describe, expect, it } from "vitest";
import { systemClock } from "../runtime/clock.ts";
import { PgSession } from "./session.ts";

const open = (name: string) =>
  PgSession.open(
    { url: "pglite:", applicationName: name, timeoutMs: 30_000, clock: systemClock },
    new AbortController().signal,
  );

describe("embedded database", () => {
  it("keeps the transactions of its sessions apart, and rolls back what one leaves open", async () => {
    const one = await open("one");
    const two = await open("two");
    await one.query("CREATE TABLE t (n bigint)");
    await one.batch(["BEGIN", "INSERT INTO t VALUES (1)"]);
    const count = two.query("SELECT count(*) FROM t");
    await one.query("INSERT INTO t VALUES ($1)", [2]);
    await one.batch(["COMMIT"]);
    expect((await count).rows).toEqual([["2"]]);
    await one.batch(["BEGIN", "INSERT INTO t VALUES (3)"]);
    one.destroy("the test");
    expect((await two.query("SELECT count(*) FROM t")).rows).toEqual([["2"]]);
    await expect(two.query("SELECT nope")).rejects.toMatchObject({ sqlState: "42703", kind: "lasting" });
    expect((await two.query("SELECT $1::text || 'b'", ["a"])).rows).toEqual([["ab"]]);
    await two.close();
  });

  it("has PGMQ, and notifies", async () => {
    const one = await open("one");
    const two = await open("two");
    const heard: string[] = [];
    two.onNotification((channel) => heard.push(channel));
    await one.batch(["CREATE EXTENSION IF NOT EXISTS pgmq", "SELECT pgmq.create('q')"]);
    await two.batch(['LISTEN "here"']);
    await one.batch(["NOTIFY here"]);
    await two.query("SELECT 1");
    expect(heard).toEqual(["here"]);
    await one.close();
    await two.close();
  });
});
