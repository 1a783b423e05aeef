import { describe, expect, it } from "vitest";
import { StageError } from "../errors.ts";
import type { Recovered, Sink } from "../stage/contract.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { SinkHealth } from "./sink-health.ts";
import { SinkRecovery } from "./sink-recovery.ts";

const retry = { initialMs: 10, maxMs: 40, maxAttempts: 0 };

function bench(recover: () => Promise<Recovered | undefined>) {
  const clock = new ManualClock();
  const told: string[] = [];
  const events = { emit: (kind: string) => void told.push(kind) };
  const health = new SinkHealth("out", events);
  const recovery = new SinkRecovery({ name: "out", clock, random: new SeededRandom(1), events, health });
  const sink = { recover } as unknown as Sink;
  return { clock, told, health, recovery, asked: { sink, lanes: [], retry } };
}

describe("recovery of a sink", () => {
  it("asks until the target answers, no rarer than its retry allows, and tells down and up once each", async () => {
    let asks = 0;
    const { clock, told, health, recovery, asked } = bench(async () => {
      asks += 1;
      if (asks <= 20) throw new Error("connection refused");
      return undefined;
    });
    const answered = recovery.untilAnswered(asked, new AbortController().signal);
    await clock.advance(5);
    expect(health.trouble).toBe("connection refused");
    await clock.advance(20 * retry.maxMs);
    await answered;
    expect(asks).toBe(21);
    expect(told).toEqual(["sink_down", "sink_up"]);
  });

  it("ends with its signal, and the target is asked no more", async () => {
    let asks = 0;
    const { clock, recovery, asked } = bench(async () => {
      asks += 1;
      throw new Error("connection refused");
    });
    const stop = new AbortController();
    const answered = recovery.untilAnswered(asked, stop.signal);
    await clock.advance(100);
    stop.abort();
    await answered;
    const before = asks;
    await clock.advance(1000);
    expect(asks).toBe(before);
  });

  it("asks once at the start, and notes that the answer is outstanding", async () => {
    let isThere = false;
    const { recovery, asked, health } = bench(async () => {
      if (!isThere) throw new Error("connection refused");
      return undefined;
    });
    await recovery.atStart(asked);
    expect(recovery.isOutstanding).toBe(true);
    isThere = true;
    await recovery.untilAnswered(asked, new AbortController().signal);
    expect([recovery.isOutstanding, health.trouble]).toEqual([false, undefined]);
  });

  it("fails for good where the target was restored while the agent ran", async () => {
    const { recovery, asked } = bench(async () => ({ positions: [], standsAlone: true }));
    await expect(recovery.untilAnswered(asked, new AbortController().signal)).rejects.toThrow(StageError);
  });
});
