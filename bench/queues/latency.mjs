#!/usr/bin/env node
// Start latency of an idle queue: from before a message is sent until the sink has it, over a PGMQ queue that notifies.
//
//   node bench/queues/latency.mjs [--messages 100]
//
// Needs a build. The sink is a TCP connection to this process, so that the way back is in the figures. Messages are sent one
// at a time, at least 300 ms apart: PGMQ notifies once in 250 ms at most.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { connect, startServer } from "./server.mjs";

const { values } = parseArgs({ options: { messages: { type: "string", default: "100" } } });
const TAILRACE = resolve(dirname(fileURLToPath(import.meta.url)), "../../bin/tailrace.js");
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-latency-"));
const server = await startServer();
const client = await connect(server.url);

let arrived = () => {};
const target = createServer((socket) => createInterface({ input: socket }).on("line", () => arrived()));
target.listen(0, "127.0.0.1");
await once(target, "listening");

function agent(name, config, ...flags) {
  const path = join(folder, `${name}.toml`);
  writeFileSync(path, `state_dir = "${join(folder, name)}"\n[api]\nenabled = false\n${config}`);
  return spawn(process.execPath, [TAILRACE, "run", "-c", path, "--log-level", "warn", ...flags], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

try {
  const made = agent(
    "make",
    `[sources.none]\ntype = "file"\ninclude = ["${folder}/none"]\n[sinks.q]\ntype = "pgmq"\ninputs = ["none"]\nurl = "${server.url}"\nqueue = "tasks"\ncreate = true\n`,
    "--once",
  );
  await once(made, "exit");
  const child = agent(
    "read",
    `[sources.q]\ntype = "pgmq"\nurl = "${server.url}"\nqueue = "tasks"\nenable_notify = true\npoll_interval_ms = 60000\n[sinks.out]\ntype = "tcp"\ninputs = ["q"]\naddress = "127.0.0.1:${target.address().port}"\n`,
  );
  const took = [];
  // The first few warm it up, and are waited for however long it takes to start.
  for (let message = -5; message < Number(values.messages); message += 1) {
    const startedAt = performance.now();
    const received = new Promise((resolve) => {
      arrived = resolve;
    });
    await client.query("SELECT pgmq.send('tasks', '{\"n\":1}')");
    await received;
    if (message >= 0) took.push(performance.now() - startedAt);
    await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 200));
  }
  child.kill("SIGTERM");
  await once(child, "exit");
  took.sort((a, b) => a - b);
  const at = (fraction) => took[Math.min(took.length - 1, Math.floor(took.length * fraction))].toFixed(1);
  console.log(`send to sink, idle, ${took.length} messages: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms`);
} finally {
  target.close();
  await client.end();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
