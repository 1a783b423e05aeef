import { describe, expect, it } from "vitest";
import { BackpressureError } from "../errors.ts";
import { PoolBench } from "./pool-bench.test-kit.ts";

/** Why a message was refused; undefined: it was taken. */
function refusal(bench: PoolBench, text: string): BackpressureError | undefined {
  try {
    bench.offer(text);
    return undefined;
  } catch (error) {
    if (error instanceof BackpressureError) return error;
    throw error;
  }
}

describe("Dispatch", () => {
  it("refuses new messages at 80 % of the channel with a suggested wait, and never waits itself", async () => {
    const bench = await PoolBench.start({ capacity: 10 });
    expect(refusal(bench, "with the worker")).toBeUndefined();
    for (let n = 0; n < 8; n += 1) expect(refusal(bench, `waits ${n}`)).toBeUndefined();
    const error = refusal(bench, "too many")!;
    expect(error.code).toBe("TR_BACKPRESSURE");
    expect(error.suggestedWaitMs).toBeGreaterThanOrEqual(1);
    expect(error.suggestedWaitMs).toBeLessThanOrEqual(1000);
    expect(bench.dispatch.refusals).toBe(1);
    bench.newest.ok();
    expect(refusal(bench, "fits again")).toBeUndefined();
    await bench.stop();
  });

  it("suggests the time that half of what waits will take, once it knows the pace", async () => {
    const bench = await PoolBench.start({ capacity: 100 });
    for (let n = 0; n < 81; n += 1) bench.offer(`${n}`);
    for (let n = 0; n < 40; n += 1) {
      await bench.clock.advance(5);
      bench.newest.ok();
      bench.offer(`more ${n}`);
    }
    expect(refusal(bench, "too many")!.suggestedWaitMs).toBe(200);
    await bench.stop();
  });

  it("leaves the last fifth to what was claimed before: retries come in while new messages are refused", async () => {
    const bench = await PoolBench.start({ capacity: 5, maxAttempts: 5 });
    bench.offer("again");
    for (let n = 0; n < 4; n += 1) bench.offer(`waits ${n}`);
    bench.newest.error();
    bench.offer("waits 4");
    expect(refusal(bench, "new")).toBeDefined();
    await bench.clock.advance(100);
    expect(bench.pool.waiting).toBe(5);
    expect(refusal(bench, "new")).toBeDefined();
    await bench.stop();
  });

  it("lets answers through while the channel is full: they never wait behind what is dispatched", async () => {
    const bench = await PoolBench.start({ capacity: 1 });
    bench.offer("a");
    bench.offer("b");
    expect(refusal(bench, "c")).toBeDefined();
    bench.newest.ok();
    expect(bench.endings).toEqual(["a done"]);
    expect(bench.holds()).toEqual(["a", "b"]);
    await bench.stop();
  });

  it("keeps a due retry for which there is no room, and brings it once there is", async () => {
    const bench = await PoolBench.start({ capacity: 1 });
    bench.offer("a");
    bench.newest.error();
    bench.offer("b");
    bench.offer("c");
    await bench.clock.advance(60_000);
    expect(bench.holds()).toEqual(["a", "b"]);
    bench.newest.ok();
    expect(bench.holds()).toEqual(["a", "b", "c"]);
    bench.newest.ok();
    expect(await bench.given(bench.newest, 3)).toMatchObject({ attempt: 2, event: { message: "a" } });
    await bench.stop();
  });

  it("never lets a slow pool stand in the way of another one", async () => {
    const slow = await PoolBench.start({ capacity: 10, name: "slow" });
    const quick = await PoolBench.start({ beside: slow, name: "quick" });
    expect(quick.dispatch).toBe(slow.dispatch);
    // Each has half of the channel.
    for (let n = 0; n < 5; n += 1) slow.offer(`slow ${n}`);
    expect(refusal(slow, "too many")).toBeDefined();
    for (let n = 0; n < 20; n += 1) {
      quick.offer(`quick ${n}`);
      quick.newest.ok();
    }
    expect(quick.endings).toHaveLength(20);
    expect(slow.holds()).toEqual(["slow 0"]);
    slow.newest.ok();
    expect(slow.holds()).toEqual(["slow 0", "slow 1"]);
    await quick.clock.run(quick.dispatch.stop(quick.pool));
    await quick.clock.run(quick.dispatch.leave(quick.pool, quick.channels));
    slow.newest.ok();
    expect(slow.holds()).toHaveLength(3);
    await slow.stop();
  });

  it("leaves out what nobody waits for any more", async () => {
    const bench = await PoolBench.start({ capacity: 10 });
    bench.offer("a");
    const unwanted = bench.offer("b");
    bench.offer("c");
    bench.pool.cancel(unwanted);
    bench.newest.ok();
    expect(bench.holds()).toEqual(["a", "c"]);
    expect(bench.pool.waiting).toBe(0);
    await bench.stop();
  });

  it("tells what happens in the pools to whoever listens, and how much a slow listener missed", async () => {
    const bench = await PoolBench.start({ capacity: 2, maxAttempts: 1 });
    const listener = bench.dispatch.events.subscribe();
    bench.offer("a");
    bench.newest.ok();
    bench.offer("b");
    bench.newest.error();
    expect(await listener.recv()).toMatchObject({ value: { event: "task_done", handler: "work", attempt: 1 } });
    expect(await listener.recv()).toMatchObject({ value: { event: "task_refused", reason: "odd" } });
    for (const text of ["c", "d", "e"]) {
      bench.offer(text);
      bench.newest.ok();
    }
    expect(await listener.recv()).toEqual({ missed: 1 });
    expect(listener.missedTotal).toBe(1);
    await bench.stop();
  });

  it("is made anew for the first pool after the last has left", async () => {
    const first = await PoolBench.start();
    await first.stop();
    const second = await PoolBench.start({ beside: first });
    expect(second.dispatch).not.toBe(first.dispatch);
    second.offer("a");
    second.newest.ok();
    expect(second.endings).toEqual(["a done"]);
    await second.stop();
  });
});
