import { describe, expect, it } from "vitest";
import { ManualClock } from "./manual-clock.ts";

describe("ManualClock", () => {
  it("stands still until it is told to go on", async () => {
    const clock = new ManualClock({ startMs: 1000 });
    const fired: number[] = [];
    clock.after(10, () => fired.push(clock.now()));
    await clock.settle();
    expect([clock.now(), clock.monotonic(), fired]).toEqual([1000, 0, []]);
    await clock.advance(9);
    expect(fired).toEqual([]);
    await clock.advance(1);
    expect([clock.now(), clock.monotonic(), fired]).toEqual([1010, 10, [1010]]);
  });

  it("fires timers in order of time, those of one instant in the order they were set", async () => {
    const clock = new ManualClock();
    const fired: string[] = [];
    for (const [name, ms] of [
      ["c", 3],
      ["a", 1],
      ["b1", 2],
      ["b2", 2],
      ["d", 4],
      ["never", 9],
    ] as const)
      clock.after(ms, () => fired.push(name));
    await clock.advance(5);
    expect(fired).toEqual(["a", "b1", "b2", "c", "d"]);
  });

  it("lets timers that are set on the way fire in the same advance", async () => {
    const clock = new ManualClock();
    const times: number[] = [];
    const loop = (async () => {
      for (let round = 0; round < 3; round += 1) {
        await clock.sleep(10);
        times.push(clock.monotonic());
      }
    })();
    await clock.advance(100);
    await loop;
    expect(times).toEqual([10, 20, 30]);
  });

  it("never fires a cancelled timer, and wakes a sleeper whose signal aborts", async () => {
    const clock = new ManualClock();
    const fired: string[] = [];
    clock.after(1, () => fired.push("cancelled")).cancel();
    const abort = new AbortController();
    const sleeping = clock.sleep(1000, { signal: abort.signal }).then(() => fired.push("woken"));
    await clock.advance(5);
    abort.abort();
    await sleeping;
    expect([fired, clock.monotonic(), clock.nextTimerMs]).toEqual([["woken"], 5, undefined]);
  });

  it("jumps from timer to timer until a condition holds", async () => {
    const clock = new ManualClock();
    let rounds = 0;
    const again = () => {
      rounds += 1;
      clock.after(3_600, again);
    };
    again();
    await clock.runUntil(() => rounds === 100);
    expect(clock.monotonic()).toBe(99 * 3_600);
  });

  it("says so when a condition cannot come true any more, or not in time", async () => {
    const clock = new ManualClock();
    await expect(clock.runUntil(() => false, { what: "the end" })).rejects.toThrow("the end never came true");
    const again = () => void clock.after(100, again);
    again();
    await expect(clock.runUntil(() => false, { limitMs: 1000 })).rejects.toThrow("within 1000 ms");
  });

  it("runs until a promise has settled, and passes on what it settled with", async () => {
    const clock = new ManualClock();
    expect(await clock.run(clock.sleep(5000).then(() => "done"))).toBe("done");
    expect(clock.monotonic()).toBe(5000);
    const failing = clock.sleep(1).then(() => {
      throw new Error("no");
    });
    await expect(clock.run(failing)).rejects.toThrow("no");
  });

  it("lets no time pass while foreign work is announced", async () => {
    const clock = new ManualClock();
    const release = clock.hold();
    let isFired = false;
    clock.after(1, () => {
      isFired = true;
    });
    const advancing = clock.advance(1);
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(isFired).toBe(false);
    release();
    release();
    await advancing;
    expect(isFired).toBe(true);
  });

  it("silences the timers of a killed process and no others", async () => {
    const clock = new ManualClock();
    const [one, other] = [clock.process(), clock.process()];
    const fired: string[] = [];
    void one.sleep(5).then(() => fired.push("one"));
    void other.sleep(5).then(() => fired.push("other"));
    one.kill();
    one.after(1, () => fired.push("after death"));
    await clock.advance(10);
    expect(fired).toEqual(["other"]);
  });

  it("keeps monotonic time when the wall clock jumps back", async () => {
    const clock = new ManualClock({ startMs: 10_000 });
    clock.shiftWall(-5_000);
    await clock.advance(100);
    expect([clock.now(), clock.monotonic()]).toEqual([5_100, 100]);
  });
});
