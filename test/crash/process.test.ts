import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CrashMachine, until } from "./machine.ts";

const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join("");

/** The file that holds the checkpoints: the largest one of a state directory that was used. */
function storeFile(stateDir: string): string {
  const files = readdirSync(stateDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.includes("reserve"));
  return files.sort((one, other) => statSync(other).size - statSync(one).size)[0]!;
}

describe("agent › process", () => {
  it("ends with 0 once everything is delivered, and repeats nothing at the next start", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 1000));
    const first = await machine.agent(config, "--once").end();
    expect(first.code, first.stderr).toBe(0);
    appendFileSync(join(machine.logs, "a.log"), lines(1001, 1500));
    const second = await machine.agent(config, "--once").end();
    expect(second.code, second.stderr).toBe(0);
    expect(readFileSync(machine.output, "utf8")).toBe(lines(1, 1500));
  });

  it("ends with 0 on SIGTERM, with everything delivered that was read", async () => {
    await using machine = new CrashMachine();
    const agent = machine.agent(machine.configure());
    writeFileSync(join(machine.logs, "a.log"), lines(1, 1000));
    await until(() => agent.isOver || machine.outputBytes() === lines(1, 1000).length, "the output");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
  });

  /** A configuration that sends its own process a signal, while it is read for the first time. */
  const signalling = (machine: CrashMachine, signal: string) => {
    const path = join(machine.folder, "early.config.ts");
    const config = {
      state_dir: machine.stateDir,
      api: { enabled: false },
      sources: { app: { type: "file", include: [join(machine.logs, "*.log")] } },
      sinks: { out: { type: "file", inputs: ["app"], encoding: "raw", path: machine.output } },
    };
    writeFileSync(
      path,
      `if (!globalThis.isTold) process.kill(process.pid, "${signal}");
globalThis.isTold = true;
await new Promise((resolve) => setTimeout(resolve, 100));
export default ${JSON.stringify(config)};\n`,
    );
    return path;
  };

  it("ends with 0 on a SIGTERM that comes before it has read its configuration, and makes nothing", async () => {
    await using machine = new CrashMachine();
    const exit = await machine.agent(signalling(machine, "SIGTERM")).end();
    expect(exit).toEqual({ code: 0, stderr: "" });
    expect(existsSync(machine.stateDir)).toBe(false);
  });

  it("survives a SIGHUP that comes while it reads its configuration, and reads that again", async () => {
    await using machine = new CrashMachine();
    const agent = machine.agent(signalling(machine, "SIGHUP"));
    await until(() => agent.hasSaid("The configuration was read again: nothing is different"), "the reload");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
  });

  it("waits at SIGTERM for a sink that does not acknowledge, says for what, and ends at once with 1 at the second one", async () => {
    await using machine = new CrashMachine();
    let requests = 0;
    const server = createServer((request) => {
      requests += 1;
      request.resume();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const config = machine.configure({ sink: `type = "http"\nurl = "http://127.0.0.1:${port}/"\ntimeout_ms = 60000` });
    writeFileSync(join(machine.logs, "a.log"), lines(1, 10));
    const agent = machine.agent(config);
    await until(() => agent.isOver || requests > 0, "the first request");
    agent.signal("SIGTERM");
    const before = agent.stderr.length;
    await until(() => agent.isOver || agent.stderr.slice(before).includes("out"), "word of what it waits for");
    expect(agent.isOver, agent.stderr).toBe(false);
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(1);
    server.closeAllConnections();
    server.close();
  });

  it("refuses a state directory that another process holds, and leaves that one alone", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    const first = machine.agent(config);
    writeFileSync(join(machine.logs, "a.log"), lines(1, 10));
    await until(() => first.isOver || machine.outputBytes() > 0, "the first agent to deliver");
    const second = await machine.agent(config).end();
    expect(second.code, second.stderr).toBe(1);
    expect(second.stderr).toContain(machine.stateDir);
    expect(first.isOver, first.stderr).toBe(false);
    first.signal("SIGTERM");
    expect((await first.end()).code).toBe(0);
  });

  it.each([
    { damage: "cut in half", hurt: (path: string) => truncateSync(path, Math.floor(statSync(path).size / 2)) },
    { damage: "emptied", hurt: (path: string) => truncateSync(path, 0) },
    {
      damage: "overwritten with noise",
      hurt: (path: string) => writeFileSync(path, Buffer.alloc(statSync(path).size, 0xa5)),
    },
    { damage: "removed", hurt: (path: string) => rmSync(path) },
  ])("refuses a store that was $damage with exit 1, the reason and the way out", async ({ hurt }) => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    writeFileSync(join(machine.logs, "a.log"), lines(1, 100));
    expect((await machine.agent(config, "--once").end()).code).toBe(0);
    hurt(storeFile(machine.stateDir));
    const before = readFileSync(machine.output, "utf8");
    const exit = await machine.agent(config, "--once").end();
    expect(exit.code, exit.stderr).toBe(1);
    expect(exit.stderr).toMatch(/TR_STATE_DAMAGED|damaged|missing/);
    expect(exit.stderr).toContain(machine.stateDir);
    expect(readFileSync(machine.output, "utf8")).toBe(before);
  });

  it("starts nothing and touches nothing on a wrong configuration: exit 2", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure({ more: '[sinks.other]\ntype = "file"\ninputs = ["nobody"]\npath = "x"' });
    const exit = await machine.agent(config).end();
    expect(exit.code, exit.stderr).toBe(2);
    expect(existsSync(machine.stateDir)).toBe(false);
    expect(machine.outputNames()).toEqual([]);
  });

  it("starts a new output at SIGUSR1; the two together hold each line once and in order", async () => {
    await using machine = new CrashMachine();
    const config = machine.configure();
    const agent = machine.agent(config);
    writeFileSync(join(machine.logs, "a.log"), lines(1, 100));
    await until(() => agent.isOver || machine.outputBytes() === lines(1, 100).length, "the first lines");
    agent.signal("SIGUSR1");
    await until(() => agent.isOver || machine.outputNames().length === 2, "a second output");
    appendFileSync(join(machine.logs, "a.log"), lines(101, 200));
    const folder = join(machine.output, "..");
    const all = () =>
      machine
        .outputNames()
        .map((name) => readFileSync(join(folder, name), "utf8"))
        .sort((one, other) => Number(one.slice(5, one.indexOf("\n"))) - Number(other.slice(5, other.indexOf("\n"))))
        .join("");
    await until(() => agent.isOver || all().length === lines(1, 200).length, "the other lines");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(all()).toBe(lines(1, 200));
    expect(readFileSync(machine.output, "utf8")).toBe(lines(101, 200));
  });

  it("survives logrotate on its own output without losing a line", async () => {
    await using machine = new CrashMachine();
    const agent = machine.agent(machine.configure());
    writeFileSync(join(machine.logs, "a.log"), lines(1, 100));
    await until(() => agent.isOver || machine.outputBytes() === lines(1, 100).length, "the first lines");
    renameSync(machine.output, `${machine.output}.1`);
    appendFileSync(join(machine.logs, "a.log"), lines(101, 200));
    await until(() => agent.isOver || existsSync(machine.output), "a new output");
    appendFileSync(join(machine.logs, "a.log"), lines(201, 300));
    const both = () => readFileSync(`${machine.output}.1`, "utf8") + readFileSync(machine.output, "utf8");
    await until(() => agent.isOver || both().length >= lines(1, 300).length, "the other lines");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(both()).toBe(lines(1, 300));
  });
});
