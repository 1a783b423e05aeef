import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PostgresServer } from "../servers/postgres.ts";
import { postgresOrSkip } from "./postgres-or-skip.ts";
import { ServedAgent, until } from "./served-agent.ts";

const clients = fileURLToPath(new URL("../../clients/", import.meta.url));
const program = spawnSync("ruby", ["--version"], { stdio: "ignore" }).status === 0 ? "ruby" : "python3";

/** Notes each message with its attempt; 7 always fails, 13 kills its worker, 21 is refused. */
const WORKERS: { readonly [program: string]: string } = {
  ruby: `require "${clients}ruby/tailrace_handler"
TailraceHandler.run do |event, id:, attempt:|
  raise "odd" if event["n"] == 7
  exit!(9) if event["n"] == 13
  raise TailraceHandler::Refused, "never" if event["n"] == 21
  File.open(ARGV[0], "a") { |file| file.write("#{event["n"]} #{attempt}\\n") }
end
`,
  python3: `import os, sys
sys.path.insert(0, "${clients}python")
from tailrace_handler import Refused, run

def work(event, id, attempt):
    if event["n"] == 7:
        raise RuntimeError("odd")
    if event["n"] == 13:
        os._exit(9)
    if event["n"] == 21:
        raise Refused("never")
    with open(sys.argv[1], "a") as file:
        file.write(f"{event['n']} {attempt}\\n")

run(work)
`,
};

describe("a handler of a pgmq queue", () => {
  postgresOrSkip();

  let server: PostgresServer;
  let client: pg.Client;

  beforeAll(async () => {
    server = await PostgresServer.start(["fsync=off"]);
    await server.installPgmq();
    client = await server.client();
    await client.query("SELECT pgmq.create('tasks')");
  });

  afterAll(async () => {
    await client?.end();
    await server?.[Symbol.asyncDispose]();
  });

  it("does each task once, archives each, and keeps what failed for good in the dead letters", async () => {
    const count = async (table: string) =>
      Number((await client.query(`SELECT count(*) AS n FROM pgmq.${table}_tasks`)).rows[0].n);
    const bodies = Array.from({ length: 500 }, (_, n) => JSON.stringify({ n }));
    await client.query("SELECT count(*) FROM pgmq.send_batch('tasks', $1::jsonb[])", [bodies]);
    // Somebody else has read task 5 twice, and died.
    await client.query("UPDATE pgmq.q_tasks SET read_ct = 2 WHERE msg_id = 6");
    await using served = await ServedAgent.start((folder) => {
      writeFileSync(join(folder, "worker"), WORKERS[program]!);
      return {
        sources: { q: { type: "pgmq", url: server.url(), queue: "tasks", poll_interval_ms: 50, batch: 50 } },
        sinks: {
          work: {
            type: "handler",
            inputs: ["q"],
            command: [program, join(folder, "worker"), join(folder, "done.txt")],
            max_attempts: 3,
            backoff: { initial_ms: 1, max_ms: 20 },
          },
        },
        checkpoint: { commit_interval_ms: 10 },
      };
    });
    await until(async () => (await count("a")) === 500, "every task to be archived");
    expect(await count("q")).toBe(0);
    const path = join(served.folder, "done.txt");
    const done = existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
    const failing = [7, 13, 21];
    const expected = Array.from({ length: 500 }, (_, n) => n)
      .filter((n) => !failing.includes(n))
      .map((n) => `${n} ${n === 5 ? 3 : 1}`);
    expect(done.sort()).toEqual(expected.sort());
    const letters = await served.agent.deadLetters(10);
    expect(letters.map(({ event, attempts }) => [(event as { n: number }).n, attempts]).sort()).toEqual([
      [13, 3],
      [21, 1],
      [7, 3],
    ]);
    // Once each by the queue's own count: nothing was given back and read again.
    const { rows } = await client.query("SELECT max(read_ct) AS reads FROM pgmq.a_tasks WHERE msg_id <> 6");
    expect(rows[0].reads).toBe(1);
  });
});
