// File to file, beside the peers that are installed: tailrace, rsyslog, syslog-ng, Fluent Bit, Vector, and `cp` as the floor.
//
//   node bench/files/throughput.mjs [--mib 1024] [--runs 5] [--case raw|json] [--only tailrace,rsyslog]
//
// One data set, interleaved runs, medians. Every output is verified line by line against the input (raw case), or by its
// number of lines (json case: parse + add a field + write). Tailrace calls fdatasync before each commit; the peers do not
// sync at all. CPU seconds are of the whole process (user + system), memory is its peak resident size.
// syslog-ng conflicts with rsyslog as a Debian package; TAILRACE_BENCH_SYSLOG_NG may name an unpacked one.
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "1024" },
    runs: { type: "string", default: "5" },
    case: { type: "string", default: "raw" },
    only: { type: "string" },
    "line-bytes": { type: "string", default: "200" },
    config: { type: "string", default: "" },
  },
});
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const mib = Number(values.mib);
const runs = Number(values.runs);
const isJson = values.case === "json";
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));
const input = join(folder, "input.log");
const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

async function makeInput() {
  const out = createWriteStream(input);
  const lineBytes = Number(values["line-bytes"]);
  let written = 0;
  let lines = 0;
  while (written < mib * 1048576) {
    let block = "";
    while (block.length < 1048576) {
      const head = isJson
        ? `{"ts":"2026-01-01T00:00:00.000Z","seq":${lines},"level":"${lines % 7 === 0 ? "error" : "info"}","service":"checkout","status":${200 + (lines % 5)},"msg":"`
        : `${lines} 2026-01-01T00:00:00.000Z host app[${lines % 1000}]: `;
      const tail = isJson ? '"}' : "";
      block += `${head}${"abcdefghij klmnopqrst uvwxyz 0123456789 ".repeat(12).slice(0, Math.max(1, lineBytes - head.length - tail.length - 1))}${tail}\n`;
      lines += 1;
    }
    written += block.length;
    if (!out.write(block)) await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
  return lines;
}

/** Resource use of a live process, from proc(5). */
function usage(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return { cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS, peakMiB: Number(peak?.[1] ?? 0) / 1024 };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const which = (name) => {
  try {
    return execFileSync("sh", ["-c", `PATH=$PATH:/usr/sbin:/opt/fluent-bit/bin command -v ${name}`], {
      encoding: "utf8",
    }).trim();
  } catch {
    return undefined;
  }
};

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
  for (;;) {
    await pause(10);
    if (exited) break;
    const now = existsSync(output) ? statSync(output).size : -1;
    if (now !== size) {
      size = now;
      endedAt = performance.now();
    }
    try {
      figures = usage(child.pid);
    } catch {
      break;
    }
    if (expectedBytes !== undefined && size >= expectedBytes) break;
    if (size > 0 && performance.now() - endedAt > 2000) break;
    if (performance.now() - began > 300_000) throw new Error("no end after 300 s");
  }
  // The commit behind the last byte belongs to the work.
  if (!exited) {
    await pause(150);
    try {
      figures = usage(child.pid);
    } catch {
      // It has ended by itself meanwhile (cp): the last look counts.
    }
    child.kill("SIGTERM");
    await Promise.race([once(child, "exit"), pause(5000)]);
    child.kill("SIGKILL");
  }
  return { seconds: (endedAt - began) / 1000, ...figures };
}

async function sha(path) {
  const hash = createHash("sha1");
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(part);
  return hash.digest("hex");
}

function countLines(path) {
  return Number(execFileSync("wc", ["-l", path], { encoding: "utf8" }).trim().split(" ")[0]);
}

const quiet = { stdio: ["ignore", "ignore", "ignore"] };
const peers = {
  cp: () => ({ output: join(folder, "cp.out"), start: (_work, output) => spawn("cp", [input, output], quiet) }),
  tailrace: () => ({
    start(work, output) {
      const config = join(work, "tailrace.toml");
      const transforms = isJson
        ? `[transforms.parse]\ntype = "json"\ninputs = ["in"]\n[transforms.add]\ntype = "map"\ninputs = ["parse"]\nmodule = "${work}/add.mjs"\n`
        : "";
      writeFileSync(join(work, "add.mjs"), "export default (event) => { event.added = 'yes'; return event; };\n");
      writeFileSync(
        config,
        `state_dir = "${work}/state"\n[api]\nenabled = false\n[sources.in]\ntype = "file"\ninclude = ["${input}"]\n${transforms}[sinks.out]\ntype = "file"\ninputs = ["${isJson ? "add" : "in"}"]\npath = "${output}"\nencoding = "${isJson ? "json" : "raw"}"\n${values.config}\n`,
      );
      return spawn(process.execPath, [join(root, "bin/tailrace.js"), "run", "-c", config, "--log-level", "error"], {
        stdio: ["ignore", "ignore", "inherit"],
      });
    },
  }),
  rsyslog: () => {
    const rsyslogd = which("rsyslogd");
    if (!rsyslogd) return undefined;
    return {
      start(work, output) {
        const config = join(work, "rsyslog.conf");
        const parse = isJson ? 'module(load="mmjsonparse")\n' : "";
        const action = isJson
          ? `template(name="out" type="list") { property(name="$!all-json-plain") constant(value="\\n") }\nruleset(name="r") { action(type="mmjsonparse" cookie="") set $!added = "yes"; action(type="omfile" file="${output}" template="out" ioBufferSize="256k" asyncWriting="off" flushOnTXEnd="off") }\n`
          : `template(name="out" type="string" string="%msg%\\n")\nruleset(name="r") { action(type="omfile" file="${output}" template="out" ioBufferSize="256k" flushOnTXEnd="off") }\n`;
        writeFileSync(
          config,
          `global(workDirectory="${work}" maxMessageSize="64k")\nmain_queue(queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="2048")\nmodule(load="imfile" mode="inotify")\n${parse}${action}input(type="imfile" file="${input}" tag="x" ruleset="r" readMode="0")\n`,
        );
        return spawn(rsyslogd, ["-n", "-f", config, "-i", join(work, "pid")], quiet);
      },
    };
  },
  "syslog-ng": () => {
    const home = process.env.TAILRACE_BENCH_SYSLOG_NG;
    const program = home ? join(home, "usr/sbin/syslog-ng") : which("syslog-ng");
    if (!program) return undefined;
    return {
      start(work, output) {
        const config = join(work, "syslog-ng.conf");
        const parser = isJson
          ? 'parser p { json-parser(prefix(".j.")); };\nrewrite w { set("yes" value(".j.added")); };\n'
          : "";
        const template = isJson ? "$(format-json --key .j.* --shift-levels 2)\\n" : "$MSG\\n";
        writeFileSync(
          config,
          `@version: 3.35\noptions { flush-lines(1000); log-msg-size(65536); stats-freq(0); };\nsource s { file("${input}" flags(no-parse) follow-freq(0.1) log-fetch-limit(10000) log-iw-size(100000)); };\n${parser}destination d { file("${output}" template("${template}")); };\nlog { source(s); ${isJson ? "parser(p); rewrite(w); " : ""}destination(d); flags(flow-control); };\n`,
        );
        const env = home
          ? {
              ...process.env,
              LD_LIBRARY_PATH: `${home}/usr/lib/syslog-ng:${home}/usr/lib/x86_64-linux-gnu:${home}/usr/lib`,
            }
          : process.env;
        const modules = home ? [`--module-path=${home}/usr/lib/syslog-ng/3.38`] : [];
        return spawn(
          program,
          [
            "-F",
            "--no-caps",
            "-f",
            config,
            "-R",
            join(work, "persist"),
            "-c",
            join(work, "ctl"),
            "-p",
            join(work, "pid"),
            ...modules,
          ],
          { ...quiet, env },
        );
      },
    };
  },
  "fluent-bit": () => {
    const program = which("fluent-bit");
    if (!program) return undefined;
    return {
      start(work, output) {
        const config = join(work, "fb.conf");
        writeFileSync(
          config,
          `[SERVICE]\n flush 0.2\n log_level error\n[INPUT]\n name tail\n path ${input}\n read_from_head on\n db ${work}/fb.db\n[OUTPUT]\n name file\n match *\n path ${dirname(output)}\n file ${output.slice(dirname(output).length + 1)}\n format template\n template {log}\n`,
        );
        return spawn(program, ["-c", config], quiet);
      },
    };
  },
};

const lines = await makeInput();
const inputBytes = statSync(input).size;
const inputHash = isJson ? undefined : await sha(input);
const wanted = values.only?.split(",") ?? Object.keys(peers);
const found = Object.entries(peers).flatMap(([name, make]) => {
  if (!wanted.includes(name) || (isJson && (name === "cp" || name === "fluent-bit"))) return [];
  const peer = make();
  if (peer === undefined) console.log(`${name}: not installed, left out`);
  return peer === undefined ? [] : [{ name, ...peer, results: [] }];
});
console.log(
  `${cpus().length} cores, Node ${process.version}, ${(inputBytes / 1048576).toFixed(0)} MiB, ${lines} lines, ${runs} interleaved runs`,
);
try {
  for (let run = -1; run < runs; run += 1) {
    for (const peer of found) {
      const work = join(folder, `${peer.name}-${run}`);
      mkdirSync(work);
      const output = join(work, "out.log");
      const result = await collect(() => peer.start(work, output), output, isJson ? undefined : inputBytes);
      if (isJson) {
        const got = countLines(output);
        if (got !== lines) console.log(`${peer.name}: ${got} of ${lines} lines`);
      } else if ((await sha(output)) !== inputHash)
        console.log(
          `${peer.name}: the output differs from the input (${statSync(output).size} of ${inputBytes} bytes)`,
        );
      // The first round warms the page cache and is not counted.
      if (run >= 0) peer.results.push(result);
      rmSync(work, { recursive: true, force: true });
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
const own = found.find(({ name }) => name === "tailrace");
for (const { name, results } of found) {
  const seconds = median(results.map((result) => result.seconds));
  const cpu = median(results.map((result) => result.cpuSeconds));
  const peak = median(results.map((result) => result.peakMiB));
  const ratio =
    own === undefined
      ? ""
      : `  tailrace is ${(seconds / median(own.results.map((result) => result.seconds))).toFixed(2)}x`;
  console.log(
    `${name.padEnd(10)} ${(inputBytes / 1e6 / seconds).toFixed(0).padStart(5)} MB/s  ${seconds.toFixed(2)} s  ${cpu.toFixed(2)} CPU s  ${peak.toFixed(0)} MiB${ratio}`,
  );
}
