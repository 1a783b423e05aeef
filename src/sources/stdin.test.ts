import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { channel } from "../channel/index.ts";
import type { Batch } from "../record/batch.ts";
import { systemClock } from "../runtime/clock.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { SourceContext, SourcePositions } from "../stage/contract.ts";
import { silentLogger } from "../telemetry/log.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { StdinSource, stdinSource } from "./stdin.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function bench(input: AsyncIterable<Buffer>, options: { maxLineBytes?: number; budgetBytes?: number } = {}) {
  const budget = new MemoryBudget(options.budgetBytes ?? 1024 * 1024, 64 * 1024);
  const context: SourceContext = {
    name: "in",
    log: silentLogger,
    events: { emit() {} },
    clock: systemClock,
    random: systemRandom,
    fileSystem: nodeFileSystem,
    host: "test",
    stateDir: "/nonexistent",
    channels: memoryStageChannels(),
    channel: () => channel<Batch>({ capacity: 2, recordsOf: (batch) => batch.count }),
    budget,
    positions: {} as SourcePositions,
    deadLetter: () => Promise.resolve(false),
  };
  const chosen = stdinSource.options.parse({ max_line_bytes: options.maxLineBytes ?? 1024 });
  return { source: new StdinSource(chosen, context, input), budget };
}

async function take(source: StdinSource, each: (batch: Batch) => void | Promise<void>): Promise<void> {
  for await (const batch of source.output) {
    await each(batch);
    batch.memory.release();
  }
}

const never = new AbortController().signal;

describe("stdin", () => {
  it("keeps nothing of what it has handed on, however much goes through", async () => {
    let gone = 0;
    const chunks = new FinalizationRegistry(() => {
      gone += 1;
    });
    async function* input() {
      for (let chunk = 0; chunk < 50; chunk += 1) {
        const bytes = Buffer.from(`line ${chunk}\n`.repeat(1000));
        chunks.register(bytes, chunk);
        yield bytes;
      }
      // Standard input stays open: what came before must be garbage by now.
      for (let round = 0; round < 200 && gone < 45; round += 1) {
        collectGarbage();
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    const { source, budget } = bench(input());
    let records = 0;
    await Promise.all([
      source.run({ signal: never, once: false }),
      take(source, (batch) => {
        records += batch.count;
      }),
    ]);
    expect(records).toBe(50_000);
    expect(gone).toBeGreaterThanOrEqual(45);
    expect(budget.usedBytes).toBe(0);
  });

  it("reads no further than the channel and the budget have room", async () => {
    let read = 0;
    async function* input() {
      for (; read < 100; read += 1) yield Buffer.from("x".repeat(999).concat("\n"));
    }
    const { source, budget } = bench(input(), { budgetBytes: 4096 });
    const stop = new AbortController();
    const running = source.run({ signal: stop.signal, once: false });
    while (source.output.counters().messages < 2) await new Promise((resolve) => setImmediate(resolve));
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(read).toBe(2);
    expect(budget.usedBytes).toBeLessThanOrEqual(4096);
    stop.abort();
    await running;
    source.output.close();
  });

  it("holds no more of a line without end than max_line_bytes", async () => {
    async function* input() {
      for (let chunk = 0; chunk < 100; chunk += 1) yield Buffer.from("x".repeat(1000));
    }
    const { source, budget } = bench(input(), { maxLineBytes: 1500 });
    let used = 0;
    const sizes: number[] = [];
    await Promise.all([
      source.run({ signal: never, once: false }),
      take(source, (batch) => {
        used = Math.max(used, budget.usedBytes);
        sizes.push(...batch.records.map((record) => record.bytes.length));
      }),
    ]);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(100_000);
    expect(Math.max(...sizes)).toBe(1500);
    // Three batches at most (two in the channel, one received), each of a chunk and an unfinished line.
    expect(used).toBeLessThanOrEqual(4 * (1500 + 1000));
  });

  it("hands on a failure of the reading, and ends quietly when it is stopped", async () => {
    async function* broken() {
      yield Buffer.from("a\n");
      throw new Error("gone");
    }
    const { source } = bench(broken());
    const taking = take(source, () => {});
    await expect(source.run({ signal: never, once: false })).rejects.toThrow("cannot read standard input: gone");
    await taking;
    const stop = new AbortController();
    const silent = bench({ [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) });
    const running = silent.source.run({ signal: stop.signal, once: false });
    stop.abort();
    await running;
    silent.source.output.close();
  });
});
