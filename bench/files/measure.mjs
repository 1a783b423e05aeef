// What the benchmarks of files measure with: resource use of a live process, and its output compared with its input.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream, createWriteStream, readdirSync, readFileSync } from "node:fs";

const TICKS = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** CPU seconds (user + system), peak and present resident MiB, open descriptors; from proc(5). */
export function usage(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const mib = (name) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) / 1024;
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS,
    peakMiB: mib("VmHWM"),
    residentMiB: mib("VmRSS"),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}

export async function sha(path) {
  const hash = createHash("sha1");
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(part);
  return hash.digest("hex");
}

export function countLines(path) {
  return Number(execFileSync("wc", ["-l", path], { encoding: "utf8" }).trim().split(" ")[0]);
}

const WORDS = "abcdefghij klmnopqrst uvwxyz 0123456789 ".repeat(12);

/** One line of `bytes` bytes, its delimiter included. */
export function line(number, bytes, isJson = false) {
  const head = isJson
    ? `{"ts":"2026-01-01T00:00:00.000Z","seq":${number},"level":"${number % 7 === 0 ? "error" : "info"}","service":"checkout","status":${200 + (number % 5)},"msg":"`
    : `${number} 2026-01-01T00:00:00.000Z host app[${number % 1000}]: `;
  const tail = isJson ? '"}' : "";
  return `${head}${WORDS.slice(0, Math.max(1, bytes - head.length - tail.length - 1))}${tail}\n`;
}

/** Fills `path` with lines; resolves with how many. */
export async function fill(path, { mib, lineBytes, isJson }) {
  const out = createWriteStream(path);
  let written = 0;
  let lines = 0;
  while (written < mib * 1048576) {
    let block = "";
    while (block.length < 1048576) {
      block += line(lines, lineBytes, isJson);
      lines += 1;
    }
    written += block.length;
    if (!out.write(block)) await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
  return lines;
}
