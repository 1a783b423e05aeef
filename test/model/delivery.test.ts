import { describe, expect, it } from "vitest";
import { setUnclosedHook } from "../../src/channel/index.ts";
import { firstSeed } from "../seed.ts";
import { runDelivery, type Shape } from "./delivery.ts";

// A process that is killed closes nothing.
setUnclosedHook(() => {});

/** TAILRACE_TEST_SEED=N replays one schedule; TAILRACE_TEST_ROUNDS=N runs that many of each shape (the long form). */
const REPLAY = process.env["TAILRACE_TEST_SEED"];
const ROUNDS = REPLAY === undefined ? Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 400) : 1;
const FIRST = firstSeed();

const shapes: readonly { shape: Shape; title: string }[] = [
  { shape: "fan_out", title: "several sinks behind one source" },
  { shape: "filtered", title: "a transform that leaves records out" },
  { shape: "two_ways", title: "two ways from one source into one sink" },
];

/** Schedules that once went wrong, and what it was. */
const FOUND: readonly { seed: number; shape: Shape; what: string }[] = [
  { seed: 2128204846, shape: "two_ways", what: "a second barrier at the end before the first one was committed" },
];

describe("pipeline › sinks, store and process fail, delay and reorder at every await", () => {
  it.each(shapes)(
    "gives each record exactly one ending at each sink: $title",
    async ({ shape }) => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const problems = await runDelivery(FIRST + round, shape);
        if (problems.length > 0)
          expect.fail(
            `replay with TAILRACE_TEST_SEED=${FIRST + round} (${shape})\n${problems.slice(0, 12).join("\n")}`,
          );
      }
    },
    180_000 + ROUNDS * 30,
  );

  it.each(FOUND)("goes right again: $what", async ({ seed, shape }) => {
    expect(await runDelivery(seed, shape)).toEqual([]);
  });
});
