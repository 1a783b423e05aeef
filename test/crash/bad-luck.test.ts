import { createHash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  createReadStream,
  existsSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { openLmdbStore } from "../../src/checkpoint/index.ts";
import { SCHEMA_VERSION } from "../../src/checkpoint/schema.ts";
import { type Agent, CrashMachine, orSkip, unprivileged, until } from "./machine.ts";

const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join("");

/** A run of `--once` that has to go well. */
async function runOnce(machine: CrashMachine, config: string): Promise<Agent> {
  const agent = machine.agent(config, "--once");
  const exit = await agent.end();
  expect(exit.code, exit.stderr).toBe(0);
  return agent;
}

/** Stops it gracefully. */
async function stopped(agent: Agent): Promise<void> {
  agent.signal("SIGTERM");
  const exit = await agent.end();
  expect(exit.code, exit.stderr).toBe(0);
}

/** Nothing is repeated by one more run, and nothing was left by the last. */
async function expectNothingMore(machine: CrashMachine, config: string): Promise<void> {
  const before = readFileSync(machine.output);
  await runOnce(machine, config);
  expect(readFileSync(machine.output).equals(before)).toBe(true);
}

const warningsOf = (agent: Agent) => agent.log.filter(({ level }) => level === "warn" || level === "error");

/** Of all but the line ends. */
async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>)
    for (const [start, end] of stretches(chunk)) hash.update(chunk.subarray(start, end));
  return hash.digest("hex");
}

async function lineLengths(path: string): Promise<number[]> {
  const lengths = [0];
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    for (const [start, end] of stretches(chunk)) {
      if (start > 0) lengths.push(0);
      lengths[lengths.length - 1]! += end - start;
    }
  }
  // Behind the last line end there is nothing.
  return lengths.slice(0, -1);
}

/** Where the stretches between line ends lie; there is one more of them than of those. */
function* stretches(chunk: Buffer): IterableIterator<[number, number]> {
  let start = 0;
  for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
    yield [start, end];
    start = end + 1;
  }
  yield [start, chunk.length];
}

describe("agent › bad input", () => {
  it("reads a file whose path is no UTF-8, and knows it again", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    const path = Buffer.concat([Buffer.from(`${machine.logs}/caf`), Buffer.from([0xe9, 0xff]), Buffer.from(".log")]);
    writeFileSync(path, lines(1, 3));
    await runOnce(machine, config);
    appendFileSync(path, lines(4, 5));
    await runOnce(machine, config);
    expect(readFileSync(machine.output, "utf8")).toBe(lines(1, 5));
    await expectNothingMore(machine, config);
  });

  it("cuts a line of 200 MB within the memory that it announced, and loses no byte of it", async () => {
    await using machine = new CrashMachine();
    const path = join(machine.logs, "a.log");
    const file = openSync(path, "w");
    writeSync(file, "before\n");
    const part = Buffer.alloc(1 << 20, "0123456789abcdef");
    for (let mib = 0; mib < 200; mib += 1) writeSync(file, part);
    writeSync(file, "\nafter\n");
    closeSync(file);
    const { size } = statSync(path);
    const agent = machine.agent(machine.configure());
    await until(() => agent.isOver || machine.outputBytes() >= size, "the output");
    const { peakMiB } = agent;
    const ceiling = Number(/memory ceiling: (\d+) MiB/.exec(agent.stderr)![1]);
    expect(peakMiB).toBeLessThan(ceiling);
    await stopped(agent);
    // Each piece has a delimiter of its own.
    expect(await lineLengths(machine.output)).toEqual([
      "before".length,
      ...Array<number>(200).fill(1 << 20),
      "after".length,
    ]);
    expect(await hashOf(machine.output)).toBe(await hashOf(path));
  });

  it("passes NUL and invalid UTF-8 through as they are with raw", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    const bytes = Buffer.concat([
      Buffer.from("plain\n\0\0zero\0\n"),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      Buffer.from([0xc3, 0x28, 0xff, 0xfe, 0x0a, 0xed, 0xa0, 0x80, 0x0a]),
      Buffer.from("\u0000\r\n\n\nend\n"),
    ]);
    writeFileSync(join(machine.logs, "a.log"), bytes);
    await runOnce(machine, config);
    expect(readFileSync(machine.output).equals(bytes)).toBe(true);
    await expectNothingMore(machine, config);
  });

  it("makes valid JSON of NUL and invalid UTF-8, one event a line", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure({ sink: `type = "file"\npath = ${JSON.stringify(machine.output)}` });
    const bytes = Buffer.concat([
      Buffer.from("a\0b\n"),
      Buffer.from([0x63, 0xff, 0xfe, 0x0a]),
      Buffer.from('"\\\u2028\n'),
    ]);
    writeFileSync(join(machine.logs, "a.log"), bytes);
    await runOnce(machine, config);
    const events = machine.outputLines().map((line) => JSON.parse(line) as { message: string });
    expect(events.map(({ message }) => message)).toEqual(["a\0b", "c\ufffd\ufffd", '"\\\u2028']);
    await expectNothingMore(machine, config);
  });
});

describe("agent › bad luck with files", () => {
  it("says once that a folder cannot be read, goes on with the others, and reads it once it can", async (context) => {
    await using machine = new CrashMachine();
    const through = orSkip(context, unprivileged(), "the right to give up capabilities");
    const closed = machine.folderOfLogs("closed");
    writeFileSync(join(closed, "b.log"), "closed\n");
    writeFileSync(join(machine.logs, "a.log"), "open\n");
    chmodSync(closed, 0o000);
    try {
      const config = machine.configure({ include: ["*.log", "closed/*.log"] });
      const agent = machine.agentIn({ through }, config);
      await until(() => agent.hasSaid(`${closed}`) && machine.outputHas("open\n"), "word of it and the other file");
      expect(machine.outputLines()).toEqual(["open"]);
      appendFileSync(join(machine.logs, "a.log"), "still open\n");
      await until(() => agent.isOver || machine.outputHas("still open\n"), "the other file");
      expect(warningsOf(agent).filter(({ msg }) => msg.includes(closed))).toHaveLength(1);
      chmodSync(closed, 0o755);
      await until(() => agent.isOver || machine.outputHas("closed\n"), "the folder's file");
      await stopped(agent);
      expect(machine.outputLines()).toEqual(["open", "still open", "closed"]);
    } finally {
      chmodSync(closed, 0o755);
    }
  });

  it("reads a file that it may not read as soon as it may", async (context) => {
    await using machine = new CrashMachine();
    const through = orSkip(context, unprivileged(), "the right to give up capabilities");
    const path = join(machine.logs, "a.log");
    writeFileSync(path, lines(1, 3));
    chmodSync(path, 0o000);
    const config = machine.configure();
    const agent = machine.agentIn({ through }, config);
    const why = () => machine.ask("why", path, "-c", config);
    await until(() => agent.isOver || /permission denied|EACCES/.test(why()), "the reason in `why`");
    expect(machine.outputBytes()).toBe(0);
    chmodSync(path, 0o644);
    await until(() => agent.isOver || machine.outputHas("line 3\n"), "its lines");
    await stopped(agent);
    expect(readFileSync(machine.output, "utf8")).toBe(lines(1, 3));
  });

  it("says that too few files may be open where that keeps it from starting", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const exit = await machine.agentIn({ through: ["prlimit", "--nofile=26"] }, machine.configure()).end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/^error: .*too few files may be open at once \(see `ulimit -n`.*\n$/);
    expect(existsSync(machine.stateDir)).toBe(false);
  });

  it("reads 300 files with 128 descriptors", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    const names = Array.from({ length: 300 }, (_, file) => `${file}.log`);
    for (const name of names) writeFileSync(join(machine.logs, name), `${name} first\n`);
    const agent = machine.agentIn({ through: ["prlimit", "--nofile=128"] }, config);
    await until(() => agent.isOver || machine.outputLines().length === 300, "all first lines");
    for (const name of names) appendFileSync(join(machine.logs, name), `${name} second\n`);
    await until(() => agent.isOver || machine.outputLines().length >= 600, "all second lines");
    await stopped(agent);
    expect(machine.outputLines().sort()).toEqual(names.flatMap((name) => [`${name} first`, `${name} second`]).sort());
    await expectNothingMore(machine, config);
  });

  it("goes on when the clock jumps backwards by a day", async () => {
    await using machine = new CrashMachine();
    const clock = join(machine.folder, "clock.mjs");
    // All of Node's ways to the wall clock; files keep the times that the kernel gives them.
    writeFileSync(
      clock,
      `const { now } = Date;
const real = Date;
let behindMs = 0;
globalThis.Date = class extends real {
  constructor(...given) { if (given.length === 0) super(real.now()); else super(...given); }
};
real.now = () => now() - behindMs;
process.on("SIGUSR2", () => { behindMs = 86_400_000; process.stderr.write("the clock jumped\\n"); });
`,
    );
    const config = machine.configure();
    const env = { NODE_OPTIONS: `--import ${pathToFileURL(clock).href}` };
    const agent = machine.agentIn({ env }, config);
    const path = join(machine.logs, "a.log");
    writeFileSync(path, lines(1, 3));
    await until(() => agent.isOver || machine.outputHas("line 3\n"), "the first lines");
    agent.signal("SIGUSR2");
    await until(() => agent.hasSaid("the clock jumped"), "the jump");
    appendFileSync(path, lines(4, 6));
    writeFileSync(join(machine.logs, "b.log"), lines(7, 9));
    await until(() => agent.isOver || machine.outputLines().length === 9, "the lines after it");
    await stopped(agent);
    const times = agent.log.flatMap(({ time }) => (typeof time === "string" ? [Date.parse(time)] : []));
    expect(times.at(-1)! - times[0]!).toBeLessThan(-80_000_000);
    expect(machine.outputLines().sort()).toEqual(lines(1, 9).trimEnd().split("\n"));
    await expectNothingMore(machine, config);
  });
});

describe("agent › a full disk", () => {
  it("waits while the output's disk is full, says so once, and goes on where it was when there is room", async (context) => {
    await using machine = new CrashMachine();
    const disk = orSkip(context, machine.disk("small", 256 << 10), "the right to mount a tmpfs");
    const output = join(disk.path, "out.log");
    const sink = `type = "file"\npath = ${JSON.stringify(output)}\nencoding = "raw"`;
    const config = machine.configure({ sink });
    writeFileSync(join(machine.logs, "a.log"), lines(1, 100));
    const agent = machine.agent(config);
    const has = (text: string) => existsSync(output) && readFileSync(output, "utf8").includes(text);
    await until(() => agent.isOver || has("line 100\n"), "the first lines");
    disk.fill();
    // Larger than what is left of the output's last page.
    appendFileSync(join(machine.logs, "a.log"), lines(101, 3000));
    await until(() => agent.hasSaid("out does not take records"), "word of it");
    const complaints = () => warningsOf(agent).filter(({ component }) => component === "out");
    expect(complaints()[0]).toMatchObject({
      component: "out",
      msg: expect.stringMatching(/out\.log.*(ENOSPC|no space left)/),
    });
    expect(agent.isOver, agent.stderr).toBe(false);
    disk.free();
    await until(() => agent.isOver || has("line 3000\n"), "the other lines");
    await stopped(agent);
    expect(complaints()).toHaveLength(1);
    expect(agent.hasSaid("out takes records again")).toBe(true);
    expect(readFileSync(output, "utf8")).toBe(lines(1, 3000));
    await runOnce(machine, config);
    expect(readFileSync(output, "utf8")).toBe(lines(1, 3000));
  });

  it("keeps what it has while the state directory's disk is full, and commits when there is room", async (context) => {
    await using machine = new CrashMachine();
    const disk = orSkip(context, machine.disk("small", 8 << 20), "the right to mount a tmpfs");
    const flags = ["--state-dir", join(disk.path, "state")];
    const config = machine.configure();
    const names = Array.from({ length: 300 }, (_, file) => `${file}.log`);
    const agent = machine.agent(config, ...flags);
    await until(() => agent.hasSaid("memory ceiling"), "the start");
    disk.fill();
    for (const name of names) writeFileSync(join(machine.logs, name), `${name}\n`);
    await until(() => agent.hasSaid("the checkpoint cannot be written") || warningsOf(agent).length > 1, "word of it");
    expect(agent.stderr).toMatch(/ENOSPC/);
    expect(agent.isOver, agent.stderr).toBe(false);
    disk.free();
    await until(() => agent.isOver || machine.outputLines().length >= 300, "all lines");
    await stopped(agent);
    const again = machine.agent(config, ...flags, "--once");
    expect((await again.end()).code, again.stderr).toBe(0);
    expect(machine.outputLines().sort()).toEqual([...names].sort());
  });
});

describe("agent › a state directory", () => {
  it("of a newer version is refused with the way out, and left as it is", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 3));
    const schema = { version: SCHEMA_VERSION + 1, migrations: [{ from: SCHEMA_VERSION, rewrite: () => new Map() }] };
    const newer = await openLmdbStore(machine.stateDir, { schema });
    await newer.commit([{ table: "note", name: "of the future", value: 1 }]);
    await newer.close();
    const store = join(machine.stateDir, "checkpoints", "data.mdb");
    const before = await hashOf(store);
    const exit = await machine.agent(config).end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/^error: .*state was written by a newer version .*Run the newer version, or .*\n$/);
    expect(exit.stderr).toContain(machine.stateDir);
    expect(await hashOf(store)).toBe(before);
    expect(machine.outputNames()).toEqual([]);
  });

  it("that may not be written is refused with the reason", async (context) => {
    await using machine = new CrashMachine();
    const through = orSkip(context, unprivileged(), "the right to give up capabilities");
    const config = machine.configure();
    const parent = machine.folderOfLogs("read-only");
    chmodSync(parent, 0o555);
    const exit = await machine.agentIn({ through }, config, "--state-dir", join(parent, "state")).end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/^error: .*read-only\/state.*(EACCES|permission denied).*\n$/);
  });

  it("in the place of which is a file is refused with the reason", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    writeFileSync(machine.stateDir, "mine");
    const exit = await machine.agent(config).end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/^error: .*\n$/);
    expect(exit.stderr).toContain(machine.stateDir);
    expect(readFileSync(machine.stateDir, "utf8")).toBe("mine");
  });
});
