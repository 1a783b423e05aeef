import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HttpReceiver } from "../../src/testing/http-receiver.ts";
import { CrashMachine, until } from "./machine.ts";

const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join("");

const textOf = (path: string) => (existsSync(path) ? readFileSync(path, "utf8") : "");

describe("agent › SIGHUP", () => {
  it("applies what is different and goes on with the rest; each line is delivered once", async () => {
    await using machine = new CrashMachine();
    // As most people write it: from the working directory on.
    const stateDir = "./state";
    const second = join(machine.folder, "out", "second.log");
    const log = join(machine.logs, "a.log");
    const agent = machine.agent(machine.configure({ stateDir }));
    writeFileSync(log, lines(1, 1000));
    await until(() => agent.isOver || textOf(machine.output) === lines(1, 1000), "the output");
    machine.configure({
      stateDir,
      more: `[sinks.second]\ntype = "file"\ninputs = ["app"]\nencoding = "raw"\npath = ${JSON.stringify(second)}`,
    });
    agent.signal("SIGHUP");
    await until(() => agent.isOver || agent.stderr.includes("second is new"), "the reload");
    appendFileSync(log, lines(1001, 2000));
    await until(
      () => agent.isOver || (textOf(machine.output) === lines(1, 2000) && textOf(second) === lines(1001, 2000)),
      "both outputs",
    );
    expect(textOf(second)).toBe(lines(1001, 2000));
    // And out again.
    machine.configure({ stateDir });
    agent.signal("SIGHUP");
    await until(() => agent.isOver || agent.stderr.includes("second is gone"), "the second reload");
    appendFileSync(log, lines(2001, 2500));
    await until(() => agent.isOver || textOf(machine.output) === lines(1, 2500), "the output behind it");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(textOf(machine.output)).toBe(lines(1, 2500));
    expect(textOf(second)).toBe(lines(1001, 2000));
  });

  it("takes the new functions of a configuration in TypeScript", async () => {
    await using machine = new CrashMachine();
    const config = join(machine.folder, "tailrace.config.ts");
    const out = join(machine.folder, "out.ndjson");
    const configure = (version: number) =>
      writeFileSync(
        config,
        `import { defineConfig } from "tailrace";
const version: number = ${version};
export default defineConfig({
  state_dir: ${JSON.stringify(machine.stateDir)},
  api: { enabled: false },
  sources: { app: { type: "file", include: [${JSON.stringify(join(machine.logs, "*.log"))}], scan_interval_ms: 100 } },
  transforms: { shape: { type: "map", inputs: ["app"], function: ({ message }) => ({ message, version }) } },
  sinks: { out: { type: "file", inputs: ["shape"], path: ${JSON.stringify(out)} } },
});`,
      );
    configure(1);
    const log = join(machine.logs, "a.log");
    writeFileSync(log, "one\n");
    const agent = machine.agent(config);
    await until(() => agent.isOver || textOf(out).includes("one"), "the output");
    // The text of the function is the same; what it means is not.
    configure(2);
    agent.signal("SIGHUP");
    await until(() => agent.isOver || agent.stderr.includes("shape has changed"), "the reload");
    appendFileSync(log, "two\n");
    await until(() => agent.isOver || textOf(out).includes("two"), "the output behind it");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(textOf(out)).toBe('{"message":"one","version":1}\n{"message":"two","version":2}\n');
  });

  it("changes nothing for a configuration with mistakes, and tells all of them in plain words", async () => {
    await using machine = new CrashMachine();
    const log = join(machine.logs, "a.log");
    const agent = machine.agent(machine.configure());
    writeFileSync(log, lines(1, 10));
    await until(() => agent.isOver || textOf(machine.output) === lines(1, 10), "the output");
    machine.configure({ more: "[sinks.broken]\ntype = 'file'\ninputs = ['nobody']\n[transfroms.x]\n" });
    agent.signal("SIGHUP");
    await until(() => agent.isOver || agent.stderr.includes("everything runs as before"), "the refusal");
    expect(agent.stderr).toMatch(/nobody/);
    expect(agent.stderr).toMatch(/transforms/);
    expect(agent.stderr).not.toMatch(/\n\s+at /);
    appendFileSync(log, lines(11, 20));
    await until(() => agent.isOver || textOf(machine.output) === lines(1, 20), "the output behind it");
    // Nor does one that only turns out wrong when its stages are opened.
    machine.configure({
      more: `[transforms.shape]\ntype = "map"\ninputs = ["app"]\nmodule = "./none.ts"\n[sinks.more]\ntype = "blackhole"\ninputs = ["shape"]`,
    });
    agent.signal("SIGHUP");
    await until(
      () => agent.isOver || agent.stderr.split("everything runs as before").length === 3,
      "the second refusal",
    );
    appendFileSync(log, lines(21, 30));
    await until(() => agent.isOver || textOf(machine.output) === lines(1, 30), "the output at the end");
    agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(textOf(machine.output)).toBe(lines(1, 30));
  });

  it("survives a kill at any moment around it: each line once", async () => {
    await using machine = new CrashMachine();
    const log = join(machine.logs, "a.log");
    writeFileSync(log, lines(1, 3000));
    for (let round = 0; round < 6; round += 1) {
      const config = machine.configure({
        sink: `type = "file"\npath = ${JSON.stringify(machine.output)}\nencoding = "raw"`,
        more: round % 2 === 0 ? "[mpsc_channels.components.out]\nbuffer_size = 3" : "",
      });
      const agent = machine.agent(config);
      await until(() => agent.isOver || agent.stderr.includes("memory ceiling"), "the start");
      appendFileSync(log, lines(3001 + round * 500, 3500 + round * 500));
      machine.configure({
        more: `[transforms.all]\ntype = "filter"\ninputs = ["app"]\ncondition = "exists(message)"`,
        sink: `type = "file"\npath = ${JSON.stringify(machine.output)}\nencoding = "raw"`,
      });
      agent.signal("SIGHUP");
      await new Promise((resolve) => setTimeout(resolve, round * 25));
      agent.kill();
      await agent.exited;
    }
    const last = await machine.agent(machine.configure(), "--once").end();
    expect(last.code, last.stderr).toBe(0);
    expect(textOf(machine.output)).toBe(lines(1, 6000));
  });

  it.each([
    ["how it reads", "max_batch_bytes = 65536", ["*.log"]],
    ["what it reads", "", ["*.log", "more/*.txt"]],
  ])(
    "holds what it finds while a sink is away, whatever is changed in %s: short-lived files come whole",
    async (_, key, include) => {
      await using machine = new CrashMachine();
      const receiver = new HttpReceiver();
      await receiver.start();
      receiver.answer = () => ({ status: 503 });
      machine.folderOfLogs("more");
      const sink = `type = "http"\nencoding = "raw"\nurl = ${JSON.stringify(receiver.url)}\n[sinks.out.retry]\nmax_ms = 200`;
      const agent = machine.agent(machine.configure({ sink }));
      const short = (name: string) => join(machine.logs, `${name}.log`);
      writeFileSync(short("first"), "first\n");
      await until(() => agent.isOver || receiver.requests.length > 0, "the first request");
      const config = machine.configure({ sink, include });
      writeFileSync(config, readFileSync(config, "utf8").replace("scan_interval_ms", `${key}\nscan_interval_ms`));
      agent.signal("SIGHUP");
      await until(() => agent.isOver || agent.stderr.includes("app has changed"), "the reload");
      const wanted = ["first"];
      for (let round = 0; round < 5; round += 1) {
        writeFileSync(short(`short-${round}`), `short ${round}\n`);
        wanted.push(`short ${round}`);
        await new Promise((resolve) => setTimeout(resolve, 400));
        rmSync(short(`short-${round}`));
      }
      if (include.length > 1) {
        writeFileSync(join(machine.logs, "more", "a.txt"), "more\n");
        wanted.push("more");
      }
      await new Promise((resolve) => setTimeout(resolve, 400));
      receiver.answer = () => ({ status: 204 });
      await until(() => agent.isOver || receiver.lines.length >= wanted.length, "all lines");
      agent.signal("SIGTERM");
      const exit = await agent.end();
      expect(exit.code, exit.stderr).toBe(0);
      expect([...receiver.lines].sort()).toEqual(wanted.sort());
      expect(exit.stderr).not.toMatch(/is gone, and with it/);
      await receiver.kill();
    },
  );
});
