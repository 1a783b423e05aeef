import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";

import { createRequire } from "node:module";
import { toError } from "../errors.ts";
import { OpeningGate } from "./opening-gate.ts";
import { damaged, replaceFile, type StatePaths, unusable } from "./state-directory.ts";
import { inspectMetas, inspectPages, type PageReport } from "./store-pages.ts";

/**
 * Finds damage before LMDB is let near the file: a damaged one kills the process that opens it (SIGBUS, SIGSEGV,
 * SIGABRT), and a zero-length one opens silently as empty.
 *
 * 1. Every page is read as bytes (store-pages.ts): a few milliseconds.
 * 2. Unless the last run closed the store and nobody has touched it since, a child process opens and scans it (100 ms
 *    and more): whatever LMDB itself cannot stand kills the child.
 *
 * Nobody may write to the store meanwhile.
 *
 * @throws CheckpointError `TR_STATE_DAMAGED`
 */
export async function preflight(stateDir: string, paths: StatePaths, options: PreflightOptions = {}): Promise<void> {
  let report: PageReport;
  try {
    report = inspectPages(paths.data);
  } catch (error) {
    throw unusable(stateDir, "its checkpoints cannot be read", error);
  }
  if (report.damage !== undefined) throw damaged(stateDir, `in checkpoints/data.mdb, ${report.damage}`);
  if (await wasCleanlyClosed(paths, report)) return;
  options.onScan?.();
  const died = await scanInChild(paths.storeDir);
  if (died !== undefined) throw damaged(stateDir, `LMDB cannot open and read checkpoints/data.mdb: ${died}`);
}

export interface PreflightOptions {
  /** Called when the child process is started; for tests. */
  readonly onScan?: () => void;
}

/** Writes the stamp that lets the next start skip the child process. Call it after the store was closed. */
export async function stampCleanStop(paths: StatePaths): Promise<void> {
  const { transaction } = inspectMetas(paths.data);
  await replaceFile(paths.cleanStop, `${JSON.stringify(await stampOf(paths, transaction))}\n`, { isDurable: false });
}

async function wasCleanlyClosed(paths: StatePaths, report: PageReport): Promise<boolean> {
  let stamp: unknown;
  try {
    stamp = JSON.parse(await readFile(paths.cleanStop, "utf8"));
  } catch {
    // Missing, or emptied by a power cut: not a clean stop.
    return false;
  }
  return JSON.stringify(stamp) === JSON.stringify(await stampOf(paths, report.transaction));
}

/** A run that was killed without having committed anything leaves the stamp valid, and rightly so. */
async function stampOf(paths: StatePaths, transaction: bigint) {
  const { size, mtimeNs, ino } = await stat(paths.data, { bigint: true });
  return {
    size: String(size),
    modifiedNs: String(mtimeNs),
    inode: String(ino),
    transaction: String(transaction),
  };
}

/** CommonJS and inline, so that it is the same whether this file runs as src/*.ts or dist/*.js. */
const SCAN = `
const { open } = require(process.argv[1]);
const db = open({
  path: process.argv[2], readOnly: true, noSubdir: false, encoding: "binary", keyEncoding: "binary",
  permissionsMode: 0o600,
});
let rows = 0;
for (const row of db.getRange({})) rows += row.value.length > 0 ? 1 : 0;
db.getStats();
process.stdout.write("scanned " + rows, () => process.exit(0));
`;

/** How long a scan may take; a store of 1 GB takes seconds. */
const SCAN_TIMEOUT_MS = 120_000;

/** Opens and reads the store in a process of its own; says what became of that process if it did not survive. */
export async function scanInChild(storeDir: string): Promise<string | undefined> {
  const gate = new OpeningGate(storeDir);
  try {
    return await gate.alone((descriptor) => scan(storeDir, descriptor));
  } finally {
    gate.close();
  }
}

/** `lock` is handed down: killed, this process leaves a child that opens the store, and that must not be unseen. */
function scan(storeDir: string, lock: number): Promise<string | undefined> {
  const lmdb = createRequire(import.meta.url).resolve("lmdb");
  const { NODE_OPTIONS: _, NODE_V8_COVERAGE: __, ...env } = process.env;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["-e", SCAN, lmdb, storeDir], {
      // A process group of its own: Ctrl-C during the scan must not look like damage.
      detached: true,
      stdio: ["ignore", "pipe", "pipe", lock],
      env,
      timeout: SCAN_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    let output = "";
    let complaint = "";
    child.stdout!.on("data", (chunk) => {
      output += chunk;
    });
    child.stderr!.on("data", (chunk) => {
      if (complaint.length < 4096) complaint += chunk;
    });
    child.on("error", (error) => resolve(`the scanning process could not be started: ${toError(error).message}`));
    child.on("close", (code, signal) => {
      if (code === 0 && output.startsWith("scanned ")) return resolve(undefined);
      const how = signal === null ? `exit code ${code}` : signal;
      const reason = /^\w*Error: .*/m.exec(complaint)?.[0] ?? complaint.split("\n")[0] ?? "";
      resolve(`the scanning process ended with ${how}${reason === "" ? "" : ` (${reason})`}`);
    });
  });
}
