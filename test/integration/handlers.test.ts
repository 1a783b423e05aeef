import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { Batch, type Message, Messages, type Origin, type Range } from "../../src/record/index.ts";
import { untilWoken } from "../../src/runtime/until-woken.ts";
import { defineSource, type SourceDefinition } from "../../src/stage/index.ts";
import { parseScrape } from "./scrape.ts";
import { ServedAgent, until } from "./served-agent.ts";

const clients = fileURLToPath(new URL("../../clients/", import.meta.url));

/** A queue in memory: what it hands out in batches, and how often each message was acknowledged. */
class Queue {
  readonly acknowledged = new Map<number, number>();
  readonly #fields: readonly Message["fields"][];
  readonly #perBatch: number;

  constructor(fields: readonly Message["fields"][], perBatch: number) {
    this.#fields = fields;
    this.#perBatch = perBatch;
  }

  get source(): SourceDefinition {
    const onSettled = (ranges: readonly Range[]) => {
      for (const { start, end } of ranges)
        for (let number = start; number < end; number += 1)
          this.acknowledged.set(number, (this.acknowledged.get(number) ?? 0) + 1);
    };
    return defineSource({
      type: "queue",
      summary: "A queue in memory, for tests.",
      options: z.looseObject({}),
      replay: "acknowledged",
      open: async (_options, context) => {
        const { sender, receiver } = context.channel();
        const origin: Origin = {
          source: context.name,
          key: "queue",
          kind: "acknowledged",
          recordIdPrefix: "queue",
          file: undefined,
          onSettled,
        };
        return {
          output: receiver,
          run: async ({ signal }) => {
            using _closing = sender;
            for (let from = 0; from < this.#fields.length && !signal.aborted; from += this.#perBatch) {
              const messages = this.#fields.slice(from, from + this.#perBatch).map((fields, index) => ({
                number: from + index,
                body: Buffer.from(JSON.stringify(fields)),
                fields,
              }));
              const bytes = messages.reduce((sum, { body }) => sum + body.length, 0);
              const range = { start: from, end: from + messages.length };
              const read = new Messages(messages, { readAtMs: 0, host: "here" });
              await sender.send(Batch.ofMessages(origin, read, range, bytes), { signal }).catch(() => {});
            }
            await untilWoken(signal, () => {});
          },
          async [Symbol.asyncDispose]() {},
        };
      },
    });
  }

  /** Every message once. */
  get isEmpty(): boolean {
    return this.acknowledged.size === this.#fields.length && [...this.acknowledged.values()].every((n) => n === 1);
  }
}

const numbered = (count: number, more: (n: number) => object = () => ({})) =>
  Array.from({ length: count }, (_, n) => ({ n, ...more(n) }));

function program(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** A program in Node that notes each message and answers; `deed` may do something else, given `task` and `say`. */
const noting = (folder: string, deed = "") =>
  program(
    folder,
    "worker.mjs",
    `import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
const say = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
createInterface({ input: process.stdin }).on("line", async (line) => {
  const task = JSON.parse(line);
  ${deed}
  appendFileSync(${JSON.stringify(join(folder, "done.txt"))}, task.event.n + " " + task.attempt + "\\n");
  say({ id: task.id, ok: true });
});
`,
  );

const doneIn = ({ folder }: { readonly folder: string }) => {
  const path = join(folder, "done.txt");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
};

const start = (queue: Queue, config: (folder: string) => object, more: object = {}) =>
  ServedAgent.start(
    (folder) => ({
      sources: { q: { type: "queue" } },
      sinks: { work: { type: "handler", inputs: ["q"], ...config(folder) } },
      ...more,
    }),
    { sources: [queue.source] },
  );

const small = { shared: { ffi: { ruby_event_buffer_size: 5 } }, task_readiness: { event_channel: { buffer_size: 1 } } };

describe("handlers of a queue", () => {
  it("acknowledges each message once, done or dead-lettered, and counts attempts from the queue's read count", async () => {
    const queue = new Queue(
      numbered(40, (n) => ({ read_count: n === 7 ? 3 : 1 })),
      10,
    );
    await using served = await start(queue, (folder) => ({
      command: [
        process.execPath,
        noting(
          folder,
          `if (task.event.n === 7 || task.event.n === 8) return say({ id: task.id, error: "odd", retry: true });
           if (task.event.n === 9) return say({ id: task.id, error: "never", retry: false });
           if (task.event.n === 10) process.exit(1);`,
        ),
      ],
      max_attempts: 3,
      backoff: { initial_ms: 1, max_ms: 10 },
    }));
    await until(() => queue.isEmpty, "the queue to be empty");
    expect(
      doneIn(served)
        .map((line) => Number(line.split(" ")[0]))
        .sort((a, b) => a - b),
    ).toEqual(
      numbered(40)
        .map(({ n }) => n)
        .filter((n) => ![7, 8, 9, 10].includes(n)),
    );
    const letters =
      await served.json<{ event: { n: number }; attempts: number; reason: string }[]>("/api/dead-letters");
    const told = letters.map(({ event, attempts, reason }) => [event.n, attempts, reason.replace(/ \(.*/, "")]);
    expect(told.sort(([one], [other]) => Number(one) - Number(other))).toEqual([
      [7, 3, "odd"],
      [8, 3, "odd"],
      [9, 1, "never"],
      [10, 3, "its worker was ended: it exited with code 1"],
    ]);
    const { samples } = parseScrape((await served.ask("/metrics")).body);
    const value = (name: string, labels: object) =>
      samples.find((sample) => {
        const wanted = Object.entries(labels).every(([label, text]) => sample.labels[label] === text);
        return sample.name === name && wanted;
      })?.value;
    expect(value("tailrace_sink_acknowledged_records_total", { component: "work" })).toBe(36);
    expect(value("tailrace_dead_letter_records_total", { component: "work" })).toBe(4);
    // Refusals, and what was tried again: 7 once (its third read), 8 and 10 three times, 9 once.
    expect(value("tailrace_sink_errors_total", { component: "work" })).toBe(8);
    const ffi = { component: "shared", channel: "ffi" };
    expect(value("mpsc_channel_sent_total", ffi)).toBeGreaterThanOrEqual(44);
    expect(value("mpsc_channel_capacity", { component: "task_readiness", channel: "event_channel" })).toBe(1000);
    expect(value("mpsc_channel_sent_total", { component: "worker", channel: "command_processor" })).toBeGreaterThan(0);
  });

  it("holds no more than its channel while workers are slow, loses nothing, and stays live and ready", async () => {
    const queue = new Queue(numbered(120), 20);
    await using served = await start(
      queue,
      (folder) => ({
        command: [
          process.execPath,
          noting(
            folder,
            `await new Promise((done) => setTimeout(done, 30));
             if (task.event.n % 10 === 0 && task.attempt < 3) return say({ id: task.id, error: "odd" });`,
          ),
        ],
        backoff: { initial_ms: 1, max_ms: 20 },
        concurrency: 2,
      }),
      { mpsc_channels: small },
    );
    let most = 0;
    await until(() => {
      const ffi = served.agent.channels().find(({ channel }) => channel === "ffi");
      most = Math.max(most, ffi?.messages ?? 0);
      return queue.isEmpty;
    }, "the queue to be empty");
    expect(most).toBeGreaterThan(2);
    expect(most).toBeLessThanOrEqual(5);
    expect(new Set(doneIn(served)).size).toBe(120);
    expect(doneIn(served)).toHaveLength(120);
    expect(await served.json("/ready")).toEqual({ ready: true });
  });

  it.each(["block", "drop_newest", "drop_oldest"])(
    "loses nothing whatever policy somebody gave to its channel: %s",
    async (overflow) => {
      const queue = new Queue(numbered(60), 10);
      await using served = await start(
        queue,
        (folder) => ({
          command: [
            process.execPath,
            noting(folder, `if (task.attempt < 2) return say({ id: task.id, error: "odd" });`),
          ],
          backoff: { initial_ms: 1, max_ms: 5 },
          concurrency: 2,
        }),
        {
          mpsc_channels: {
            shared: { ffi: { ruby_event_buffer_size: 2, overflow, priority_lanes: true } },
            task_readiness: { event_channel: { buffer_size: 1, overflow } },
          },
        },
      );
      await until(() => queue.isEmpty, "the queue to be empty");
      expect(doneIn(served).sort()).toEqual(
        numbered(60)
          .map(({ n }) => `${n} 2`)
          .sort(),
      );
    },
  );

  it("is not ready while its program cannot start, and says why; is when it can, with nothing lost", async () => {
    const queue = new Queue(numbered(10), 5);
    let gate = "";
    await using served = await start(queue, (folder) => {
      gate = join(folder, "gate");
      const path = noting(folder);
      const text = readFileSync(path, "utf8");
      writeFileSync(
        path,
        `import { existsSync } from "node:fs";\nif (!existsSync(${JSON.stringify(gate)})) { console.error("no gate"); process.exit(4); }\n${text}`,
      );
      return { command: [process.execPath, path], max_attempts: 1, concurrency: 2 };
    });
    await until(async () => (await served.ask("/ready")).status === 503, "the agent not to be ready");
    expect(await served.json("/ready")).toEqual({
      ready: false,
      not_ready: [{ component: "work", reason: "its workers cannot be started: it exited with code 4" }],
    });
    expect(queue.acknowledged.size).toBe(0);
    expect(served.log.filter(({ fields }) => fields["event"] === "handler_failing")).toHaveLength(1);
    expect(served.log.map(({ message }) => message)).toContain("no gate");
    writeFileSync(gate, "");
    await until(() => queue.isEmpty, "the queue to be empty");
    await until(async () => (await served.ask("/ready")).status === 200, "the agent to be ready");
    expect(doneIn(served)).toHaveLength(10);
  });

  it("is live and ready while one message takes long", async () => {
    const queue = new Queue(numbered(1), 1);
    await using served = await start(queue, (folder) => ({
      command: [process.execPath, noting(folder, "await new Promise((done) => setTimeout(done, 3500));")],
    }));
    for (const end = Date.now() + 3000; Date.now() < end; ) {
      expect((await served.ask("/ready")).status).toBe(200);
      await new Promise((turn) => setTimeout(turn, 100));
    }
    await until(() => queue.isEmpty, "the queue to be empty");
  });

  it("finishes what is under way when it is stopped, and ends every worker", async () => {
    const queue = new Queue(numbered(60), 5);
    const served = await start(queue, (folder) => ({
      command: [process.execPath, noting(folder, "await new Promise((done) => setTimeout(done, 20));")],
    }));
    try {
      await until(() => doneIn(served).length > 8, "some messages to be done");
      served.agent.stop("test");
      expect(await served.ended).toMatchObject({ exitCode: 0 });
      const done = doneIn(served).map((line) => Number(line.split(" ")[0]));
      // Exactly those that were done are acknowledged.
      expect(new Set(done)).toEqual(new Set(queue.acknowledged.keys()));
      expect(done).toHaveLength(new Set(done).size);
      const { stdout } = spawnSync("ps", ["-eo", "args"], { encoding: "utf8" });
      expect(stdout).not.toContain(join(served.folder, "worker.mjs"));
    } finally {
      await served[Symbol.asyncDispose]();
    }
  });

  it.each(["ruby", "python3", "module"])("runs 10,000 messages that do nothing through %s", async (kind) => {
    const queue = new Queue(numbered(10_000), 100);
    await using served = await start(queue, (folder) => {
      if (kind === "module") return { module: program(folder, "task.mjs", "export default () => {};"), concurrency: 2 };
      const isThere = spawnSync(kind, ["--version"], { stdio: "ignore" }).status === 0;
      if (!isThere && process.env["CI"] === "true") throw new Error(`CI must have ${kind}`);
      if (!isThere) console.warn(`SKIPPED: this needs ${kind}`);
      const text =
        kind === "ruby"
          ? `require "${clients}ruby/tailrace_handler"\nTailraceHandler.run { }\n`
          : `import sys\nsys.path.insert(0, "${clients}python")\nfrom tailrace_handler import run\nrun(lambda *task: None)\n`;
      if (!isThere) return { module: program(folder, "task.mjs", "export default () => {};") };
      return { command: [kind, program(folder, `worker.${kind}`, text)], concurrency: 2 };
    });
    for (const end = Date.now() + 60_000; !queue.isEmpty && Date.now() < end; )
      await new Promise((turn) => setTimeout(turn, 10));
    expect(queue.isEmpty).toBe(true);
    const edges = await served.json<{ readonly edges: readonly { sent: number; received: number }[] }>("/api/audit");
    for (const { sent, received } of edges.edges) expect([sent, received]).toEqual([10_000, 10_000]);
  });
});
