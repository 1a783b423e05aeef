// A program that logs, as its own process. It appends numbered lines "<file> <seq> <payload>" to several files and keeps
// its own account of what it wrote.
//
//   node log-writer.mjs '{"folder", "journal", "files", "linesPerTick", "tickMs", "payloadBytes", "splitLines", "seed"}'
//
// SIGHUP reopens the files (what a postrotate script does). Commands on standard input, each answered with a line:
//   pause    no line is half-written and nothing is written until
//   resume   files are opened anew
//   watched, unwatched   somebody reads along, or not: while watched, lines that went into a file after it was renamed are
//            set down in `journal`/<file>.late, as nothing says how they stand to those of its successor
//   stop     finishes, writes the account to `journal`/<file>, exits 0
import { closeSync, fstatSync, openSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const options = JSON.parse(process.argv[2]);
let state = options.seed >>> 0 || 1;
const random = () => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
};

const logs = options.files.map((name) => ({ name, fd: -1, seq: 0, rest: "", lines: [], late: [] }));
const open = () => {
  for (const log of logs) log.fd = openSync(join(options.folder, log.name), "a");
};
const finishLines = () => {
  for (const log of logs) {
    if (log.rest !== "") writeSync(log.fd, log.rest);
    log.rest = "";
  }
};
const close = () => {
  finishLines();
  for (const log of logs) closeSync(log.fd);
};

let isPaused = false;
let isWatched = false;
const isRenamed = (log) => {
  const named = statSync(join(options.folder, log.name), { throwIfNoEntry: false });
  return named?.ino !== fstatSync(log.fd).ino;
};
const tick = () => {
  if (isPaused) return;
  finishLines();
  for (const log of logs) {
    let text = "";
    for (let count = Math.floor(random() * 2 * options.linesPerTick); count > 0; count -= 1) {
      log.seq += 1;
      const payload = Math.floor(random() * 2 ** 32).toString(36);
      const line = `${log.name} ${log.seq} ${payload.repeat(1 + Math.floor((random() * options.payloadBytes) / payload.length))}`;
      log.lines.push(line);
      text += `${line}\n`;
    }
    // Now and then a line is written in two pieces, the second one at the next tick.
    const cut =
      options.splitLines && text !== "" && random() < 0.3 ? text.length - 1 - Math.floor(random() * 8) : text.length;
    if (text !== "") writeSync(log.fd, text.slice(0, cut));
    log.rest = text.slice(cut);
    // Looked at behind the write: a line counts as late also where the renaming came a moment after it.
    if (isWatched && text !== "" && isRenamed(log)) log.late.push(...text.split("\n").slice(0, -1));
  }
};

open();
setInterval(tick, options.tickMs);
process.on("SIGHUP", () => {
  close();
  open();
});
createInterface({ input: process.stdin }).on("line", (command) => {
  if (command === "pause") {
    isPaused = true;
    finishLines();
  } else if (command === "resume") {
    close();
    open();
    isPaused = false;
  } else if (command === "watched" || command === "unwatched") {
    isWatched = command === "watched";
  } else if (command === "stop") {
    close();
    for (const log of logs)
      writeFileSync(join(options.journal, `${log.name}.late`), log.late.map((line) => `${line}\n`).join(""));
    for (const log of logs)
      writeFileSync(join(options.journal, log.name), log.lines.map((line) => `${line}\n`).join(""));
  }
  process.stdout.write(`${command}\n`, () => {
    if (command === "stop") process.exit(0);
  });
});
process.stdout.write("started\n");
