#!/usr/bin/env node
// Tasks that do nothing, on one PostgreSQL: how many a second, and how soon one starts while all is idle; Tailrace (pgmq
// source, handler sink with a module, archived on acknowledgement) beside graphile-worker and pg-boss, each with the
// concurrency that its documentation recommends for throughput.
//
//   npm install --no-save graphile-worker@0.16 pg-boss@10       (newer ones need a newer Node)
//   node bench/queues/task-queues.mjs [--tasks 20000] [--latency 100] [--only tailrace,graphile-worker,pg-boss]
//
// The tasks are in the database before the clock starts, and counted as done there. Latency: from the end of the statement
// that adds one task to the first line of its handler, one task every 50 ms; by one clock (CLOCK_MONOTONIC).
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { connect, startServer } from "./server.mjs";

const { values } = parseArgs({
  options: {
    tasks: { type: "string", default: "20000" },
    latency: { type: "string", default: "100" },
    only: { type: "string" },
  },
});
const TASKS = Number(values.tasks);
const LATENCY = Number(values.latency);
const TAILRACE = resolve(dirname(fileURLToPath(import.meta.url)), "../../bin/tailrace.js");
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-tasks-"));
const server = await startServer();
const client = await connect(server.url);
const pause = (ms) => new Promise((passed) => setTimeout(passed, ms));
const nowNs = () => process.hrtime.bigint();

/** Waits until `count()` says `wanted`; seconds since the call. */
async function until(count, wanted, limitSeconds = 120) {
  const startedAt = performance.now();
  while ((await count()) !== wanted) {
    if (performance.now() - startedAt > limitSeconds * 1000) throw new Error(`only ${await count()} of ${wanted}`);
    await pause(5);
  }
  return (performance.now() - startedAt) / 1000;
}

const count = async (table, where = "true") =>
  Number((await client.query(`SELECT count(*) AS n FROM ${table} WHERE ${where}`)).rows[0].n);

function percentiles(startedNs, addedNs) {
  const ms = startedNs.map((at, index) => Number(at - addedNs[index]) / 1e6).sort((a, b) => a - b);
  return { p50: ms[ms.length >> 1], p99: ms[Math.floor(ms.length * 0.99)] };
}

/** Adds tasks one by one; `started(n)` gives when the handler of task n began. */
async function latencyOf(add, started) {
  const added = [];
  for (let n = 0; n < LATENCY; n += 1) {
    await add(n);
    added.push(nowNs());
    await pause(50);
  }
  await pause(1000);
  return percentiles(
    Array.from({ length: LATENCY }, (_, n) => started(n)),
    added,
  );
}

async function tailrace() {
  const log = join(folder, "started");
  const module = join(folder, "task.mjs");
  writeFileSync(
    module,
    `import { appendFileSync } from "node:fs";\nexport default ({ latency }) => { if (latency !== undefined) appendFileSync(${JSON.stringify(log)}, latency + " " + process.hrtime.bigint() + "\\n"); };\n`,
  );
  const start = async (queue) => {
    const path = join(folder, `${queue}.toml`);
    writeFileSync(
      path,
      `state_dir = "${join(folder, `state-${queue}`)}"\n[api]\nenabled = false\n[sources.q]\ntype = "pgmq"\nurl = "${server.url}"\nqueue = "${queue}"\nbatch = 1000\nenable_notify = true\n[sinks.work]\ntype = "handler"\ninputs = ["q"]\nmodule = "${module}"\nconcurrency = 2\nmax_in_flight = 100\n`,
    );
    const child = spawn(process.execPath, [TAILRACE, "run", "-c", path, "--log-level", "warn"], { stdio: "inherit" });
    return {
      async stop() {
        child.kill("SIGTERM");
        await once(child, "exit");
      },
    };
  };
  // The agent makes PGMQ; a queue that is empty first, so that what starting takes is not counted.
  const warm = join(folder, "warm.toml");
  writeFileSync(
    warm,
    `state_dir = "${join(folder, "state-warm")}"\n[api]\nenabled = false\n[sources.none]\ntype = "file"\ninclude = ["${folder}/none"]\n[sinks.q]\ntype = "pgmq"\ninputs = ["none"]\nurl = "${server.url}"\nqueue = "warm"\ncreate = true\n`,
  );
  const [code] = await once(
    spawn(process.execPath, [TAILRACE, "run", "-c", warm, "--once", "--log-level", "warn"], { stdio: "inherit" }),
    "exit",
  );
  if (code !== 0) throw new Error("PGMQ cannot be made");
  await client.query("SELECT pgmq.create('tasks')");
  const agent = await start("tasks");
  await client.query("SELECT pgmq.send('tasks', '{}')");
  await until(() => count("pgmq.a_tasks"), 1);
  await client.query(
    `INSERT INTO pgmq.q_tasks (vt, message) SELECT now(), '{}'::jsonb FROM generate_series(1, ${TASKS})`,
  );
  const seconds = await until(() => count("pgmq.a_tasks"), TASKS + 1);
  const latency = await latencyOf(
    (n) => client.query("SELECT pgmq.send('tasks', $1)", [JSON.stringify({ latency: n })]),
    (n) => {
      if (!existsSync(log)) throw new Error("no task has started");
      const line = readFileSync(log, "utf8")
        .split("\n")
        .find((text) => text.startsWith(`${n} `));
      return BigInt(line.split(" ")[1]);
    },
  );
  await agent.stop();
  return { seconds, latency };
}

async function graphileWorker() {
  const { run, quickAddJob } = await import("graphile-worker");
  const started = new Map();
  const options = {
    connectionString: server.url,
    concurrency: 20,
    maxPoolSize: 22,
    noHandleSignals: true,
    logger: await silent(),
    preset: { worker: { concurrentJobs: 20 } },
  };
  const taskList = { nothing: ({ latency }) => void (latency === undefined || started.set(latency, nowNs())) };
  await quickAddJob({ connectionString: server.url, logger: options.logger }, "nothing", {});
  const runner = await run({ ...options, taskList });
  await until(() => count("graphile_worker._private_jobs"), 0);
  await client.query(`SELECT count(graphile_worker.add_job('nothing', '{}'::json)) FROM generate_series(1, ${TASKS})`);
  const seconds = await until(() => count("graphile_worker._private_jobs"), 0);
  const latency = await latencyOf(
    (n) => client.query("SELECT graphile_worker.add_job('nothing', $1::json)", [JSON.stringify({ latency: n })]),
    (n) => started.get(n),
  );
  await runner.stop();
  return { seconds, latency };
}

async function silent() {
  const { Logger } = await import("graphile-worker");
  return new Logger(() => () => {});
}

async function pgBoss() {
  const { default: PgBoss } = await import("pg-boss");
  const boss = new PgBoss({ connectionString: server.url, supervise: false, schedule: false });
  boss.on("error", () => {});
  await boss.start();
  await boss.createQueue("nothing");
  const started = new Map();
  await boss.insert(Array.from({ length: TASKS }, () => ({ name: "nothing", data: {} })));
  const startedAt = performance.now();
  await boss.work("nothing", { batchSize: 1000, pollingIntervalSeconds: 0.5 }, async (jobs) => {
    for (const { data } of jobs) if (data.latency !== undefined) started.set(data.latency, nowNs());
  });
  await until(() => count("pgboss.job", "name = 'nothing' AND state = 'completed'"), TASKS);
  const seconds = (performance.now() - startedAt) / 1000;
  const latency = await latencyOf(
    (n) => boss.send("nothing", { latency: n }),
    (n) => started.get(n),
  );
  await boss.stop({ graceful: false });
  return { seconds, latency };
}

const engines = { tailrace, "graphile-worker": graphileWorker, "pg-boss": pgBoss };
const wanted = values.only?.split(",") ?? Object.keys(engines);
let own;
try {
  console.log(`${TASKS} tasks that do nothing; start latency of ${LATENCY} more, one every 50 ms`);
  for (const name of wanted) {
    try {
      const { seconds, latency } = await engines[name]();
      const rate = TASKS / seconds;
      if (name === "tailrace") own = rate;
      const ratio = own === undefined || name === "tailrace" ? "" : `  tailrace: ${(own / rate).toFixed(2)}x`;
      console.log(
        `${name.padEnd(16)} ${Math.round(rate).toLocaleString("en").padStart(8)} tasks/s  start p50 ${latency.p50.toFixed(1)} ms, p99 ${latency.p99.toFixed(1)} ms${ratio}`,
      );
    } catch (error) {
      if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
      console.log(`${name}: not installed, left out`);
    }
  }
} finally {
  await client.end();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
