import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CrashMachine, until } from "./machine.ts";

const COUNT = 60_000;
const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) =>
    (from + index) % 1000 === 7 ? `no JSON ${from + index}\n` : `{"seq":${from + index},"text":"${"x".repeat(200)}"}\n`,
  ).join("");
const expected = (count: number) => Array.from({ length: count }, (_, seq) => seq).filter((seq) => seq % 1000 !== 7);

describe("agent › transforms in threads", () => {
  const configure = (machine: CrashMachine, threads: number): string => {
    const module = join(machine.folder, "shape.mjs");
    writeFileSync(module, "export default ({ seq }) => ({ seq, added: true });\n");
    const config = machine.configure({
      sink: `type = "file"\npath = ${JSON.stringify(machine.output)}`,
      more: `[transforms.parse]\ntype = "json"\ninputs = ["app"]\n[transforms.shape]\ntype = "map"\ninputs = ["parse"]\nmodule = ${JSON.stringify(module)}`,
    });
    const text = readFileSync(config, "utf8").replace(
      'inputs = ["app"]\ntype = "file"',
      'inputs = ["shape"]\ntype = "file"',
    );
    writeFileSync(config, `transform_threads = ${threads}\n${text}`);
    return config;
  };
  const sequence = (machine: CrashMachine) =>
    machine.outputLines().map((line) => (JSON.parse(line) as { seq: number }).seq);

  it("deliver every line once and in order through kill -9, and threads can come and go", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), lines(0, COUNT));
    const config = configure(machine, 2);
    for (let kills = 0; kills < 3; kills += 1) {
      const before = machine.outputBytes();
      const agent = machine.agent(config);
      await until(() => agent.isOver || machine.outputBytes() > before + 100_000, "more output");
      expect(agent.isOver, agent.stderr).toBe(false);
      agent.kill();
      await agent.end();
    }
    const second = await machine.agent(config, "--once").end();
    expect(second.code, second.stderr).toBe(0);
    expect(sequence(machine)).toEqual(expected(COUNT));

    appendFileSync(join(machine.logs, "a.log"), lines(COUNT, COUNT + 500));
    const without = await machine.agent(configure(machine, 0), "--once").end();
    expect(without.code, without.stderr).toBe(0);
    expect(sequence(machine)).toEqual(expected(COUNT + 500));
    const letters = machine.ask("dlq", "list", "--json", "--state-dir", machine.stateDir);
    expect(letters.match(/parse: the field /g), letters).toHaveLength(COUNT / 1000);
    expect(letters.match(/"component":\s*"parse>shape"/g), letters).toHaveLength(COUNT / 1000);

    // Sent again without threads, they are refused again, by the first of what was the run.
    const ids = (JSON.parse(letters) as { id: string }[]).map(({ id }) => id);
    machine.ask("dlq", "replay", ...ids, "--state-dir", machine.stateDir);
    const replaying = machine.agent(configure(machine, 0));
    const ofFirst = () =>
      machine.ask("dlq", "list", "--json", "--state-dir", machine.stateDir).match(/"component":\s*"parse"/g)?.length;
    await until(() => replaying.isOver || ofFirst() === ids.length, "letters of the first transform");
    expect(replaying.isOver, replaying.stderr).toBe(false);
  }, 90_000);

  it("end the agent with a sentence when the user's code ends its thread, and lose nothing by it", async () => {
    await using machine = new CrashMachine();
    writeFileSync(join(machine.logs, "a.log"), lines(0, 5000));
    const config = configure(machine, 1);
    const module = join(machine.folder, "shape.mjs");
    const good = readFileSync(module, "utf8");
    writeFileSync(module, "export default ({ seq }) => { if (seq === 3000) process.exit(7); return { seq }; };\n");
    const agent = machine.agent(config);
    const { code } = await agent.end();
    expect(code).toBe(1);
    expect(agent.stderr).toContain("one of its threads ended with code 7");
    writeFileSync(module, good);
    const second = await machine.agent(config, "--once").end();
    expect(second.code, second.stderr).toBe(0);
    expect(sequence(machine)).toEqual(expected(5000));
  }, 60_000);
});
