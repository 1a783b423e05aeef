import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Horizon } from "./horizon.ts";

describe("horizon", () => {
  it("is at a value once every transaction of its time has ended and settle_ms have passed", () => {
    const horizon = new Horizon(1000);
    // Transaction 90 runs.
    horizon.observe(7, { xmin: 90, xmax: 100 }, 0);
    horizon.observe(9, { xmin: 90, xmax: 101 }, 5000);
    expect(horizon.safe).toBe(-1);
    expect(horizon.waitedMs(5000)).toBe(5000);
    horizon.observe(9, { xmin: 100, xmax: 101 }, 5500);
    expect(horizon.safe).toBe(7);
    horizon.observe(9, { xmin: 101, xmax: 101 }, 5900);
    expect(horizon.safe).toBe(7);
    horizon.observe(9, { xmin: 101, xmax: 101 }, 6000);
    expect(horizon.safe).toBe(9);
    expect(horizon.waitedMs(6000)).toBe(0);
  });

  it("never passes a value that a transaction of any order may still commit", () => {
    // Transactions draw a value and an id at their start; some commit, some do not, in any order.
    const steps = fc.array(fc.tuple(fc.constantFrom("begin", "commit", "abort", "look"), fc.nat(9)), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(steps, (actions) => {
        const horizon = new Horizon(0);
        const running: { xid: number; value: number }[] = [];
        const committed = new Set<number>();
        let next = 1;
        let nowMs = 0;
        for (const [action, pick] of actions) {
          nowMs += 1;
          const chosen = running.length === 0 ? undefined : pick % running.length;
          if (action === "begin") {
            running.push({ xid: 1000 + next, value: next });
            next += 1;
          } else if (action === "look") {
            const xmin = Math.min(1000 + next, ...running.map(({ xid }) => xid));
            horizon.observe(Math.max(-1, ...committed), { xmin, xmax: 1000 + next }, nowMs);
            for (const { value } of running) expect(value).toBeGreaterThan(horizon.safe);
          } else if (chosen !== undefined) {
            const [ended] = running.splice(chosen, 1);
            if (action === "commit") {
              expect(ended!.value).toBeGreaterThan(horizon.safe);
              committed.add(ended!.value);
            }
          }
        }
      }),
    );
  });
});
