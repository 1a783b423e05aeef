import { beforeEach, describe, expect, it } from "vitest";
import { ChannelClosedError, StageError } from "../errors.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { Upstream } from "./upstream.ts";

describe("upstream", () => {
  let clock: ManualClock;
  let said: string[];
  let upstream: Upstream;
  const { signal } = new AbortController();

  beforeEach(() => {
    clock = new ManualClock();
    said = [];
    const log = {
      ...silentLogger,
      warn: (_fields: object, message: string) => void said.push(`warn: ${message}`),
      info: (_fields: object, message: string) => void said.push(`info: ${message}`),
    };
    upstream = new Upstream({ name: "in", log, clock, random: new SeededRandom(1) });
  });

  /** Each reading does what its turn says; there are as many as turns. */
  const readings = (...turns: (() => void | Promise<void>)[]) => {
    let at = 0;
    return async () => turns[at++]!();
  };
  const fail = (reason: string) => () => {
    throw new Error(reason);
  };

  it("is in trouble until something has been answered", async () => {
    expect(upstream.trouble).toBe("it is connecting");
    upstream.answered();
    expect(upstream.trouble).toBeUndefined();
    expect(said).toEqual([]);
  });

  it("tells a failure once, however often it is tried again, and when that is over", async () => {
    const troubles: (string | undefined)[] = [];
    const note = () => void troubles.push(upstream.trouble);
    await clock.run(
      upstream.readOn(
        signal,
        readings(
          fail("refused"),
          fail("timed out"),
          () => {
            note();
            upstream.answered();
            note();
            throw new Error("cut off");
          },
          note,
        ),
      ),
    );
    expect(troubles).toEqual(["timed out", undefined, "cut off"]);
    expect(said).toEqual([
      "warn: in cannot read: refused; trying on",
      "info: in reads again",
      "warn: in cannot read: cut off; trying on",
    ]);
  });

  it("waits longer and longer, and after an answer shortly again", async () => {
    const startsMs: number[] = [];
    const failing = (count: number) =>
      Array.from({ length: count }, () => () => {
        startsMs.push(clock.monotonic());
        throw new Error("refused");
      });
    await clock.run(
      upstream.readOn(
        signal,
        readings(
          ...failing(40),
          () => {
            upstream.answered();
            startsMs.push(clock.monotonic());
            throw new Error("cut off");
          },
          () => void startsMs.push(clock.monotonic()),
        ),
      ),
    );
    const waitsMs = startsMs.slice(1).map((startMs, index) => startMs - startsMs[index]!);
    expect(waitsMs[0]).toBeLessThanOrEqual(100);
    expect(Math.max(...waitsMs)).toBeGreaterThan(5000);
    expect(Math.max(...waitsMs)).toBeLessThanOrEqual(10_000);
    expect(waitsMs.at(-1)).toBeLessThanOrEqual(100);
  });

  it("ends with what trying again would not mend", async () => {
    const refused = new StageError("TR_STAGE_OPEN", "in", "there is no such table");
    await expect(upstream.readOn(signal, () => Promise.reject(refused))).rejects.toBe(refused);
    expect(said).toEqual([]);
  });

  it("ends without a word when the pipeline takes nothing more, or it is told to", async () => {
    await upstream.readOn(signal, () => Promise.reject(new ChannelClosedError("a batch")));
    const stop = new AbortController();
    await upstream.readOn(stop.signal, async () => {
      stop.abort();
      throw new Error("the query was given up");
    });
    await upstream.readOn(stop.signal, fail("never asked") as never);
    expect(said).toEqual([]);
  });

  it("ends at once when it is told to while it waits", async () => {
    const stop = new AbortController();
    const reading = upstream.readOn(stop.signal, () => Promise.reject(new Error("refused")));
    await clock.settle();
    stop.abort();
    await reading;
    expect(clock.monotonic()).toBe(0);
  });
});
