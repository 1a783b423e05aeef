// A soak: an accelerated week of the agent, ten minutes of it by default. Exit 1 if a line is lost or comes twice, or if
// anything grows. Wants dist/ (npm run build).
//   TAILRACE_SOAK_MINUTES=10   the long form: 120 and more
//   TAILRACE_SOAK_SEED         default: the time
//   TAILRACE_SOAK_BIN          another bin/tailrace.js
//   TAILRACE_SOAK_REPORT       default: soak.html in the temporary folder; soak.txt beside it
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pc from "picocolors";
import { keepEvidence, LiveScreen, Soak, soakReport } from "../dist/torture/index.js";

const { env } = process;
const seed = Number(env.TAILRACE_SOAK_SEED ?? Date.now() % 2 ** 31);
const seconds = Number(env.TAILRACE_SOAK_MINUTES ?? 10) * 60;
const bin = env.TAILRACE_SOAK_BIN ?? fileURLToPath(new URL("../bin/tailrace.js", import.meta.url));
const report = env.TAILRACE_SOAK_REPORT ?? join(tmpdir(), "soak.html");
const folder = mkdtempSync(join(tmpdir(), "tailrace-soak-"));

const soak = new Soak({ seed, seconds, folder, bin });
const screen = new LiveScreen(process.stderr, pc, env.TERM === "dumb");
let isInterrupted = false;
for (const signal of ["SIGINT", "SIGTERM"])
  process.on(signal, () => {
    isInterrupted = true;
    void soak.trial.abort();
  });
process.stderr.write(`soak, seed ${seed}, ${seconds / 60} minutes, in ${folder}\n`);
screen.start(soak.trial, `Soak, seed ${seed}`, seconds);
const result = await soak.run().finally(() => screen.stop());
if (isInterrupted) {
  rmSync(folder, { recursive: true, force: true });
  process.exit(130);
}
const { text, html, isRight } = soakReport(result, folder);
process.stdout.write(text);
writeFileSync(report, html);
writeFileSync(report.replace(/\.html$/, ".txt"), text);
process.stdout.write(`report: ${report}\n`);
if (isRight) rmSync(folder, { recursive: true, force: true });
else {
  keepEvidence(folder, result.trial);
  process.stdout.write(`kept: ${folder}\n`);
}
process.exit(isRight ? 0 : 1);
