#!/usr/bin/env node
// Messages a second through Tailrace and Postgres, durable (fsync on) and with positions, beside what the plain client
// reaches on the same server with the same statements and nothing else to do.
//
//   node bench/queues/throughput.mjs [--messages 200000] [--only NAME]
//
// Needs a build. Agents run as processes with --once; what an agent takes to start and end with nothing to do is measured
// and subtracted. Every result is counted in the target before it counts. On a machine with other work the CPU seconds (of
// Tailrace or the client, and of the server) tell more than the rates: they are what a message costs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { connect, cpuSeconds, startServer } from "./server.mjs";

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "200000" },
    only: { type: "string" },
    batch: { type: "string", default: "1000" },
  },
});
const MESSAGES = Number(values.messages);
const BATCH = Number(values.batch);
const TAILRACE = resolve(dirname(fileURLToPath(import.meta.url)), "../../bin/tailrace.js");
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-queues-"));
const input = join(folder, "input.log");
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
  const flags = process.env.PROF === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${process.env.PROF}`];
  return measured(async () => {
    const child = spawn(process.execPath, [...flags, TAILRACE, "run", "-c", path, "--once", "--log-level", "warn"], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    const [code] = await once(child, "exit");
    if (code !== 0) throw new Error(`the agent ended with ${code}`);
  });
}

/** Seconds, and CPU seconds of this process with its children and of the server. */
async function measured(work) {
  const before = { own: cpuSeconds(process.pid), server: server.cpuSeconds(), at: performance.now() };
  await work();
  const seconds = (performance.now() - before.at) / 1000;
  return { seconds, own: cpuSeconds(process.pid) - before.own, server: server.cpuSeconds() - before.server };
}

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
  const lines = Array.from({ length: MESSAGES }, (_, n) => line(n));
  writeFileSync(input, `${lines.join("\n")}\n`);
  const empty = join(folder, "empty.log");
  writeFileSync(empty, "");
  const fileTo = (path, sink) =>
    `[sources.app]\ntype = "file"\ninclude = ["${path}"]\n[transforms.parse]\ntype = "json"\ninputs = ["app"]\n[sinks.out]\ninputs = ["parse"]\nurl = "${server.url}"\ncreate = true\n${sink}`;
  // WAL segments are made once and then used again: whoever came first would pay for all.
  await client.query("CREATE TABLE warm AS SELECT repeat(md5(n::text), 20) AS text FROM generate_series(1, 1500000) n");
  await client.query("DROP TABLE warm");
  await client.query("CHECKPOINT");
  // Makes PGMQ as well.
  const idle = await agent(fileTo(empty, 'type = "pgmq"\nqueue = "idle"'));
  console.log(`an agent with nothing to do: ${idle.seconds.toFixed(2)} s; ${MESSAGES} messages`);

  if (wants("send")) {
    const took = await agent(fileTo(input, 'type = "pgmq"\nqueue = "sent"'));
    await expectCount("pgmq.q_sent");
    // The ceiling sends the very messages that the agent made.
    const { rows } = await client.query("SELECT message::text AS body FROM pgmq.q_sent ORDER BY msg_id");
    const bodies = rows.map(({ body }) => body);
    await client.query("SELECT pgmq.create('ceiling_send')");
    const sent = await measured(async () => {
      for (let at = 0; at < MESSAGES; at += BATCH)
        await client.query("SELECT count(*) FROM pgmq.send_batch('ceiling_send', $1::jsonb[])", [
          bodies.slice(at, at + BATCH),
        ]);
    });
    show("client: send_batch", sent);
    show("tailrace: file -> json -> pgmq, exactly once", without(took, idle), sent);
  }
  if (wants("copy")) {
    const own =
      'id text primary key, time timestamptz, source text, file text, "offset" bigint, message text, event jsonb';
    await client.query(`CREATE TABLE ceiling_copy (${own})`);
    const took = await agent(fileTo(input, 'type = "postgres"\ntable = "copied"'));
    await expectCount("copied");
    // The ceiling copies the very rows that the agent made, in one transaction for each thousand.
    const { rows } = await client.query({
      text: 'SELECT id, time::text, source, file, "offset"::text, message, event::text FROM copied',
      rowMode: "array",
    });
    const text = rows.map((row) =>
      row.map((value) => (value === null ? "\\N" : value.replaceAll("\\", "\\\\"))).join("\t"),
    );
    const copied = await measured(async () => {
      for (let at = 0; at < MESSAGES; at += BATCH)
        await copy(client, "COPY ceiling_copy FROM STDIN", text.slice(at, at + BATCH));
    });
    show("client: COPY", copied);
    show("tailrace: file -> json -> postgres, exactly once", without(took, idle), copied);
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
