import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HttpReceiver } from "../../src/testing/http-receiver.ts";
import { CrashMachine, type LogLine, until } from "./machine.ts";

const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index} ${"x".repeat(100)}`);
const textOf = (all: readonly string[]) => all.map((line) => `${line}\n`).join("");

/** Lines that gaps of the log cover; the file holds `all`. */
function linesInGaps(log: readonly LogLine[], all: readonly string[]): number {
  const gaps = log.filter(({ event }) => event === "gap").map(({ offset, bytes }) => [Number(offset), Number(bytes)]);
  let start = 0;
  return all.filter(({ length }) => {
    const at = start;
    start += length + 1;
    return gaps.some(([offset, bytes]) => at >= offset! && at < offset! + bytes!);
  }).length;
}

/** Records that the log says were dropped. */
const told = (stderr: string) =>
  [...stderr.matchAll(/Dropped (\d+) records in last second/g)].reduce((sum, [, count]) => sum + Number(count), 0);

describe("agent › required = false", () => {
  it("never holds back the sink beside one that refuses: what is too much is dropped and told; each line once", async () => {
    await using machine = new CrashMachine();
    const receiver = new HttpReceiver();
    await receiver.start();
    receiver.answer = () => ({ status: 503 });
    const log = join(machine.logs, "a.log");
    const config = machine.configure({
      more: `[sinks.web]
type = "http"
inputs = ["app"]
encoding = "raw"
url = ${JSON.stringify(receiver.url)}
required = false
max_lag_bytes = 600000
[sinks.web.retry]
initial_ms = 50
max_ms = 200`,
    });
    const first = lines(1, 50_000);
    writeFileSync(log, textOf(first));
    const agent = machine.agent(config, "--log-format", "json");
    await until(() => agent.isOver || machine.outputBytes() === textOf(first).length, "the healthy sink");
    expect(receiver.taken).toEqual([]);
    await until(() => agent.isOver || told(agent.stderr) > 0, "the report");
    expect(agent.stderr).toMatch(/"component":"web","event":"drop_burst","channel":"input","dropped":\d+/);
    // A kill: what the branch had, and had not ended, comes again; the healthy sink waits for none of it.
    agent.kill();
    await agent.exited;
    const dropped = told(agent.stderr);
    expect(dropped).toBeGreaterThan(35_000);
    const second = lines(50_001, 70_000);
    appendFileSync(log, textOf(second));
    const again = machine.agent(config, "--log-format", "json");
    await until(
      () => again.isOver || machine.outputBytes() === textOf(first).length + textOf(second).length,
      "the healthy sink after the kill",
    );
    await until(() => again.isOver || told(again.stderr) > 0, "the second report");
    receiver.answer = () => ({ status: 204 });
    const last = lines(70_001, 70_010);
    await until(() => again.isOver || receiver.lines.length > 0, "the sink that is back");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    appendFileSync(log, textOf(last));
    await until(() => again.isOver || receiver.lines.at(-1) === last.at(-1), "the last line at both");
    again.signal("SIGTERM");
    const exit = await again.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(machine.outputLines()).toEqual([...first, ...second, ...last]);
    // What was dropped since, others would have had to wait for: the branch gave up what lay before it.
    const gone = linesInGaps(again.log, [...first, ...second, ...last]);
    expect(gone).toBeGreaterThan(0);
    // Each line came, or was counted as dropped, or lies in a gap that was told.
    expect(new Set(receiver.lines).size).toBe(receiver.lines.length);
    expect(receiver.lines.length + dropped + told(exit.stderr) + gone).toBe(70_010);
    await receiver.kill();
  });

  it.each(["--once", "SIGTERM"])("does not hold up an end while it takes nothing (%s)", async (how) => {
    await using machine = new CrashMachine();
    const receiver = new HttpReceiver();
    await receiver.start();
    receiver.answer = () => ({ status: 503 });
    const config = machine.configure({
      more: `[sinks.web]\ntype = "http"\ninputs = ["app"]\nencoding = "raw"\nurl = ${JSON.stringify(receiver.url)}\nrequired = false`,
    });
    const all = lines(1, 1000);
    writeFileSync(join(machine.logs, "a.log"), textOf(all));
    const agent = machine.agent(config, ...(how === "--once" ? ["--once"] : []));
    await until(() => agent.isOver || machine.outputBytes() === textOf(all).length, "the healthy sink");
    if (how === "SIGTERM") agent.signal("SIGTERM");
    const exit = await agent.end();
    expect(exit.code, exit.stderr).toBe(0);
    expect(exit.stderr).toContain("web is not required and takes nothing");
    // Nothing was dropped: it comes with the next run.
    receiver.answer = () => ({ status: 204 });
    const again = await machine.agent(config, "--once").end();
    expect(again.code, again.stderr).toBe(0);
    expect(receiver.lines).toEqual(all);
    expect(machine.outputLines()).toEqual(all);
    await receiver.kill();
  });
});
