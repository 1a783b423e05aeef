import { describe, expect, it } from "vitest";
import { ManualClock } from "../testing/manual-clock.ts";
import { Health } from "./health.ts";

describe("Health", () => {
  it("counts an event loop that hung as no progress, until it has gone well for a while", () => {
    let lagSeconds = 0.2;
    const health = new Health(new ManualClock(), () => lagSeconds);
    expect(health.stuck()).toEqual([]);
    lagSeconds = 7.31;
    expect(health.stuck()).toEqual([{ component: "runtime", reason: "the event loop hung for 7.3 s" }]);
    lagSeconds = 0;
    expect(health.stuck()).toEqual([]);
  });

  it("is not ready before the stages are open and once they are being closed", () => {
    const health = new Health(new ManualClock(), () => 0);
    expect(health.notReady()).toEqual([{ component: "agent", reason: "it is starting" }]);
    health.stopping();
    expect(health.notReady()).toEqual([{ component: "agent", reason: "it is shutting down" }]);
  });
});
