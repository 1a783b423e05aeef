// CPU at a steady rate: a writer appends 10,000 lines of 200 bytes a second to one file for a minute.
//
//   node bench/files/steady.mjs [--seconds 60] [--rate 10000] [--runs 1] [--only tailrace,rsyslog]
//
// All collectors run one after the other; the first five seconds are start-up and are not counted.
import { once } from "node:events";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { countLines, line, median, pause, usage } from "./measure.mjs";
import { peers } from "./peers.mjs";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    rate: { type: "string", default: "10000" },
    runs: { type: "string", default: "1" },
    only: { type: "string" },
  },
});
const WARM_SECONDS = 5;
const STEP_MS = 20;
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));
const perStep = (Number(values.rate) * STEP_MS) / 1000;

async function write(path, seconds, state) {
  const began = performance.now();
  for (let step = 0; step < (seconds * 1000) / STEP_MS; step += 1) {
    let block = "";
    for (let added = 0; added < perStep; added += 1) block += line(state.lines++, 200);
    appendFileSync(path, block);
    const due = began + (step + 1) * STEP_MS;
    if (due > performance.now()) await pause(due - performance.now());
  }
}

try {
  const found = peers({ only: values.only?.split(",") }).map((peer) => ({ ...peer, cores: [], resident: [] }));
  for (let run = 0; run < Number(values.runs); run += 1) {
    for (const { name, start, cores, resident } of found) {
      const work = join(folder, `${name}-${run}`);
      mkdirSync(work);
      const [input, output] = [join(work, "input.log"), join(work, "out.log")];
      const state = { lines: 0 };
      appendFileSync(input, line(state.lines++, 200));
      const child = start({ work, input, output });
      await write(input, WARM_SECONDS, state);
      const before = usage(child.pid);
      await write(input, Number(values.seconds), state);
      const after = usage(child.pid);
      await pause(2000);
      child.kill("SIGTERM");
      await Promise.race([once(child, "exit"), pause(5000)]);
      child.kill("SIGKILL");
      const got = statSync(output, { throwIfNoEntry: false }) ? countLines(output) : 0;
      if (got !== state.lines) console.log(`${name}: ${got} of ${state.lines} lines`);
      cores.push((after.cpuSeconds - before.cpuSeconds) / Number(values.seconds));
      resident.push(after.peakMiB);
    }
  }
  const own = found.find(({ name }) => name === "tailrace");
  for (const { name, cores, resident } of found) {
    const ratio = own ? `  tailrace: ${(median(own.cores) / median(cores)).toFixed(2)}x the CPU` : "";
    console.log(`${name.padEnd(10)} ${median(cores).toFixed(4)} cores  ${median(resident).toFixed(0)} MiB${ratio}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
