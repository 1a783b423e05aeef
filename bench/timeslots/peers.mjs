// What watching every system call costs, beside perf and bpftrace: `npm run build`, then, as root,
// `node bench/timeslots/peers.mjs`. CALLS=n changes the work of a round, ROUNDS=n their number.
//
// The same work each time: `dd` with blocks of one byte, two system calls a block. A case costs what dd takes longer (CPU
// time, so that other processes of the machine matter less) and what the tracer itself takes. Cases take turns round by
// round; figures are medians. What each one gives for that differs:
//   tailrace      per process and millisecond: calls, and beside them CPU time, waiting, switches, faults, bytes
//   perf stat     one sum for the machine
//   bpftrace      one sum for each process
//   perf record   every call, in a file, to be summed up later
// perf and bpftrace come from Debian (`linux-perf`, `bpftrace`) and want tracefs, which is mounted for the run if need be.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { median, pause, usage } from "../files/measure.mjs";

const CALLS = Number(process.env["CALLS"] ?? 2_000_000);
const ROUNDS = Number(process.env["ROUNDS"] ?? 3);
const IDLE_MS = 5000;
const TRACING = "/sys/kernel/tracing";
const EVENT = "raw_syscalls:sys_enter";

const root = resolve(fileURLToPath(new URL("../..", import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), "tailrace-slots-"));

/** How each case is started, and when it is ready. */
const cases = {
  nothing: undefined,
  tailrace: {
    command: [process.execPath, join(root, "bin/tailrace.js"), "run", "-c", join(folder, "slots.toml")],
    isReady: (output) => output.includes("memory ceiling"),
    lost: () => 0,
  },
  "perf stat": { command: ["perf", "stat", "-a", "-e", EVENT, "-o", join(folder, "stat")] },
  bpftrace: {
    command: ["bpftrace", "-e", `tracepoint:${EVENT} { @[pid] = count(); }`],
    isReady: (output) => output.includes("Attaching"),
  },
  "perf record": {
    command: ["perf", "record", "-a", "-e", EVENT, "-m", "4096", "-o", join(folder, "data")],
    lost: (output) => Number(/LOST (\d+) events/i.exec(output)?.[1] ?? 0),
  },
};

writeFileSync(
  join(folder, "slots.toml"),
  `state_dir = "${folder}/state"\n[api]\nenabled = false\n[sources.slots]\ntype = "timeslots"\n[sinks.out]\ntype = "blackhole"\ninputs = ["slots"]\n`,
);

/** CPU seconds of one dd over all calls. */
function work() {
  const script = `dd if=/dev/zero of=/dev/null bs=1 count=${CALLS / 2} 2>/dev/null; times`;
  const output = execFileSync("bash", ["-c", script], { encoding: "utf8" });
  // The second line of `times`: user and system time of children.
  const [user, system] = output.trim().split("\n")[1].split(" ").map(secondsOf);
  return user + system;
}

function secondsOf(text) {
  const [minutes, seconds] = text.replace("s", "").split("m").map(Number);
  return minutes * 60 + seconds;
}

/** The tracer, once it traces. */
async function start({ command, isReady }) {
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "pipe", "pipe"], cwd: folder });
  const gone = new Promise((ended) => child.once("exit", ended));
  const tracer = { child, gone, output: "" };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (tracer.output += text));
  const until = performance.now() + 20_000;
  while (isReady !== undefined && !isReady(tracer.output) && child.exitCode === null && performance.now() < until)
    await pause(50);
  await pause(1000);
  if (child.exitCode !== null) throw new Error(`${command.join(" ")}: ${tracer.output}`);
  return tracer;
}

const isThere = (name) =>
  name === "nothing" || name === "tailrace" || spawnSync("which", [name.split(" ")[0]]).status === 0;

const mounted = existsSync(join(TRACING, "events")) || readdirSync(TRACING).length > 0;
if (!mounted) execFileSync("mount", ["-t", "tracefs", "tracefs", TRACING]);
const results = Object.fromEntries(
  Object.keys(cases)
    .filter(isThere)
    .map((name) => [name, []]),
);
try {
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, seen] of Object.entries(results)) {
      if (cases[name] === undefined) {
        seen.push({ work: work(), own: 0, residentMiB: 0, idle: 0 });
        continue;
      }
      const tracer = await start(cases[name]);
      const before = usage(tracer.child.pid).cpuSeconds;
      const seconds = work();
      await pause(100);
      const after = usage(tracer.child.pid);
      const idleFrom = after.cpuSeconds;
      await pause(round === 0 ? IDLE_MS : 0);
      const { cpuSeconds, residentMiB } = usage(tracer.child.pid);
      tracer.child.kill("SIGINT");
      await tracer.gone;
      seen.push({
        work: seconds,
        own: after.cpuSeconds - before,
        residentMiB,
        idle: (cpuSeconds - idleFrom) / (IDLE_MS / 1000),
        lost: cases[name].lost?.(tracer.output),
      });
    }
  }
} finally {
  if (!mounted) spawnSync("umount", [TRACING]);
  rmSync(folder, { recursive: true, force: true });
}

const of = (name, key) => median(results[name].map((one) => one[key]));
const base = of("nothing", "work");
const perCall = (name) => ((of(name, "work") - base + of(name, "own")) / CALLS) * 1e9;
const ours = perCall("tailrace");
console.log(`${CALLS} system calls, ${ROUNDS} rounds; without a tracer ${((base / CALLS) * 1e9).toFixed(0)} ns a call`);
console.table(
  Object.fromEntries(
    Object.keys(results)
      .filter((name) => name !== "nothing")
      .map((name) => [
        name,
        {
          "ns/call in all": Math.round(perCall(name)),
          "in the kernel": Math.round(((of(name, "work") - base) / CALLS) * 1e9),
          "in the tracer": Math.round((of(name, "own") / CALLS) * 1e9),
          "times ours": (perCall(name) / ours).toFixed(2),
          "MiB resident": Math.round(of(name, "residentMiB")),
          "% of a core, calls over": (results[name][0].idle * 100).toFixed(2),
          lost: results[name].reduce((sum, { lost }) => sum + (lost ?? 0), 0),
        },
      ]),
  ),
);
