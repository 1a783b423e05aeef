/** What the benchmarks of queues share: lines in a file, and the real agent over them. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const AGENT = fileURLToPath(new URL("../../bin/tailrace.js", import.meta.url));

export const LINES = Number(process.env.LINES ?? 200_000);

/** Lines of 200 bytes, delimiter included. */
export function lines(count = LINES) {
  return Array.from({ length: count }, (_, index) => `line ${index} `.padEnd(199, "x"));
}

/** A folder that is removed at the end. */
export function workFolder() {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-bench-queues-"));
  mkdirSync(join(folder, "logs"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Seconds that `tailrace run --once` takes with this configuration. */
export async function runOnce(folder, name, config) {
  const path = join(folder, `${name}.toml`);
  const state = join(folder, `${name}.state`);
  writeFileSync(path, `state_dir = ${JSON.stringify(state)}\n[api]\nenabled = false\n${config}`);
  const startedAt = performance.now();
  const child = spawn(process.execPath, [AGENT, "run", "--once", "-c", path], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (text) => {
    said += text;
  });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`the agent ended with ${code}:\n${said}`);
  return (performance.now() - startedAt) / 1000;
}

export function report(what, count, seconds, ceiling) {
  const rate = count / seconds;
  const share = ceiling === undefined ? "" : `  ${((100 * rate) / ceiling).toFixed(0)} % of the plain client`;
  console.log(`${what.padEnd(44)} ${Math.round(rate).toLocaleString("en").padStart(9)} messages/s${share}`);
  return rate;
}
