import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import type { Batch, DataRecord } from "../record/index.ts";
import type { Outcome, Sink } from "../stage/index.ts";
import type { LogFields, Logger } from "../telemetry/log.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { sinkContext } from "../testing/sink-context.ts";
import { handler } from "./handler.ts";

const folder = mkdtempSync(join(tmpdir(), "tailrace-handler-"));
const clients = fileURLToPath(new URL("../../clients/", import.meta.url));
const never = new AbortController().signal;

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file with `text` in the folder of this test. */
function script(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/**
 * A worker whose first attempt at a message does what the message says, and whose second is well; it notes each message
 * that it is done with.
 */
const odd = script(
  "odd.mjs",
  `import { appendFileSync, closeSync } from "node:fs";
import { createInterface } from "node:readline";
process.on("SIGTERM", () => { if (!process.argv[3]) process.exit(); });
const say = (value) => process.stdout.write(typeof value === "string" ? value : JSON.stringify(value) + "\\n");
const deeds = {
  garbage: () => say("debug: here\\n"),
  number: () => say("7\\n"),
  long: () => say("x".repeat(1100000)),
  hang: () => {},
  unknown: () => say({ id: "nobody", ok: true }),
  close: () => { closeSync(1); },
  leave: () => process.exit(0),
  crash: () => process.exit(3),
  kill: () => process.kill(process.pid, "SIGKILL"),
  error: ({ id }) => say({ id, error: "odd", retry: true }),
};
createInterface({ input: process.stdin }).on("line", (line) => {
  const task = JSON.parse(line);
  const deed = deeds[task.event.message];
  if (deed !== undefined && (task.attempt === 1 || task.event.always)) return deed(task);
  appendFileSync(process.argv[2], task.event.message + " " + task.attempt + "\\n");
  say({ id: task.id, ok: true });
  if (task.event.message === "twice") say({ id: task.id, ok: true });
}).on("close", () => { if (process.argv[3]) setInterval(() => {}, 1000); });
`,
);

/** What a sink said, and what became of each record. */
class Bench {
  readonly lines: { readonly level: string; readonly message: string }[] = [];
  readonly events: string[] = [];
  readonly endings: string[] = [];
  failures = 0;
  readonly #offsets = new Map<string, number>();
  sink!: Sink;

  static async open(options: object, capacity = 20): Promise<Bench> {
    const bench = new Bench();
    const checked = handler.options.parse({ backoff: { initial_ms: 1, max_ms: 20 }, concurrency: 2, ...options });
    const at = (level: string) => (_fields: LogFields, message: string) => void bench.lines.push({ level, message });
    const log: Logger = {
      error: at("error"),
      warn: at("warn"),
      info: at("info"),
      debug: at("debug"),
      child: () => log,
    };
    bench.sink = await handler.open(
      checked,
      sinkContext({
        log,
        name: "work",
        channels: memoryStageChannels(capacity),
        events: { emit: (name) => bench.events.push(name) },
      }),
    );
    return bench;
  }

  batch(texts: readonly string[], key = "a"): Batch {
    const offset = this.#offsets.get(key) ?? 0;
    const batch = linesBatch("in", key, offset, texts);
    this.#offsets.set(key, batch.ranges[0]!.end);
    return batch;
  }

  write(batch: Batch, signal: AbortSignal = never): Promise<Outcome> {
    const text = ({ event }: DataRecord) => String(event["message"]);
    return this.sink.write(batch, {
      signal,
      progress: {
        delivered: (record) => this.endings.push(`${text(record)} done`),
        rejected: async (record, reason, attempts) => {
          this.endings.push(`${text(record)} refused after ${attempts}: ${reason}`);
          return true;
        },
        failed: () => {
          this.failures += 1;
        },
        alive() {},
        stalled: (reason) => this.events.push(`stalled: ${reason}`),
      },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sink[Symbol.asyncDispose]();
  }
}

const noteOf = (name: string) => {
  const path = join(folder, name);
  rmSync(path, { force: true });
  return { path, lines: () => (existsSync(path) ? readFileSync(path, "utf8").trim().split("\n").sort() : []) };
};

/** Processes on this machine that run something in the folder of this test. */
function workersLeft(): string[] {
  const { stdout } = spawnSync("ps", ["-eo", "pid,args"], { encoding: "utf8" });
  return stdout.split("\n").filter((line) => line.includes(folder) && !line.includes("ps -eo"));
}

describe("handler", () => {
  it.each([
    [
      "ruby",
      `require "${clients}ruby/tailrace_handler"
TailraceHandler.run do |event, id:, attempt:|
  puts "printed"
  raise TailraceHandler::Refused, "never" if event["message"] == "never"
  raise "not yet" if event["message"] == "later" && attempt == 1
  File.open(ARGV[0], "a") { |file| file.write("#{event["message"]} #{attempt} #{id.size}\\n") }
end
`,
    ],
    [
      "python3",
      `import sys
sys.path.insert(0, "${clients}python")
from tailrace_handler import Refused, run

def work(event, id, attempt):
    print("printed")
    if event["message"] == "never":
        raise Refused("never")
    if event["message"] == "later" and attempt == 1:
        raise RuntimeError("not yet")
    with open(sys.argv[1], "a") as file:
        file.write(f"{event['message']} {attempt} {len(id)}\\n")

run(work)
`,
    ],
  ])("runs each message through a program in %s, by the client that is shipped", async (program, text) => {
    if (spawnSync(program, ["--version"], { stdio: "ignore" }).status !== 0) {
      if (process.env["CI"] === "true") throw new Error(`CI must have ${program}`);
      console.warn(`SKIPPED: this needs ${program}`);
      return;
    }
    const note = noteOf(`${program}.txt`);
    await using bench = await Bench.open({ command: [program, script(`work.${program}`, text), note.path] });
    expect(await bench.write(bench.batch(["ü", "later", "never", '"quoted"']))).toEqual({ kind: "delivered" });
    expect(note.lines()).toEqual(['"quoted" 1 19', "later 2 18", "ü 1 18"]);
    expect(bench.endings.filter((ending) => ending.endsWith("done"))).toHaveLength(3);
    expect(bench.endings.find((ending) => ending.startsWith("never"))).toMatch(/^never refused after 1: .*never$/);
    // What it prints is log.
    expect(bench.lines.filter(({ message }) => message === "printed").length).toBeGreaterThan(3);
    expect(bench.events).toEqual([]);
  });

  it.each(["garbage", "number", "long", "hang", "unknown", "close", "leave", "crash", "kill", "error"])(
    "brings a message again whose worker answers with %s, and each other message once",
    async (deed) => {
      const note = noteOf(`${deed}.txt`);
      await using bench = await Bench.open({
        command: [process.execPath, odd, note.path],
        timeout_ms: deed === "hang" ? 4000 : 60_000,
      });
      await bench.write(bench.batch(["first"]));
      expect(await bench.write(bench.batch(["a", deed, "b"]))).toEqual({ kind: "delivered" });
      expect(note.lines()).toEqual(["a 1", "b 1", "first 1", `${deed} 2`].sort());
      expect(bench.endings.sort()).toEqual(["a done", "b done", "first done", `${deed} done`].sort());
      expect(bench.failures).toBe(1);
      expect(bench.events).toEqual(deed === "error" ? [] : ["handler_worker_died"]);
    },
  );

  it("lets a second answer to the same message go", async () => {
    const note = noteOf("twice.txt");
    await using bench = await Bench.open({ command: [process.execPath, odd, note.path], concurrency: 1 });
    await bench.write(bench.batch(["twice", "a", "twice", "b"]));
    expect(bench.endings).toEqual(["twice done", "a done", "twice done", "b done"]);
    expect(bench.events).toEqual([]);
    expect(bench.lines.filter(({ level }) => level === "warn")).toHaveLength(1);
  });

  it("has several messages under way in one worker, answered in any order", async () => {
    const program = script(
      "late.mjs",
      `import { createInterface } from "node:readline";
const held = [];
createInterface({ input: process.stdin }).on("line", (line) => {
  held.push(JSON.parse(line).id);
  if (held.length === 3) while (held.length > 0) console.log(JSON.stringify({ id: held.pop(), ok: true }));
});`,
    );
    await using bench = await Bench.open({ command: [process.execPath, program], concurrency: 1, max_in_flight: 3 });
    await bench.write(bench.batch(["a", "b", "c"]));
    expect(bench.endings).toEqual(["c done", "b done", "a done"]);
  });

  it("logs standard error, cut and counted where it is too much", async () => {
    const program = script(
      "loud.mjs",
      `import { createInterface } from "node:readline";
createInterface({ input: process.stdin }).on("line", (line) => {
  process.stderr.write("one\\n" + "y".repeat(20000) + "\\n" + "flood\\n".repeat(5000));
  console.log(JSON.stringify({ id: JSON.parse(line).id, ok: true }));
}).on("close", () => process.stderr.write("bye\\n"));`,
    );
    const bench = await Bench.open({ command: [process.execPath, program], concurrency: 1 });
    await bench.write(bench.batch(["a"]));
    await bench[Symbol.asyncDispose]();
    const said = bench.lines.map(({ message }) => message);
    expect(said).toContain("one");
    expect(said).toContain("(a line of more than 8192 bytes was left out)");
    expect(said.filter((message) => message === "flood").length).toBeLessThan(100);
    expect(said).toContainEqual(expect.stringMatching(/^a worker wrote \d+ more lines to standard error$/));
  });

  it("counts events in answers, takes their messages as done, and says once that they go nowhere", async () => {
    const program = script(
      "events.mjs",
      `import { createInterface } from "node:readline";
createInterface({ input: process.stdin }).on("line", (line) =>
  console.log(JSON.stringify({ id: JSON.parse(line).id, ok: true, events: [{}, {}] })));`,
    );
    await using bench = await Bench.open({ command: [process.execPath, program] });
    await bench.write(bench.batch(["a", "b"]));
    expect(bench.endings.sort()).toEqual(["a done", "b done"]);
    const warnings = bench.lines.filter(({ level }) => level === "warn");
    expect(warnings).toHaveLength(1);
    expect(warnings[0]!.message).toContain("a sink has no output");
  });

  it("holds messages back while its program cannot start, says so, and dead-letters none of them", async () => {
    const program = script("broken.mjs", "throw new Error('a missing library')");
    await using bench = await Bench.open({ command: [process.execPath, program], max_attempts: 1 });
    const abort = new AbortController();
    const outcome = bench.write(bench.batch(["a", "b"]), abort.signal);
    await expect.poll(() => bench.events).toContainEqual(expect.stringMatching(/^stalled: its workers/));
    expect(bench.events.filter((name) => name === "handler_failing")).toHaveLength(1);
    abort.abort();
    expect(await outcome).toMatchObject({ kind: "retry" });
    expect(bench.endings).toEqual([]);
  });

  it("stops workers that ignore the end of input and SIGTERM", async () => {
    const note = noteOf("stubborn.txt");
    const bench = await Bench.open({ command: [process.execPath, odd, note.path, "stubborn"], grace_ms: 100 });
    await bench.write(bench.batch(["a"]));
    expect(workersLeft()).toHaveLength(2);
    await bench[Symbol.asyncDispose]();
    expect(workersLeft()).toEqual([]);
  });

  it("ends what a worker has started with the worker", async () => {
    const program = script("parent.sh", `sleep 1000 "${folder}" & read line; kill -9 $$`);
    const bench = await Bench.open({ command: ["sh", program], concurrency: 1 });
    const abort = new AbortController();
    const outcome = bench.write(bench.batch(["a"]), abort.signal);
    await expect.poll(() => bench.events.length).toBeGreaterThan(0);
    abort.abort();
    await outcome;
    await bench[Symbol.asyncDispose]();
    expect(workersLeft()).toEqual([]);
  });

  it("lets what workers hold end when it is told to give up, and lets go of the rest", async () => {
    const program = script(
      "slow.mjs",
      `import { createInterface } from "node:readline";
createInterface({ input: process.stdin }).on("line", (line) =>
  setTimeout(() => console.log(JSON.stringify({ id: JSON.parse(line).id, ok: true })), 300));`,
    );
    await using bench = await Bench.open({ command: [process.execPath, program], concurrency: 1 });
    await bench.write(bench.batch(["warm up"]));
    const abort = new AbortController();
    const outcome = bench.write(bench.batch(["a", "b", "c", "d"]), abort.signal);
    abort.abort();
    expect(await outcome).toMatchObject({ kind: "retry" });
    expect(bench.endings).toEqual(["warm up done", "a done"]);
  });

  describe("with a module", () => {
    const module = (name: string, text: string) => ({ module: script(name, text) });

    it("runs each message in a thread, TypeScript included", async () => {
      const note = noteOf("module.txt");
      const options = module(
        "task.ts",
        `import { appendFileSync } from "node:fs";
interface Task { readonly id: string; readonly attempt: number }
export default async function work(event: { message: string }, task: Task): Promise<void> {
  console.log("printed");
  if (event.message === "never") throw Object.assign(new Error("never"), { retry: false });
  if (event.message === "later" && task.attempt === 1) throw new Error("not yet");
  appendFileSync(${JSON.stringify(note.path)}, event.message + " " + task.attempt + "\\n");
}`,
      );
      await using bench = await Bench.open(options);
      expect(await bench.write(bench.batch(["a", "later", "never"]))).toEqual({ kind: "delivered" });
      expect(note.lines()).toEqual(["a 1", "later 2"]);
      expect(bench.endings.find((ending) => ending.startsWith("never"))).toBe("never refused after 1: never");
      expect(bench.lines.map(({ message }) => message)).toContain("printed");
    });

    it("starts a thread again that hangs, fails outside of a call, or leaves", async () => {
      const options = module(
        "deeds.mjs",
        `export default (event, { attempt }) => {
  if (attempt > 1) return;
  if (event.message === "hang") for (;;);
  if (event.message === "leave") process.exit(0);
  if (event.message === "throw") setTimeout(() => { throw new Error("outside"); });
  if (event.message === "throw" || event.message === "wait") return new Promise(() => {});
};`,
      );
      await using bench = await Bench.open({ ...options, timeout_ms: 1500 });
      await bench.write(bench.batch(["hang", "leave", "a", "throw", "wait", "b"]));
      expect(bench.endings.map((ending) => ending.split(" ")[1])).toEqual(Array(6).fill("done"));
      expect(bench.failures).toBe(4);
    });

    it("refuses to open where the module is no handler", async () => {
      const options = module("nothing.mjs", "export const work = 1;");
      await expect(Bench.open(options)).rejects.toThrow(
        /work: its workers cannot be started: .*default export must be/,
      );
      await expect(Bench.open(module("syntax.ts", "const = 1;"))).rejects.toThrow(/it could not be loaded/);
    });

    it("is tried by a probe: whether it loads, and nothing more", async () => {
      const note = noteOf("probed.txt");
      const good = module("good.mjs", `export default () => { throw new Error("never called"); };`);
      const bad = module("bad.mjs", `import "./no-such-file.mjs"; export default () => {};`);
      await handler.probe!(handler.options.parse(good), sinkContext());
      await expect(handler.probe!(handler.options.parse(bad), sinkContext())).rejects.toThrow(/it could not be loaded/);
      await handler.probe!(handler.options.parse({ command: [process.execPath, odd] }), sinkContext());
      expect(note.lines()).toEqual([]);
    });

    it("is told from a module that is no handler before anything is started", async () => {
      const checked = (options: object) => handler.check!(handler.options.parse(options));
      const nothing = module("nothing.mjs", "export const work = 1;");
      expect(await checked(nothing)).toMatchObject([
        { path: ["module"], message: expect.stringContaining("default export must be") },
      ]);
      expect(await checked(module("throws.mjs", 'throw new Error("not today");'))).toMatchObject([
        { message: expect.stringContaining("not today") },
      ]);
      expect(await checked(module("good.mjs", "export default () => {};"))).toEqual([]);
      expect(await checked({ command: [process.execPath, odd] })).toEqual([]);
    });

    it("tells a module that listens what happens, one event at a time, and how many it missed", async () => {
      const note = noteOf("events.txt");
      const options = module(
        "listens.mjs",
        `import { appendFileSync } from "node:fs";
export default () => {};
export const onEvent = async (event) => {
  await new Promise((resolve) => setTimeout(resolve, 200));
  appendFileSync(${JSON.stringify(note.path)}, event.event + " " + (event.missed ?? event.id ?? "") + "\\n");
};`,
      );
      await using bench = await Bench.open({ ...options, concurrency: 1 }, 2);
      await bench.write(bench.batch(Array.from({ length: 20 }, (_, n) => `${n}`)));
      const lines = (event: string) => note.lines().filter((line) => line.startsWith(event));
      const missed = () => lines("events_missed").map((line) => Number(line.split(" ")[1]));
      const counted = () => missed().reduce((sum, count) => sum + count, 0) + lines("task_done").length;
      await expect.poll(counted).toBe(20);
      expect(missed().length).toBeGreaterThan(0);
    });
  });

  describe("in a configuration", () => {
    const mistakes = (options: object) =>
      handler.options.safeParse(options).error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);

    it("needs a command or a module, and not both", () => {
      expect(mistakes({})).toEqual([expect.stringContaining("has nothing to run")]);
      expect(mistakes({ command: ["sh"], module: odd })).toEqual([expect.stringContaining("give one of the two")]);
      expect(mistakes({ command: ["sh"] })).toBeUndefined();
    });

    it("names a program or a file that is not there, before anything is started", () => {
      expect(mistakes({ command: ["no-such-program"] })).toEqual([
        "command.0: PATH has no such program: no-such-program",
      ]);
      expect(mistakes({ command: [odd] })).toEqual([expect.stringContaining("that may be executed")]);
      expect(mistakes({ module: "./no-such.ts" })).toEqual(["module: there is no such file: ./no-such.ts"]);
    });
  });
});
