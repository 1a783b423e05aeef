import { describe, expect, it } from "vitest";
import type { Pipeline } from "../pipeline/pipeline.ts";
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

  it("counts a write that does not come back as no progress, but neither a sink that is down nor one that works", async () => {
    const clock = new ManualClock();
    const health = new Health(clock, () => 0);
    const out = {
      name: "out",
      isWriting: true,
      trouble: undefined as string | undefined,
      progressAtMs: clock.monotonic(),
    };
    const parse = { name: "parse", isApplying: true, applied: 3 };
    health.started({ sinks: [out], transforms: [parse] } as unknown as Pipeline);
    expect(health.stuck()).toEqual([]);
    await clock.advance(119_000);
    expect(health.stuck()).toEqual([]);
    await clock.advance(2_000);
    expect(health.stuck()).toEqual([
      { component: "out", reason: "a write has not come back for 121 s" },
      { component: "parse", reason: "it is at the same batch for 121 s" },
    ]);
    out.trouble = "connection refused";
    parse.applied += 1;
    expect(health.stuck()).toEqual([]);
    Object.assign(out, { trouble: undefined, progressAtMs: clock.monotonic() });
    expect(health.stuck()).toEqual([]);
  });

  it("is not ready before the stages are open and once they are being closed", () => {
    const health = new Health(new ManualClock(), () => 0);
    expect(health.notReady()).toEqual([{ component: "agent", reason: "it is starting" }]);
    health.stopping();
    expect(health.notReady()).toEqual([{ component: "agent", reason: "it is shutting down" }]);
  });

  it("is not ready while a source cannot reach its upstream, and says why", () => {
    const health = new Health(new ManualClock(), () => 0);
    const source = { trouble: "no connection" as string | undefined };
    const committer = { trouble: undefined, hasRoom: true };
    health.started({ sinks: [], transforms: [], sources: [{ name: "js", source }], committer } as unknown as Pipeline);
    expect(health.notReady()).toEqual([{ component: "js", reason: "no connection" }]);
    source.trouble = undefined;
    expect(health.notReady()).toEqual([]);
  });
});
