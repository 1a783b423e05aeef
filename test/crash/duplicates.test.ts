import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HttpReceiver } from "../../src/testing/http-receiver.ts";
import { CrashMachine, until } from "./machine.ts";

describe("agent › into a sink that keeps no position", () => {
  it("repeats nothing after a kill at rest, however long the commit interval is", async () => {
    await using machine = new CrashMachine();
    const receiver = new HttpReceiver();
    await receiver.start();
    const log = join(machine.logs, "a.log");
    writeFileSync(log, "");
    const sink = `type = "http"\nencoding = "raw"\nurl = ${JSON.stringify(receiver.url)}`;
    const config = machine.configure({ sink, more: "[checkpoint]\ncommit_interval_ms = 60000" });
    const wanted: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      const agent = machine.agent(config);
      for (let burst = 0; burst < 5; burst += 1) {
        const lines = Array.from({ length: 20 }, (_, index) => `line ${round} ${burst} ${index}`);
        wanted.push(...lines);
        appendFileSync(log, `${lines.join("\n")}\n`);
        await until(() => agent.isOver || receiver.lines.length >= wanted.length, "the lines");
      }
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await agent.killAtWork();
    }
    const last = await machine.agent(config, "--once").end();
    expect(last.code, last.stderr).toBe(0);
    expect(receiver.lines).toEqual(wanted);
    await receiver.kill();
  });
});
