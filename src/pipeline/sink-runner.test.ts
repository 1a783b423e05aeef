import { describe, expect, it } from "vitest";
import { channel } from "../channel/index.ts";
import { Checkpoint, MemoryCheckpointStore } from "../checkpoint/index.ts";
import type { Outcome, Sink } from "../stage/contract.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { Lane } from "./lane.ts";
import type { Route, Routed } from "./route.ts";
import { SinkRunner } from "./sink-runner.ts";

const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

async function bench(concurrency: number) {
  const clock = new ManualClock();
  const { sender, receiver } = channel<Routed>({ capacity: 2 });
  const writing = new Map<string, (outcome: Outcome) => void>();
  const sink: Sink = {
    write: (batch) =>
      new Promise<Outcome>((resolve) => {
        expect(writing.has(batch.origin.key)).toBe(false);
        writing.set(batch.origin.key, resolve);
      }),
    async [Symbol.asyncDispose]() {},
  };
  const runner = new SinkRunner({
    name: "out",
    sink,
    input: receiver,
    concurrency,
    retry: { initialMs: 1, maxMs: 1, maxAttempts: 0 },
    clock,
    random: new SeededRandom(1),
    events: { emit() {} },
    deadLetters: { put: async () => true },
    commitNow: async () => {},
    onUncommitted: () => {},
  });
  const checkpoint = await Checkpoint.load(new MemoryCheckpointStore());
  const lane = new Lane({
    source: "in",
    sink: "out",
    way: "",
    id: "out",
    checkpoint,
    keepsRecent: false,
    onDirty: () => {},
  });
  runner.lanes = [lane];
  const route: Route = {
    component: "out",
    input: sender,
    overflow: "block",
    sendTimeoutMs: 0,
    lanes: [lane],
    next: [],
  };
  const send = (file: string, index: number) => sender.send({ batch: linesBatch("in", file, index * 2, ["x"]), route });
  const answer = (file: string) => {
    const resolve = writing.get(file)!;
    writing.delete(file);
    resolve({ kind: "delivered" });
  };
  return { runner, sender, receiver, writing, send, answer };
}

describe("SinkRunner", () => {
  it("has at most `concurrency` writes under way, of one file never more than one, and lets the rest wait in its input", async () => {
    const { runner, sender, receiver, writing, send, answer } = await bench(3);
    const running = runner.run();
    let sent = 0;
    const sending = (async () => {
      for (const file of ["a", "a", "b", "c", "d", "e", "f", "g", "h", "i"]) {
        await send(file, sent);
        sent += 1;
      }
      sender.close();
    })();
    await turns();
    // The second of `a` waits, and with it all behind: one in hand, two in the input.
    expect([[...writing.keys()], runner.unsettledBatches, receiver.counters().messages, sent]).toEqual([
      ["a"],
      1,
      2,
      4,
    ]);
    answer("a");
    await turns();
    expect([[...writing.keys()], runner.unsettledBatches, receiver.counters().messages, sent]).toEqual([
      ["a", "b", "c"],
      3,
      2,
      7,
    ]);
    for (let round = 0; round < 9; round += 1) {
      answer([...writing.keys()][0]!);
      await turns();
      expect(writing.size).toBeLessThanOrEqual(3);
    }
    await sending;
    await running;
    expect(runner.unsettledBatches).toBe(0);
  });
});
