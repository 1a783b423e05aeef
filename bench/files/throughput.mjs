// File to file: how fast, with how much CPU and memory, beside the peers that are installed, with `cp` as the floor.
//
//   node bench/files/throughput.mjs [--case raw|json] [--mib 1024] [--line-bytes 200] [--runs 5] [--only tailrace,rsyslog]
//        [--threads 2]
//
// One data set, interleaved runs, medians; the first round warms the page cache and is not counted. Every output is
// compared with the input byte by byte (raw), or line by line count (json: parse, add a field, write). Tailrace calls
// fdatasync before each commit, the peers never do. CPU seconds are of the whole process.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { countLines, fill, median, pause, sha, usage } from "./measure.mjs";
import { peers } from "./peers.mjs";

const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "1024" },
    runs: { type: "string", default: "5" },
    case: { type: "string", default: "raw" },
    only: { type: "string" },
    "line-bytes": { type: "string", default: "200" },
    more: { type: "string", default: "" },
    threads: { type: "string" },
  },
});
const isJson = values.case === "json";
const runs = Number(values.runs);
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));
const input = join(folder, "input.log");

/** Starts a collector, waits until its output has stopped growing, takes its figures, stops it. */
async function collect(start, output, expectedBytes) {
  const began = performance.now();
  const child = start();
  let exited = false;
  child.on("exit", () => {
    exited = true;
  });
  let size = -1;
  let endedAt = began;
  let figures = { cpuSeconds: 0, peakMiB: 0 };
  const look = () => {
    try {
      figures = usage(child.pid);
    } catch {
      // It has ended by itself (cp): the last look counts.
    }
  };
  while (!exited) {
    await pause(10);
    const now = existsSync(output) ? statSync(output).size : -1;
    if (now !== size) {
      size = now;
      endedAt = performance.now();
    }
    look();
    if (expectedBytes !== undefined && size >= expectedBytes) break;
    if (size > 0 && performance.now() - endedAt > 2000) break;
    if (performance.now() - began > 300_000) throw new Error("no end after 300 s");
  }
  // The commit behind the last byte belongs to the work.
  if (!exited) {
    await pause(150);
    look();
    child.kill("SIGTERM");
    await Promise.race([once(child, "exit"), pause(5000)]);
    child.kill("SIGKILL");
  }
  return { seconds: (endedAt - began) / 1000, ...figures };
}

const lines = await fill(input, { mib: Number(values.mib), lineBytes: Number(values["line-bytes"]), isJson });
const inputBytes = statSync(input).size;
const inputHash = isJson ? undefined : await sha(input);
const only = values.only?.split(",");
const floor = { name: "cp", start: ({ output }) => spawn("cp", [input, output], { stdio: "ignore" }) };
const found = [...(isJson || (only && !only.includes("cp")) ? [] : [floor]), ...peers({ only })].map((peer) => ({
  ...peer,
  results: [],
}));
const threads = Number(values.threads ?? 0);
if (threads > 0) {
  const { start } = found.find(({ name }) => name === "tailrace");
  found.push({ name: `threads: ${threads}`, start: (job) => start({ ...job, threads }), results: [] });
}
console.log(
  `${values.case}: ${cpus().length} cores, Node ${process.version}, ${(inputBytes / 1048576).toFixed(0)} MiB, ${lines} lines, ${runs} interleaved runs`,
);
try {
  for (let run = -1; run < runs; run += 1) {
    for (const { name, start, results } of found) {
      const work = join(folder, `${name}-${run}`);
      mkdirSync(work);
      const output = join(work, "out.log");
      const job = { work, input, output, isJson, more: values.more };
      const result = await collect(() => start(job), output, isJson ? undefined : inputBytes);
      const isWhole = isJson ? countLines(output) === lines : (await sha(output)) === inputHash;
      if (!isWhole) console.log(`${name}: the output is not the input (${countLines(output)} of ${lines} lines)`);
      if (run >= 0) results.push(result);
      rmSync(work, { recursive: true, force: true });
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const of = (results, what) => median(results.map((result) => result[what]));
const own = found.find(({ name }) => name === "tailrace");
for (const { name, results } of found) {
  const [seconds, cpu, peak] = ["seconds", "cpuSeconds", "peakMiB"].map((what) => of(results, what));
  const ratio = own === undefined ? "" : `  tailrace: ${(seconds / of(own.results, "seconds")).toFixed(2)}x the speed`;
  const less = own === undefined ? "" : `, ${(of(own.results, "cpuSeconds") / cpu).toFixed(2)}x the CPU`;
  console.log(
    `${name.padEnd(10)} ${(inputBytes / 1e6 / seconds).toFixed(0).padStart(5)} MB/s  ${seconds.toFixed(2)} s  ${cpu.toFixed(2)} CPU s  ${peak.toFixed(0)} MiB${ratio}${less}`,
  );
}
