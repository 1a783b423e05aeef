#!/usr/bin/env node
// Messages a second through Tailrace and Postgres, durable (fsync on) and with positions, beside what the plain client
// reaches on the same server with the same statements and nothing else to do.
//
//   node bench/queues/throughput.mjs [--messages 200000] [--only NAME]
//
// Needs a build. Agents run as processes with --once; what an agent takes to start and end with nothing to do is measured
// and subtracted. Every result is counted in the target before it counts.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { connect, startServer } from "./server.mjs";

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

/** Seconds that an agent takes with --once. */
async function agent(config) {
  runs += 1;
  const path = join(folder, `${runs}.toml`);
  writeFileSync(path, `state_dir = "${join(folder, `state-${runs}`)}"\n[api]\nenabled = false\n${config}`);
  const startedAt = performance.now();
  const child = spawn(process.execPath, [...(process.env.PROF ? ["--cpu-prof", "--cpu-prof-dir=" + process.env.PROF] : []), TAILRACE, "run", "-c", path, "--once", "--log-level", "warn"], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`the agent ended with ${code}`);
  return (performance.now() - startedAt) / 1000;
}

async function seconds(work) {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
}

async function expectCount(table) {
  const { rows } = await client.query(`SELECT count(*)::int AS n FROM ${table}`);
  if (rows[0].n !== MESSAGES) throw new Error(`${table} holds ${rows[0].n} instead of ${MESSAGES}`);
}

async function fill(queue) {
  await client.query("SELECT pgmq.create($1)", [queue]);
  await client.query(`INSERT INTO pgmq.q_${queue} (vt, message) SELECT now(), $1::jsonb || jsonb_build_object('task', n) FROM generate_series(1, ${MESSAGES}) n`, [line(0)]);
  await client.query(`VACUUM ANALYZE pgmq.q_${queue}`);
}

const rate = (secs) => MESSAGES / secs;
const show = (name, perSecond, ceiling) =>
  console.log(
    `${name.padEnd(52)} ${Math.round(perSecond).toLocaleString("en").padStart(10)}/s` +
      (ceiling === undefined ? "" : `  ${(perSecond / ceiling).toFixed(2)} of the ceiling`),
  );

try {
  const lines = Array.from({ length: MESSAGES }, (_, n) => line(n));
  writeFileSync(input, `${lines.join("\n")}\n`);
  const empty = join(folder, "empty.log");
  writeFileSync(empty, "");
  const fileTo = (path, sink) =>
    `[sources.app]\ntype = "file"\ninclude = ["${path}"]\n[transforms.parse]\ntype = "json"\ninputs = ["app"]\n[sinks.out]\ninputs = ["parse"]\nurl = "${server.url}"\ncreate = true\n${sink}`;
  // Makes PGMQ as well.
  const idle = await agent(fileTo(empty, 'type = "pgmq"\nqueue = "idle"'));
  console.log(`an agent with nothing to do: ${idle.toFixed(2)} s; ${MESSAGES} messages`);

  if (wants("send")) {
    await client.query("SELECT pgmq.create('ceiling_send')");
    const sent = await seconds(async () => {
      for (let at = 0; at < MESSAGES; at += BATCH)
        await client.query("SELECT count(*) FROM pgmq.send_batch('ceiling_send', $1::jsonb[])", [lines.slice(at, at + BATCH)]);
    });
    show("client: send_batch", rate(sent));
    const took = await agent(fileTo(input, 'type = "pgmq"\nqueue = "sent"'));
    await expectCount("pgmq.q_sent");
    show("tailrace: file -> json -> pgmq, exactly once", rate(took - idle), rate(sent));
  }
  if (wants("copy")) {
    const own = 'id text primary key, time timestamptz, source text, file text, "offset" bigint, message text, event jsonb';
    await client.query(`CREATE TABLE ceiling_copy (${own})`);
    const took = await agent(fileTo(input, 'type = "postgres"\ntable = "copied"'));
    await expectCount("copied");
    // The ceiling copies the very rows that the agent made, in one transaction for each thousand.
    const { rows } = await client.query({ text: "SELECT id, time::text, source, file, \"offset\"::text, message, event::text FROM copied", rowMode: "array" });
    const text = rows.map((row) => row.map((value) => (value === null ? "\\N" : value.replaceAll("\\", "\\\\"))).join("\t"));
    const copied = await seconds(async () => {
      for (let at = 0; at < MESSAGES; at += BATCH) await copy(client, "COPY ceiling_copy FROM STDIN", text.slice(at, at + BATCH));
    });
    show("client: COPY", rate(copied));
    show("tailrace: file -> json -> postgres, exactly once", rate(took - idle), rate(copied));
  }
  if (wants("read")) {
    await fill("ceiling_read");
    const readAndArchive = await seconds(async () => {
      for (;;) {
        const { rows } = await client.query("SELECT msg_id, read_ct, message FROM pgmq.read('ceiling_read', 30, $1)", [BATCH]);
        if (rows.length === 0) break;
        await client.query("SELECT count(*) FROM pgmq.archive('ceiling_read', $1::bigint[])", [rows.map(({ msg_id }) => msg_id)]);
      }
    });
    await expectCount("pgmq.a_ceiling_read");
    show("client: read + archive", rate(readAndArchive));
    const source = (queue) => `[sources.q]\ntype = "pgmq"\nurl = "${server.url}"\nqueue = "${queue}"\nbatch = ${BATCH}\n`;
    await fill("drained");
    const drained = await agent(`${source("drained")}[sinks.out]\ntype = "blackhole"\ninputs = ["q"]\n`);
    await expectCount("pgmq.a_drained");
    show("tailrace: pgmq -> blackhole, archived", rate(drained - idle), rate(readAndArchive));
    await fill("moved");
    const moved = await agent(
      `${source("moved")}[sinks.out]\ntype = "postgres"\ninputs = ["q"]\nurl = "${server.url}"\ntable = "moved"\ncreate = true\n`,
    );
    await expectCount("moved");
    await expectCount("pgmq.a_moved");
    show("tailrace: pgmq -> postgres, archived, once by id", rate(moved - idle), rate(readAndArchive));
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
