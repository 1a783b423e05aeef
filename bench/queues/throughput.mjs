#!/usr/bin/env node
// Messages a second through Tailrace and Postgres, durable (fsync on) and with positions, beside what the plain client
// reaches on the same server with the same statements and nothing else to do.
//
//   node bench/queues/throughput.mjs [--messages 50000] [--rounds 5] [--only send,copy,read] [--batch 1000]
//
// Needs a build. `send` and `copy`: an agent runs all the time; in each round so many lines are appended to its file, and
// timed until its positions in the database say that it has all of them; then the plain client sends the very rows that the
// agent made, to a table or queue of its own that grows as that of the agent does. The round's ratio is of those two, and the
// median of the rounds is shown. The ceiling is what no agent can pass: one client, its rows made beforehand, as many in a
// transaction as the agent had on average (and no fewer than `--batch`), COMMIT waited for, no file read, nothing parsed,
// no positions. Every result is counted in the target before it counts.
//
// `read`: agents with --once; what an agent takes to start and end with nothing to do is measured and subtracted.
//
// On a machine with other work the CPU seconds (of Tailrace or the client, and of the server) tell more than the rates: they
// are what a message costs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { connect, cpuSeconds, startServer } from "./server.mjs";

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "50000" },
    rounds: { type: "string", default: "5" },
    only: { type: "string" },
    batch: { type: "string", default: "1000" },
  },
});
const MESSAGES = Number(values.messages);
const ROUNDS = Number(values.rounds);
const BATCH = Number(values.batch);
const TAILRACE = resolve(dirname(fileURLToPath(import.meta.url)), "../../bin/tailrace.js");
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-queues-"));
const line = (n) => `{"task":${n},"kind":"email","to":"somebody${n}@example.org","attempts":0,"note":"nothing to do"}`;
const wants = (name) => values.only === undefined || values.only.split(",").includes(name);

const server = await startServer();
const client = await connect(server.url);
let runs = 0;

/** An agent with --once. */
async function agent(config) {
  runs += 1;
  const path = join(folder, `${runs}.toml`);
  writeFileSync(path, `state_dir = "${join(folder, `state-${runs}`)}"\n[api]\nenabled = false\n${config}`);
  return measured(() => ended(spawnAgent(path, "--once")));
}

/** With `PROF`, a folder, profiles are left there. */
function spawnAgent(path, ...flags) {
  const node = process.env.PROF === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${process.env.PROF}`];
  return spawn(process.execPath, [...node, TAILRACE, "run", "-c", path, "--log-level", "warn", ...flags], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

async function ended(child) {
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`the agent ended with ${code}`);
}

/** Seconds, and CPU seconds of a process (this one with its children) and of the server. */
async function measured(work, pid = process.pid) {
  const before = { own: cpuSeconds(pid), server: server.cpuSeconds(), at: performance.now() };
  await work();
  const seconds = (performance.now() - before.at) / 1000;
  return { seconds, own: cpuSeconds(pid) - before.own, server: server.cpuSeconds() - before.server };
}

/**
 * An agent from a file into a sink, beside the plain client, in turns.
 * @param sink its configuration
 * @param madeBy gives what the agent has stored in a round, for the client to store
 * @param store stores some of it with the plain client, in one transaction
 */
async function beside(name, { title, sink, table, madeBy, store }) {
  const input = join(folder, `${name}.log`);
  const path = join(folder, `${name}.toml`);
  writeFileSync(input, "");
  writeFileSync(
    path,
    `state_dir = "${join(folder, `state-${name}`)}"\n[api]\nenabled = false\n${fileTo(input, sink)}`.replace(
      "[sinks.out]",
      `[sinks.${name}]`,
    ),
  );
  const child = spawnAgent(path);
  const exit = ended(child);
  const asked = async () => {
    const { rows } = await client.query(
      "SELECT max(prefix)::float8 AS prefix, max(generation)::float8 AS generation FROM tailrace.sinks JOIN tailrace.positions USING (sink) WHERE name = $1",
      [name],
    );
    return rows[0];
  };
  const until = async (bytes) => {
    while (((await asked()).prefix ?? 0) < bytes) await new Promise((resolve) => setTimeout(resolve, 50));
  };
  const rounds = [];
  let sent = 0;
  const text = (count) => Array.from({ length: count }, () => `${line(sent++)}\n`).join("");
  try {
    // The first lines make the table, and what is compiled late is compiled.
    appendFileSync(input, text(20_000));
    await until(statSync(input).size);
    await madeBy();
    for (let round = 0; round < ROUNDS; round += 1) {
      const lines = text(MESSAGES);
      const before = await asked();
      const took = await measured(async () => {
        appendFileSync(input, lines);
        await until(statSync(input).size);
      }, child.pid);
      const transactions = (await asked()).generation - before.generation;
      const { rows } = await client.query(`SELECT count(*)::int AS n FROM ${table}`);
      if (rows[0].n !== sent) throw new Error(`${table} holds ${rows[0].n} instead of ${sent}`);
      const made = await madeBy();
      if (made.length !== MESSAGES) throw new Error(`${made.length} instead of ${MESSAGES} rows are new`);
      const batch = Math.max(BATCH, Math.round(MESSAGES / transactions));
      const ceiling = await measured(async () => {
        for (let at = 0; at < MESSAGES; at += batch) await store(made.slice(at, at + batch));
      });
      rounds.push({ took, ceiling, transactions });
    }
  } finally {
    child.kill("SIGTERM");
    await exit;
  }
  const middle = (of) => rounds.map(of).sort((a, b) => a - b)[rounds.length >> 1];
  const middles = (which) => ({
    seconds: middle((round) => round[which].seconds),
    own: middle((round) => round[which].own),
    server: middle((round) => round[which].server),
  });
  const ratios = rounds.map(({ took, ceiling }) => ceiling.seconds / took.seconds);
  show(`client: ${title}`, middles("ceiling"));
  show(`tailrace: file -> json -> ${name}, exactly once`, middles("took"));
  console.log(
    `  ${middle(({ took, ceiling }) => ceiling.seconds / took.seconds).toFixed(2)} of the ceiling (rounds: ${ratios.map((ratio) => ratio.toFixed(2)).join(" ")}), ${Math.round(MESSAGES / middle(({ transactions }) => transactions))} messages a transaction`,
  );
}

const fileTo = (path, sink) =>
  `[sources.app]\ntype = "file"\ninclude = ["${path}"]\n[transforms.parse]\ntype = "json"\ninputs = ["app"]\n[sinks.out]\ninputs = ["parse"]\nurl = "${server.url}"\ncreate = true\n${sink}`;

async function expectCount(table) {
  const { rows } = await client.query(`SELECT count(*)::int AS n FROM ${table}`);
  if (rows[0].n !== MESSAGES) throw new Error(`${table} holds ${rows[0].n} instead of ${MESSAGES}`);
}

async function fill(queue) {
  await client.query("SELECT pgmq.create($1)", [queue]);
  await client.query(
    `INSERT INTO pgmq.q_${queue} (vt, message) SELECT now(), $1::jsonb || jsonb_build_object('task', n) FROM generate_series(1, ${MESSAGES}) n`,
    [line(0)],
  );
  await client.query(`VACUUM ANALYZE pgmq.q_${queue}`);
}

/** Without what an agent costs that has nothing to do. */
const without = (run, idle) => ({
  seconds: run.seconds - idle.seconds,
  own: run.own - idle.own,
  server: run.server - idle.server,
});

function show(name, run, ceiling) {
  const rate = (of) => MESSAGES / of.seconds;
  const micros = (of) => ((of / MESSAGES) * 1e6).toFixed(1).padStart(5);
  console.log(
    `${name.padEnd(50)} ${Math.round(rate(run)).toLocaleString("en").padStart(9)}/s, CPU us a message: own${micros(run.own)}, server${micros(run.server)}` +
      (ceiling === undefined ? "" : `; ${(rate(run) / rate(ceiling)).toFixed(2)} of the ceiling`),
  );
}

try {
  const empty = join(folder, "empty.log");
  writeFileSync(empty, "");
  // WAL segments are made once and then used again: whoever came first would pay for all.
  await client.query("CREATE TABLE warm AS SELECT repeat(md5(n::text), 20) AS text FROM generate_series(1, 1500000) n");
  await client.query("DROP TABLE warm");
  await client.query("CHECKPOINT");
  // Makes PGMQ as well.
  const idle = await agent(fileTo(empty, 'type = "pgmq"\nqueue = "idle"'));
  console.log(`an agent with nothing to do: ${idle.seconds.toFixed(2)} s; ${MESSAGES} messages a round`);

  if (wants("send")) {
    await client.query("SELECT pgmq.create('ceiling_send')");
    let last = 0;
    await beside("pgmq", {
      title: "send_batch",
      sink: 'type = "pgmq"\nqueue = "sent"',
      table: "pgmq.q_sent",
      async madeBy() {
        const { rows } = await client.query(
          "SELECT msg_id, message::text AS body FROM pgmq.q_sent WHERE msg_id > $1 ORDER BY msg_id",
          [last],
        );
        last = rows.at(-1).msg_id;
        return rows.map(({ body }) => body);
      },
      // The agent's own statement: of those that the bench tried the one that costs the server least.
      store: (bodies) =>
        client.query(
          "SELECT count(*) FROM pgmq.send_batch($1, ARRAY(SELECT line::jsonb FROM string_to_table($2, E'\\n') AS line))",
          ["ceiling_send", bodies.join("\n")],
        ),
    });
  }
  if (wants("copy")) {
    const own =
      'id text primary key, time timestamptz, source text, file text, "offset" bigint, message text, event jsonb';
    await client.query(`CREATE TABLE ceiling_copy (${own})`);
    let last = -1;
    await beside("postgres", {
      title: "COPY",
      sink: 'type = "postgres"\ntable = "copied"',
      table: "copied",
      async madeBy() {
        const { rows } = await client.query({
          text: 'SELECT id, time::text, source, file, "offset"::text, message, event::text FROM copied WHERE "offset" > $1 ORDER BY copied."offset"',
          values: [last],
          rowMode: "array",
        });
        last = Number(rows.at(-1)[4]);
        return rows.map((row) =>
          row.map((value) => (value === null ? "\\N" : value.replaceAll("\\", "\\\\"))).join("\t"),
        );
      },
      store: (rows) => copy(client, "COPY ceiling_copy FROM STDIN", rows),
    });
  }
  if (wants("read")) {
    await fill("ceiling_read");
    const readAndArchive = await measured(async () => {
      for (;;) {
        const { rows } = await client.query("SELECT msg_id, read_ct, message FROM pgmq.read('ceiling_read', 30, $1)", [
          BATCH,
        ]);
        if (rows.length === 0) break;
        await client.query("SELECT count(*) FROM pgmq.archive('ceiling_read', $1::bigint[])", [
          rows.map(({ msg_id }) => msg_id),
        ]);
      }
    });
    await expectCount("pgmq.a_ceiling_read");
    show("client: read + archive", readAndArchive);
    const source = (queue) =>
      `[sources.q]\ntype = "pgmq"\nurl = "${server.url}"\nqueue = "${queue}"\nbatch = ${BATCH}\n`;
    await fill("drained");
    const drained = await agent(`${source("drained")}[sinks.out]\ntype = "blackhole"\ninputs = ["q"]\n`);
    await expectCount("pgmq.a_drained");
    show("tailrace: pgmq -> blackhole, archived", without(drained, idle), readAndArchive);
    await fill("moved");
    const moved = await agent(
      `${source("moved")}[sinks.out]\ntype = "postgres"\ninputs = ["q"]\nurl = "${server.url}"\ntable = "moved"\ncreate = true\n`,
    );
    await expectCount("moved");
    await expectCount("pgmq.a_moved");
    show("tailrace: pgmq -> postgres, archived, once by id", without(moved, idle), readAndArchive);
  }
} finally {
  await client.end();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}

/** `COPY ... FROM STDIN` with nothing but the driver's own messages. */
function copy(client, statement, rows) {
  return new Promise((resolve, reject) => {
    client.query({
      callback() {},
      submit: (connection) => connection.query(statement),
      handleCopyInResponse(connection) {
        connection.sendCopyFromChunk(Buffer.from(`${rows.join("\n")}\n`));
        connection.endCopyFrom();
      },
      handleCommandComplete() {},
      handleError: reject,
      handleReadyForQuery: resolve,
    });
  });
}
