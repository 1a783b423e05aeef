import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "./registry.ts";
import { mergeDurations, SEND_DURATION_BOUNDS_SECONDS, SendDurationRecorder } from "./send-durations.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

describe("send durations", () => {
  it("put a wait into the first bucket whose bound is not below it", () => {
    const recorder = new SendDurationRecorder();
    for (const ms of [0.01, 0.011, 1, 1.001, 200_000]) recorder.add(ms);
    const { counts, sumSeconds, count } = recorder.snapshot(5);
    const at = (seconds: number) => counts[SEND_DURATION_BOUNDS_SECONDS.indexOf(seconds)];
    expect([at(0.00001), at(0.00002), at(0.001), at(0.002), counts.at(-1)]).toEqual([1, 1, 1, 1, 1]);
    expect(count).toBe(counts.reduce((sum, one) => sum + one, 0));
    expect(sumSeconds).toBeCloseTo(200.002022, 9);
  });

  it("count a send that found room as no time at all", () => {
    const recorder = new SendDurationRecorder();
    for (let wait = 0; wait < 10; wait += 1) recorder.add(15);
    const { counts, percentiles } = recorder.snapshot(1000);
    expect(counts[0]).toBe(990);
    expect(percentiles.p50).toBe(0);
    expect(percentiles.p99).toBe(0);
    expect(percentiles.p999).toBeGreaterThan(0.01);
    expect(percentiles.p999).toBeLessThanOrEqual(0.02);
  });

  it("have percentiles that never fall with the rank and are 0 without any send", () => {
    const recorder = new SendDurationRecorder();
    expect(recorder.snapshot(0).percentiles).toEqual({ p50: 0, p90: 0, p95: 0, p99: 0, p999: 0 });
    for (let ms = 1; ms <= 1000; ms += 1) recorder.add(ms);
    const { p50, p90, p95, p99, p999 } = recorder.snapshot(1000).percentiles;
    expect([p50, p90, p95, p99, p999]).toEqual([p50, p90, p95, p99, p999].toSorted((one, other) => one - other));
    expect(p50).toBeCloseTo(0.5, 1);
    expect(p99).toBeGreaterThan(0.9);
  });

  it("of two channels add up", () => {
    const one = new SendDurationRecorder();
    one.add(3);
    const other = new SendDurationRecorder();
    other.add(7);
    const merged = mergeDurations(one.snapshot(5), other.snapshot(2));
    expect(merged).toMatchObject({ count: 7, atOnce: 5 });
    expect(merged.counts[0]).toBe(5);
    expect(merged.sumSeconds).toBeCloseTo(0.01);
  });

  it("are measured from the wait to the entry by the channel's clock, and leave out what never entered", async () => {
    let nowMs = 0;
    const clock = { monotonic: () => nowMs, after: () => ({ cancel() {} }) };
    const registry = new ChannelRegistry();
    const { sender, receiver } = registry.create<number>({
      component: "out",
      channel: "input",
      why: "test",
      capacity: 1,
      clock,
    });
    sender.trySend(1);
    const waiting = sender.send(2);
    const aborted = sender.send(3, { signal: AbortSignal.timeout(0) });
    await expect(aborted).rejects.toThrow();
    nowMs = 30;
    receiver.tryRecv();
    await waiting;
    const durations = registry.list()[0]!.sendDurations();
    expect(durations).toMatchObject({ count: 2, atOnce: 1, sumSeconds: 0.03 });
    expect(durations.count).toBe(receiver.counters().sent);
  });
});
