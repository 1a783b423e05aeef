import { describe, expect, it } from "vitest";
import { channel } from "../channel/index.ts";
import type { Batch } from "../record/batch.ts";
import { systemClock } from "../runtime/clock.ts";
import { silentLogger } from "../telemetry/log.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import type { Route, Routed } from "./route.ts";
import { ThreadedRunner } from "./threaded-runner.ts";
import type { Made, ThreadedTransform } from "./threaded-transform.ts";

/** Threads that answer when the test says so: each line becomes `{"text":LINE}`. */
class FakeThreads implements ThreadedTransform {
  readonly threads = 2;
  readonly jobs: { readonly batch: Batch; answer(): void; fail(reason: string): void }[] = [];
  local = 0;
  isClosed = false;

  applyThere(batch: Batch): Promise<Made> {
    return new Promise((resolve, reject) => {
      const { lines } = batch;
      const texts = Array.from({ length: lines!.count }, (_, index) => lines!.textOf(index));
      const answer = () =>
        resolve({
          json: Buffer.from(texts.map((text) => `${JSON.stringify({ text })}\n`).join("")),
          indexes: Uint32Array.from(texts.keys()),
          splits: new Float64Array(texts.length),
          rejected: [],
          release() {},
        });
      this.jobs.push({ batch, answer, fail: (reason) => reject(new Error(reason)) });
    });
  }

  apply: ThreadedTransform["apply"] = (records) => {
    this.local += 1;
    return { kept: records.map((record) => record.with({ text: record.event["message"] })) };
  };

  async [Symbol.asyncDispose]() {
    this.isClosed = true;
  }
}

function setUp() {
  const threads = new FakeThreads();
  const input = channel<Routed>({ capacity: 100 });
  const out = channel<Routed>({ capacity: 100 });
  const after = {
    component: "out",
    input: out.sender,
    overflow: "block",
    sendTimeoutMs: 0,
    lanes: [],
    next: [],
  } as const;
  const route: Route = { ...after, component: "run", input: input.sender, next: [after] };
  const runner = new ThreadedRunner({
    name: "run",
    transform: threads,
    input: input.receiver,
    deadLetters: { put: async () => true },
    log: silentLogger,
    clock: systemClock,
    abort: new AbortController().signal,
    onFull() {},
  });
  runner.routes = [route];
  const give = (...texts: readonly string[]) => input.sender.send({ batch: linesBatch("in", "f", 0, texts), route });
  const turn = () => new Promise(setImmediate);
  const taken = () => {
    const texts: unknown[] = [];
    for (let routed = out.receiver.tryRecv(); routed !== undefined; routed = out.receiver.tryRecv())
      texts.push(...routed.batch.records.map(({ event }) => event["text"]));
    return texts;
  };
  return { threads, runner, input, route, give, turn, taken };
}

describe("a transform in threads", () => {
  it("has two batches for each thread on their way, and the others wait in its input", async () => {
    const { threads, runner, input, give, turn, taken } = setUp();
    for (let index = 0; index < 10; index += 1) await give(String(index));
    const running = runner.run();
    for (let turns = 0; turns < 20; turns += 1) await turn();
    // One more was taken from the input, and waits for its turn.
    expect(threads.jobs).toHaveLength(4);
    expect(input.receiver.counters().messages).toBe(5);
    expect(runner.isApplying).toBe(true);
    input.sender.close();
    for (let done = 0; done < 10; done += 1) {
      while (threads.jobs.length <= done) await turn();
      threads.jobs[done]!.answer();
    }
    await running;
    expect(taken()).toEqual(Array.from({ length: 10 }, (_, index) => String(index)));
    expect([runner.isIdle, runner.isApplying, runner.applied]).toEqual([true, false, 10]);
  });

  it("hands on in the order of coming, in whatever order the threads answer", async () => {
    const { threads, runner, input, give, turn, taken } = setUp();
    for (const text of ["a", "b", "c"]) await give(text);
    const running = runner.run();
    while (threads.jobs.length < 3) await turn();
    threads.jobs[2]!.answer();
    threads.jobs[1]!.answer();
    for (let turns = 0; turns < 20; turns += 1) await turn();
    expect(taken()).toEqual([]);
    expect(runner.isIdle).toBe(false);
    threads.jobs[0]!.answer();
    input.sender.close();
    await running;
    expect(taken()).toEqual(["a", "b", "c"]);
  });

  it("gives threads whole lines only; others wait until what came before them is through", async () => {
    const { threads, runner, input, route, give, turn, taken } = setUp();
    await give("a");
    const records = linesBatch("in", "f", 2, ["b"]);
    await input.sender.send({ batch: records.withRecords(records.records), route });
    const running = runner.run();
    while (threads.jobs.length < 1) await turn();
    for (let turns = 0; turns < 20; turns += 1) await turn();
    expect(threads.local).toBe(0);
    threads.jobs[0]!.answer();
    input.sender.close();
    await running;
    expect([threads.local, taken()]).toEqual([1, ["a", "b"]]);
  });

  it("closes threads that another transform takes over from, once they have answered", async () => {
    const { threads, runner, input, give, turn, taken } = setUp();
    await give("a");
    const running = runner.run();
    while (threads.jobs.length < 1) await turn();
    const later = new FakeThreads();
    runner.replace(later);
    await turn();
    expect(threads.isClosed).toBe(false);
    threads.jobs[0]!.answer();
    await give("b");
    while (later.jobs.length < 1) await turn();
    expect([threads.isClosed, later.isClosed]).toEqual([true, false]);
    later.jobs[0]!.answer();
    input.sender.close();
    await running;
    expect(taken()).toEqual(["a", "b"]);
  });

  it("gives what waited for its turn to whoever has taken over meanwhile", async () => {
    const { threads, runner, input, give, turn, taken } = setUp();
    const texts = ["a", "b", "c", "d", "e"];
    for (const text of texts) await give(text);
    const running = runner.run();
    while (threads.jobs.length < 4) await turn();
    for (let turns = 0; turns < 20; turns += 1) await turn();
    // The fifth has left the input, and waits until one of the four is through.
    expect(input.receiver.counters().messages).toBe(0);
    const later = new FakeThreads();
    runner.replace(later);
    for (const job of threads.jobs) job.answer();
    for (let turns = 0; turns < 20; turns += 1) await turn();
    expect([threads.jobs.length, threads.isClosed, later.jobs.length]).toEqual([4, true, 1]);
    later.jobs[0]!.answer();
    input.sender.close();
    await running;
    expect(taken()).toEqual(texts);
  });

  it("fails when a thread does, and says whose", async () => {
    const { threads, runner, give, turn } = setUp();
    await give("a");
    const running = runner.run();
    while (threads.jobs.length < 1) await turn();
    threads.jobs[0]!.fail("one of its threads ended with code 3");
    await expect(running).rejects.toMatchObject({
      code: "TR_STAGE_FAILED",
      component: "run",
      message: expect.stringContaining("one of its threads ended with code 3"),
    });
  });
});
