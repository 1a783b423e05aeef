// 10,000 files that nobody writes to: CPU, descriptors and memory of watching them.
//
//   node bench/files/idle.mjs [--files 10000] [--seconds 60] [--only tailrace,rsyslog]
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { line, pause, usage } from "./measure.mjs";
import { peers } from "./peers.mjs";

const { values } = parseArgs({
  options: {
    files: { type: "string", default: "10000" },
    seconds: { type: "string", default: "60" },
    only: { type: "string" },
  },
});
/** Until they are quiet: a file counts as idle after a minute. */
const SETTLE_SECONDS = 90;
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));
const logs = join(folder, "logs");
mkdirSync(logs);
for (let index = 0; index < Number(values.files); index += 1)
  writeFileSync(join(logs, `${index}.log`), line(index, 100));

try {
  for (const { name, start } of peers({ only: values.only?.split(",") })) {
    const work = join(folder, name);
    mkdirSync(work);
    const child = start({ work, input: join(logs, "*.log"), output: join(work, "out.log") });
    await pause(SETTLE_SECONDS * 1000);
    const before = usage(child.pid);
    await pause(Number(values.seconds) * 1000);
    const after = usage(child.pid);
    child.kill("SIGTERM");
    await Promise.race([once(child, "exit"), pause(5000)]);
    child.kill("SIGKILL");
    const percent = ((after.cpuSeconds - before.cpuSeconds) / Number(values.seconds)) * 100;
    console.log(
      `${name.padEnd(10)} ${percent.toFixed(2)} % of a core  ${after.descriptors} descriptors  ${after.residentMiB.toFixed(0)} MiB  ${before.cpuSeconds.toFixed(2)} CPU s until then`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
