import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Agent, CrashMachine, passing, until } from "./machine.ts";

/** A program that notes each message and answers; `deed` may do something else, given `task` and `say`. */
function worker(machine: CrashMachine, deed = ""): string {
  const path = join(machine.folder, "worker.mjs");
  const note = JSON.stringify(join(machine.folder, "done.txt"));
  const text = `import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
const say = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
createInterface({ input: process.stdin }).on("line", async (line) => {
  const task = JSON.parse(line);
  ${deed}
  appendFileSync(${note}, task.event.message + "\\n");
  say({ id: task.id, ok: true });
});
`;
  writeFileSync(path, text);
  return path;
}

const handler = (command: readonly string[], more = "") =>
  `type = "handler"\ncommand = ${JSON.stringify(command)}\nbackoff = { initial_ms = 1, max_ms = 20 }\n${more}`;

/** How often each message was done. */
function done(machine: CrashMachine): Map<string, number> {
  const path = join(machine.folder, "done.txt");
  const counts = new Map<string, number>();
  if (!existsSync(path)) return counts;
  for (const line of readFileSync(path, "utf8").trim().split("\n")) counts.set(line, (counts.get(line) ?? 0) + 1);
  return counts;
}

/** Processes that run the worker of this machine. */
function workersOf(machine: CrashMachine): { readonly pid: number; readonly group: number }[] {
  const { stdout } = spawnSync("ps", ["-eo", "pid,pgid,args"], { encoding: "utf8" });
  return stdout
    .split("\n")
    .filter((line) => line.includes(`node ${join(machine.folder, "worker.mjs")}`))
    .map((line) => line.trim().split(/\s+/))
    .map(([pid, group]) => ({ pid: Number(pid), group: Number(group) }));
}

function writeMessages(machine: CrashMachine, count: number): string[] {
  const messages = Array.from({ length: count }, (_, n) => `message ${n}`);
  writeFileSync(join(machine.logs, "a.log"), messages.map((message) => `${message}\n`).join(""));
  return messages;
}

/** What the agent says of its sink at the end. */
const closing = (agent: Agent) => agent.log.find(({ msg }) => /^out: .* records delivered/.test(msg));

const COMMAND = (machine: CrashMachine, deed = "") => ["node", worker(machine, deed)];

describe("handlers", () => {
  it("end each message once while their workers are killed at random moments", async () => {
    await using machine = new CrashMachine();
    const messages = writeMessages(machine, 3000);
    const sink = handler(
      COMMAND(machine, "await new Promise((done) => setTimeout(done, 2));"),
      "max_attempts = 1000\n",
    );
    const agent = machine.agent(machine.configure({ sink }), "--once");
    let kills = 0;
    while (!agent.isOver && kills < 25) {
      await passing(50 + Math.random() * 200);
      const workers = workersOf(machine);
      if (workers.length === 0) continue;
      try {
        process.kill(workers[Math.floor(Math.random() * workers.length)]!.pid, "SIGKILL");
        kills += 1;
      } catch {
        // It was gone before.
      }
    }
    expect(await agent.end()).toMatchObject({ code: 0 });
    expect(kills).toBeGreaterThan(5);
    expect(closing(agent)).toMatchObject({ delivered: 3000, dead_lettered: 0, acknowledged: 3000 });
    const counts = done(machine);
    expect([...counts.keys()].sort()).toEqual([...messages].sort());
    // A kill between the work and its answer repeats one message.
    const repeats = [...counts.values()].reduce((sum, count) => sum + count - 1, 0);
    expect(repeats).toBeLessThanOrEqual(kills);
    expect(workersOf(machine)).toEqual([]);
  });

  it("leave no worker behind when the agent is killed, and lose no message", async () => {
    await using machine = new CrashMachine();
    const messages = writeMessages(machine, 600);
    const sink = handler(COMMAND(machine, "await new Promise((done) => setTimeout(done, 5));"));
    const config = machine.configure({ sink });
    for (let kill = 0; kill < 3; kill += 1) {
      const before = done(machine).size;
      const agent = machine.agent(config);
      await until(() => done(machine).size > before + 60 || agent.isOver, "some messages to be done");
      let workers: ReturnType<typeof workersOf> = [];
      await until(() => {
        workers = workersOf(machine);
        return workers.length === 4;
      }, "all four workers");
      // Each leads a group of its own: Ctrl-C in a terminal reaches the agent alone.
      for (const { pid, group } of workers) expect(group).toBe(pid);
      agent.kill();
      await agent.end();
      await until(() => workersOf(machine).length === 0, "the workers to end by themselves");
    }
    const last = machine.agent(config, "--once");
    expect(await last.end()).toMatchObject({ code: 0 });
    const counts = done(machine);
    expect([...counts.keys()].sort()).toEqual([...messages].sort());
    // Four in flight, and what was done within two intervals of the commit (100 ms) at each kill.
    const repeats = [...counts.values()].reduce((sum, count) => sum + count - 1, 0);
    expect(repeats).toBeLessThan(3 * 200);
    expect(workersOf(machine)).toEqual([]);
  });

  it("are stopped by SIGTERM with their work done, also those that ignore everything", async () => {
    await using machine = new CrashMachine();
    writeMessages(machine, 40);
    const deed = `if (task.event.message === "message 3") { process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); }
  await new Promise((done) => setTimeout(done, 50));`;
    const config = machine.configure({ sink: handler(COMMAND(machine, deed), "grace_ms = 200\n") });
    const agent = machine.agent(config);
    await until(() => done(machine).size > 10, "some messages to be done");
    agent.signal("SIGTERM");
    expect(await agent.end()).toMatchObject({ code: 0 });
    expect(done(machine).size).toBe(40);
    expect(Math.max(...done(machine).values())).toBe(1);
    expect(workersOf(machine)).toEqual([]);
  });

  it("finish what is under way before a reload starts them anew, with their code as it is then", async () => {
    await using machine = new CrashMachine();
    const messages = writeMessages(machine, 400);
    const slowly = "await new Promise((done) => setTimeout(done, 60));";
    const agent = machine.agent(machine.configure({ sink: handler(COMMAND(machine, slowly)) }));
    await until(() => done(machine).size > 10 || agent.isOver, "some messages to be done");
    worker(machine, `task.event.message += " anew";`);
    agent.signal("SIGHUP");
    await until(() => done(machine).size === 400 || agent.isOver, "all messages to be done");
    agent.signal("SIGTERM");
    expect(await agent.end()).toMatchObject({ code: 0 });
    const noted = [...done(machine)];
    expect(noted.map(([message]) => message.replace(" anew", "")).sort()).toEqual([...messages].sort());
    expect(noted.filter(([message]) => message.endsWith(" anew")).length).toBeGreaterThan(20);
    expect(noted.every(([, count]) => count === 1)).toBe(true);
  });

  it("are refused with exit code 2, file, line and key where there is no such program, and nothing is touched", async () => {
    await using machine = new CrashMachine();
    const agent = machine.agent(machine.configure({ sink: handler(["no-such-program"]) }));
    const { code, stderr } = await agent.end();
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /tailrace\.toml:\d+: sinks\.out\.command\[0\]: is "no-such-program"; PATH has no such program: no-such-program/,
    );
    expect(existsSync(machine.stateDir)).toBe(false);
  });
});
