// Task handlers: how many tasks a second that do nothing, and how soon a task starts while all is idle.
//
//   node bench/queues/handlers.mjs [--tasks 50000] [--runs 3] [--workers 2] [--in-flight 1] [--only module,ruby,python,node] [--idle 500]
//
// The whole agent runs: an acknowledged source in memory, its channel, the sink's input, the dispatch channel, the workers,
// the settled records, the commits into a real store and the acknowledgement to the source; a task counts when that has
// come. Workers are started and warm before the clock starts. `floor` is the same workers without Tailrace around them: one
// message after the other to each, written and read in the shortest way there is.
// Start latency: from the source's send to the first line of the handler, by the clock that all processes share
// (CLOCK_MONOTONIC), with one task every 20 ms.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { Batch, defineSource, handlerSink, pipeline } from "tailrace";
import { z } from "zod";
import { Messages } from "../../dist/record/index.js";

const { values } = parseArgs({
  options: {
    tasks: { type: "string", default: "50000" },
    runs: { type: "string", default: "3" },
    workers: { type: "string", default: "2" },
    "in-flight": { type: "string", default: "1" },
    idle: { type: "string", default: "500" },
    only: { type: "string" },
  },
});
const [tasks, runs, workers, inFlight, idle] = ["tasks", "runs", "workers", "in-flight", "idle"].map((key) =>
  Number(values[key]),
);
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));
const clients = fileURLToPath(new URL("../../clients/", import.meta.url));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** What runs for each kind: options of the sink, and the same as a plain worker for the floor. */
const script = (name, text) => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const latencies = join(folder, "latencies");
mkdirSync(latencies);
// Each worker writes what it has measured when its input ends.
const kinds = {
  module: {
    module: script(
      "task.mjs",
      `import { appendFileSync } from "node:fs";
import { threadId } from "node:worker_threads";
export default (event) => {
  if (event.sent === undefined) return;
  const us = Number(process.hrtime.bigint() - BigInt(event.sent)) / 1000;
  setImmediate(() => appendFileSync(${JSON.stringify(latencies)} + "/thread" + threadId, us + "\\n"));
};`,
    ),
  },
  node: {
    command: [
      process.execPath,
      script(
        "worker.mjs",
        `import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
createInterface({ input: process.stdin }).on("line", (line) => {
  const { id, event } = JSON.parse(line);
  if (event.sent !== undefined) {
    const us = Number(process.hrtime.bigint() - BigInt(event.sent)) / 1000;
    setImmediate(() => appendFileSync(${JSON.stringify(latencies)} + "/" + process.pid, us + "\\n"));
  }
  process.stdout.write('{"id":' + JSON.stringify(id) + ',"ok":true}\\n');
});`,
      ),
    ],
  },
  ruby: {
    command: [
      "ruby",
      script(
        "worker.rb",
        `require "${clients}ruby/tailrace_handler"
took = []
at_exit { File.write("${latencies}/#{$$}", took.join("\\n") + "\\n") unless took.empty? }
TailraceHandler.run do |event|
  sent = event["sent"] or next
  took << (Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - sent.to_i) / 1000.0
end
`,
      ),
    ],
  },
  python: {
    command: [
      "python3",
      script(
        "worker.py",
        `import atexit, os, sys, time
sys.path.insert(0, "${clients}python")
from tailrace_handler import run
took = []
atexit.register(lambda: took and open(f"${latencies}/{os.getpid()}", "w").write("\\n".join(map(str, took)) + "\\n"))

def work(event, id, attempt):
    if "sent" in event:
        took.append((time.clock_gettime_ns(time.CLOCK_MONOTONIC) - int(event["sent"])) / 1000)

run(work)
`,
      ),
    ],
  },
};
const isThere = (kind) =>
  kinds[kind].module !== undefined || spawnSync(kinds[kind].command[0], ["--version"]).status === 0;
const wanted = (values.only?.split(",") ?? Object.keys(kinds)).filter((kind) => {
  if (!isThere(kind)) console.log(`${kind}: not installed`);
  return isThere(kind);
});

/** A source that sends what it is told to, and knows what was acknowledged. */
function queue() {
  let sender;
  let acknowledged = 0;
  let number = 0;
  let whenOpen;
  const open = new Promise((resolve) => {
    whenOpen = resolve;
  });
  const origin = {
    source: "queue",
    key: "queue",
    kind: "acknowledged",
    recordIdPrefix: "queue",
    file: undefined,
    onSettled: (ranges) => {
      for (const { start, end } of ranges) acknowledged += end - start;
    },
  };
  const source = defineSource({
    type: "bench_queue",
    summary: "Messages of a benchmark.",
    options: z.strictObject({}),
    replay: "acknowledged",
    async open(_options, context) {
      const ends = context.channel();
      sender = ends.sender;
      return {
        output: ends.receiver,
        run: ({ signal }) =>
          new Promise((resolve) => {
            whenOpen();
            signal.addEventListener("abort", () => {
              sender.close();
              resolve();
            });
          }),
        async [Symbol.asyncDispose]() {},
      };
    },
  });
  return {
    source,
    open,
    get acknowledged() {
      return acknowledged;
    },
    async send(events) {
      const messages = events.map((fields, index) => ({ number: number + index, body: Buffer.from("{}"), fields }));
      const range = { start: number, end: number + events.length };
      number = range.end;
      const read = new Messages(messages, { readAtMs: Date.now(), host: "bench" });
      const batch = Batch.ofMessages(origin, read, range, events.length * 100);
      if (sender.trySend(batch) !== "sent") await sender.send(batch);
    },
    async all() {
      while (acknowledged < number) await pause(1);
    },
  };
}

/** Runs an agent around `use`. */
async function withAgent(kind, use) {
  const own = queue();
  const stop = new AbortController();
  const stateDir = join(folder, `state-${Math.random()}`);
  const running = pipeline()
    .from(own.source, {})
    .into(handlerSink, { ...kinds[kind], concurrency: workers, max_in_flight: inFlight })
    .run({ stateDir, signal: stop.signal });
  await own.open;
  for (let n = 0; n < 20; n += 1) await own.send(Array.from({ length: 100 }, (_, index) => ({ n: index })));
  await own.all();
  try {
    return await use(own);
  } finally {
    stop.abort();
    await running;
  }
}

async function throughput(kind) {
  return withAgent(kind, async (own) => {
    const before = process.cpuUsage();
    const began = performance.now();
    for (let sent = 0; sent < tasks; sent += 100)
      await own.send(Array.from({ length: 100 }, (_, index) => ({ n: sent + index, kind: "no-op" })));
    await own.all();
    const seconds = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(before);
    return { perSecond: tasks / seconds, cpuMicros: (user + system) / tasks };
  });
}

async function latency(kind) {
  rmSync(latencies, { recursive: true, force: true });
  mkdirSync(latencies);
  await withAgent(kind, async (own) => {
    for (let n = 0; n < idle; n += 1) {
      await own.send([{ n, sent: String(process.hrtime.bigint()) }]);
      await pause(20);
    }
    await own.all();
  });
  const { stdout } = spawnSync("sh", ["-c", `cat ${latencies}/*`], { encoding: "utf8" });
  return stdout
    .trim()
    .split("\n")
    .map(Number)
    .sort((a, b) => a - b);
}

/** The same workers with nothing around them: each gets the next message when it has answered the last. */
async function floor(kind) {
  const { command, module } = kinds[kind];
  let left = tasks;
  const line = (n) => ({ id: `queue:${n}`, attempt: 1, event: { n, kind: "no-op" } });
  const began = [];
  const ended = Array.from({ length: workers }, async () => {
    const peer = module === undefined ? processPeer(command) : threadPeer(module);
    for (let n = 0; n < 1000; n += 1) await peer.ask(line(n));
    began.push(performance.now());
    while (left > 0) {
      left -= 1;
      await peer.ask(line(left));
    }
    await peer.end();
  });
  await Promise.all(ended);
  return tasks / ((performance.now() - Math.min(...began)) / 1000);
}

function processPeer([program, ...args]) {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  let answered;
  createInterface({ input: child.stdout }).on("line", (line) => {
    JSON.parse(line);
    answered();
  });
  return {
    ask: (message) =>
      new Promise((resolve) => {
        answered = resolve;
        child.stdin.write(`${JSON.stringify(message)}\n`);
      }),
    end: async () => child.stdin.end(),
  };
}

function threadPeer(module) {
  const text = `import(${JSON.stringify(module)}).then(({ default: run }) => {
    const { parentPort } = require("node:worker_threads");
    parentPort.on("message", (message) => { run(message.event); parentPort.postMessage({ id: message.id, ok: true }); });
  })`;
  const worker = new Worker(text, { eval: true });
  let answered;
  worker.on("message", () => answered());
  return {
    ask: (message) =>
      new Promise((resolve) => {
        answered = resolve;
        worker.postMessage(message);
      }),
    end: () => worker.terminate(),
  };
}

console.log(
  `${cpus().length} cores (${cpus()[0].model}), Node ${process.version}, ${tasks} tasks, ${workers} workers, ${inFlight} in flight each`,
);
try {
  for (const kind of wanted) {
    const measured = [];
    const floors = [];
    for (let run = 0; run < runs; run += 1) {
      measured.push(await throughput(kind));
      floors.push(await floor(kind));
    }
    const sorted = idle > 0 ? await latency(kind) : [];
    const at = (share) => (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] / 1000).toFixed(2);
    const perSecond = Math.round(median(measured.map((each) => each.perSecond)));
    const bare = Math.round(median(floors));
    console.log(
      [
        kind.padEnd(7),
        `${perSecond.toLocaleString("en")} tasks/s`,
        `${median(measured.map((each) => each.cpuMicros)).toFixed(0)} us CPU of the agent each`,
        `floor ${bare.toLocaleString("en")}/s (${Math.round((perSecond / bare) * 100)} %)`,
        sorted.length > 0 ? `start latency idle p50 ${at(0.5)} ms, p99 ${at(0.99)} ms (${sorted.length})` : "",
      ].join("  "),
    );
  }
} finally {
  if (existsSync(folder)) rmSync(folder, { recursive: true, force: true });
}
