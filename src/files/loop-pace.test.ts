import { describe, expect, it } from "vitest";
import { ManualClock } from "../testing/manual-clock.ts";
import { HINT_DELAY_MS, LoopPace, STEADY_MS } from "./loop-pace.ts";

const SCAN_MS = 1000;

/** Turns of a loop that does nothing else, each with the time at which it began. */
function loopOf(clock: ManualClock): { readonly pace: LoopPace; readonly turns: number[]; stop(): Promise<void> } {
  const stop = new AbortController();
  const pace = new LoopPace(clock, stop.signal);
  const turns: number[] = [];
  const ended = (async () => {
    while (!stop.signal.aborted) {
      await pace.next(clock.monotonic() + SCAN_MS);
      if (!stop.signal.aborted) turns.push(clock.monotonic());
    }
  })();
  return {
    pace,
    turns,
    async stop() {
      stop.abort();
      await ended;
    },
  };
}

describe("the pace of the manager's loop", () => {
  it("is that of the scan while nothing happens", async () => {
    const clock = new ManualClock();
    const loop = loopOf(clock);
    await clock.advance(3 * SCAN_MS);
    expect(loop.turns).toEqual([SCAN_MS, 2 * SCAN_MS, 3 * SCAN_MS]);
    await loop.stop();
  });

  it("looks a moment after the first bytes, and then together at what keeps coming", async () => {
    const clock = new ManualClock();
    const loop = loopOf(clock);
    for (let step = 0; step < 100; step += 1) {
      loop.pace.hint("content");
      await clock.advance(5);
    }
    const expected = [0, 1, 2, 3, 4].map((turn) => HINT_DELAY_MS + turn * STEADY_MS).filter((ms) => ms <= 500);
    expect(loop.turns).toEqual(expected);
    await loop.stop();
  });

  it("does not let bytes that keep coming delay a change of names", async () => {
    const clock = new ManualClock();
    const loop = loopOf(clock);
    loop.pace.hint("content");
    await clock.advance(HINT_DELAY_MS);
    loop.pace.hint("content");
    loop.pace.hint("entry");
    loop.pace.hint("content");
    await clock.advance(HINT_DELAY_MS);
    expect(loop.turns).toEqual([HINT_DELAY_MS, 2 * HINT_DELAY_MS]);
    await loop.stop();
  });

  it("turns at once when nudged, also with a hint waiting", async () => {
    const clock = new ManualClock();
    const loop = loopOf(clock);
    loop.pace.hint("content");
    await clock.advance(3);
    loop.pace.nudge();
    expect(loop.pace.isNudged).toBe(true);
    await clock.advance(0);
    expect(loop.turns).toEqual([3]);
    expect(loop.pace.isNudged).toBe(false);
    await clock.advance(STEADY_MS);
    expect(loop.turns).toEqual([3]);
    await loop.stop();
  });
});
