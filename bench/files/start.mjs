// From the start of the process to the first record in the output, and (tailrace only) memory while its sink is stalled.
//
//   node bench/files/start.mjs [--runs 9] [--only tailrace,rsyslog]
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fill, line, median, pause, usage } from "./measure.mjs";
import { peers } from "./peers.mjs";

const { values } = parseArgs({ options: { runs: { type: "string", default: "9" }, only: { type: "string" } } });
const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-"));

async function end(child) {
  child.kill("SIGTERM");
  await Promise.race([once(child, "exit"), pause(3000)]);
  child.kill("SIGKILL");
}

try {
  const found = peers({ only: values.only?.split(",") }).map((peer) => ({ ...peer, ms: [] }));
  for (let run = 0; run < Number(values.runs); run += 1) {
    for (const { name, start, ms } of found) {
      const work = join(folder, `${name}-${run}`);
      mkdirSync(work);
      const [input, output] = [join(work, "input.log"), join(work, "out.log")];
      writeFileSync(input, line(1, 200));
      const began = performance.now();
      const child = start({ work, input, output });
      while (!(statSync(output, { throwIfNoEntry: false })?.size > 0) && performance.now() - began < 20_000)
        await pause(1);
      ms.push(performance.now() - began);
      await end(child);
    }
  }
  for (const { name, ms } of found) console.log(`${name.padEnd(10)} ${median(ms).toFixed(0)} ms to the first record`);

  const [own] = peers({ only: ["tailrace"] });
  const server = createServer((request) => request.resume());
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const work = join(folder, "stalled");
  mkdirSync(work);
  const input = join(work, "input.log");
  await fill(input, { mib: 256, lineBytes: 200 });
  const sink = `type = "http"\nurl = "http://127.0.0.1:${server.address().port}/"\nencoding = "raw"`;
  const child = own.start({ work, input, sink });
  await pause(10_000);
  console.log(
    `tailrace   ${usage(child.pid).peakMiB.toFixed(0)} MiB at the most, with 256 MiB to read and a sink that never answers`,
  );
  child.kill("SIGKILL");
  server.closeAllConnections();
  server.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
