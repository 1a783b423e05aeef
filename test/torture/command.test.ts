import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { torture as run } from "./torture.ts";

/** What the run is about here is the command; the chance mix has a test of its own. */
const QUIET =
  "kills,stops,moods,links,alias,disk,clock,truncate,delete_create,editor_save,switch_symlink,copytruncate_compress";

describe("tailrace torture", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tailrace-torture-command-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const torture = (...args: string[]) => run(args, { cwd: folder, env: { TMPDIR: folder, PATH: folder } });

  it("counts every line, writes a page and a text, and leaves nothing behind", async () => {
    const report = join(folder, "report.html");
    const ran = await torture(
      "--seed",
      "7",
      "--minutes",
      "0.1",
      "--only",
      "AB",
      "--without",
      QUIET,
      "--report",
      report,
    );
    expect(ran.stdout).toMatch(/^RIGHT: 0 lost, 0 twice where once is promised\n/);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain("seed 7");
    expect(readFileSync(join(folder, "report.txt"), "utf8")).toBe(ran.stdout);
    expect(readFileSync(report, "utf8")).toMatch(/RIGHT: 0 lost[\s\S]*<svg[\s\S]*<\/html>/);
    expect(readdirSync(folder).sort()).toEqual(["report.html", "report.txt"]);
  });

  it("takes over the options of a configuration, and touches nothing that it names", async () => {
    const logs = join(folder, "logs");
    writeFileSync(
      join(folder, "mine.toml"),
      `state_dir = ${JSON.stringify(join(folder, "state"))}
[sources.mine]
type = "file"
include = [${JSON.stringify(`${logs}/*.log`)}]
read_from = "end"
scan_interval_ms = 150
[transforms.parse]
type = "json"
inputs = ["mine"]
[sinks.archive]
type = "file"
inputs = ["parse"]
path = ${JSON.stringify(join(folder, "archive", "{file}.log"))}
encoding = "raw"
[sinks.remote]
type = "http"
inputs = ["parse"]
url = "http://user:secret@127.0.0.1:9/"
[sinks.screen]
type = "console"
inputs = ["parse"]
`,
    );
    const ran = await torture("-c", "mine.toml", "--minutes", "0.1", "--only", "A", "--without", QUIET);
    expect(ran.stdout).toMatch(/^RIGHT/);
    expect(ran.stdout).toMatch(/sink archive .* 0 lost, 0 twice, 0 out of order/);
    expect(ran.stdout).toMatch(/sink remote .* 0 lost/);
    expect(ran.stdout).toContain("left out, their targets are not touched: screen");
    expect(ran.stdout).toContain("left out, lines pass unchanged: parse");
    expect(ran.stdout + ran.stderr).not.toContain("secret");
    expect(readdirSync(folder)).toEqual(["mine.toml"]);
  });

  it("exits 1, prints the story of the generation and keeps its folder when an agent loses lines", async () => {
    // An agent that forgets every seventh line, and says that all is well.
    const bin = join(folder, "forgetful.mjs");
    writeFileSync(
      bin,
      `import { appendFileSync, readFileSync } from "node:fs";
const config = readFileSync(process.argv[process.argv.indexOf("-c") + 1], "utf8");
const out = /path = "([^"]+)"/.exec(config)[1];
const log = /include = \\["([^"]+)\\*\\.log"/.exec(config)[1] + "a.log";
let lines = 0, seen = 0;
process.stderr.write("memory ceiling\\n");
process.on("SIGTERM", () => process.exit(0));
setInterval(() => {
  const all = readFileSync(log, "utf8").split("\\n").slice(0, -1);
  for (const line of all.slice(seen)) if (++lines % 7 !== 0) appendFileSync(out, line + "\\n");
  seen = all.length;
}, 20);
`,
    );
    writeFileSync(
      join(folder, "mine.toml"),
      `[sources.mine]\ntype = "file"\ninclude = ["/nowhere/*.log"]\n[sinks.archive]\ntype = "file"\ninputs = ["mine"]\npath = "x"\n`,
    );
    const none = `${QUIET},rename_create,rename_compress,rename_compress_older,copytruncate`;
    const ran = await torture("-c", "mine.toml", "--bin", bin, "--minutes", "0.02", "--only", "A", "--without", none);
    expect(ran.stdout).toMatch(/^WRONG: \d+ lost, 0 twice/);
    expect(ran.stdout).toMatch(/== missing at archive: \d+ of A g0 .*: 6 \(at \d+\); 13 /);
    expect(ran.stdout).toContain("the program starts: logs0/a.log is open, inode ");
    expect(ran.code).toBe(1);
    const kept = /^kept: (.+)$/m.exec(ran.stdout)![1]!;
    for (const name of ["agent.log", "happenings.log", "stories.log", "report.html", "report.txt"])
      expect(existsSync(join(kept, name)), name).toBe(true);
  });

  it("cleans up when it is interrupted", async () => {
    let isTold = false;
    const ran = await run(["--minutes", "5"], { env: { TMPDIR: folder } }, (stderr, signal) => {
      // Among the first lines that it writes; by then there are a folder, and a disk where this process may mount one.
      if (isTold || !stderr.includes("settings drawn")) return;
      isTold = true;
      setTimeout(() => signal("SIGINT"), 1_500);
    });
    expect(ran.code).toBe(130);
    expect(readdirSync(folder)).toEqual([]);
    expect(readFileSync("/proc/mounts", "utf8")).not.toContain(folder);
  });

  it("puts a peer through the same, and prints one table; what the peer loses is no failure of ours", async () => {
    // Understands the flags of vlagent, sends every other line twice and the last of each piece never.
    const peer = join(folder, "vlagent");
    writeFileSync(
      peer,
      `#!${process.execPath}
const { readFileSync, readdirSync } = require("node:fs");
const flag = (name) => process.argv.find((arg) => arg.startsWith("-" + name + "=")).split("=").slice(1).join("=");
const folder = flag("fileCollector.glob").replace(/[^/]*$/, "");
const seen = new Set();
setInterval(async () => {
  const lines = readdirSync(folder).flatMap((name) => readFileSync(folder + name, "utf8").split("\\n").slice(0, -1));
  const young = lines.filter((line) => !seen.has(line));
  for (const line of young) seen.add(line);
  const sent = young.slice(0, young.length > 3 ? -1 : undefined).flatMap((line, at) => (at % 2 ? [line, line] : [line]));
  const body = sent.map((line) => JSON.stringify({ _msg: line })).join("\\n");
  if (sent.length > 0) await fetch(flag("remoteWrite.url"), { method: "POST", body }).catch(() => {});
}, 100);
`,
      { mode: 0o755 },
    );
    const ran = await torture("--peer", "vlagent", "--minutes", "0.05", "--without", `${QUIET},rename_create`);
    const rows = ran.stdout
      .trim()
      .split("\n")
      .map((line) => line.split(/ {2,}/));
    expect(rows[0]).toEqual([
      "agent",
      "sink",
      "lines",
      "rotations",
      "kills",
      "lost",
      "twice",
      "until all was there",
      "peak MiB",
    ]);
    expect(rows.slice(1).map(([agent, sink, , , , lost]) => [agent, sink, Number(lost) > 0])).toEqual([
      ["tailrace", "file (exactly once)", false],
      ["tailrace", "http (at least once)", false],
      ["vlagent", "http (at least once)", true],
    ]);
    expect(Number(rows[3]![6])).toBeGreaterThan(0);
    expect(ran.code).toBe(0);
  });

  it("says how a peer is got that is not installed, and exits 2", async () => {
    const ran = await torture("--peer", "vlagent");
    expect(ran.stderr).toMatch(/^error: --peer vlagent: there is no vlagent on PATH; get it \(go install /);
    expect(ran.code).toBe(2);
    expect((await torture("--peer", "logstash")).code).toBe(2);
    expect((await torture("--minutes", "0")).code).toBe(2);
    expect((await torture("--without", "rain")).code).toBe(2);
    expect((await torture("--bin", "/nowhere")).code).toBe(2);
  });
});
