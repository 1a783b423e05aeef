import { describe, expect, it, vi } from "vitest";
import { setUnclosedHook } from "../../src/channel/index.ts";
import { firstSeed } from "../seed.ts";
import { actionsOf, runSchedule, shorten } from "./schedule.ts";

// A process that is killed closes nothing.
setUnclosedHook(() => {});

vi.mock("node:zlib", async () => {
  const { syncZlib } = await import("../../src/testing/sim-zlib.ts");
  return syncZlib();
});

/** TAILRACE_TEST_SEED=N replays one schedule; TAILRACE_TEST_ROUNDS=N runs that many (the long form). */
const REPLAY = process.env["TAILRACE_TEST_SEED"];
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 600);
const FIRST = firstSeed();
/** Schedules that found a bug once. */
const FOUND = [
  // What lies beside an unreadable file cannot be told: the file was read first, out of order.
  2135524122,
  // A tombstone that could not be opened where it was moved to was taken for another file, and read again.
  399,
];

describe("agent › random actions on its inputs, crashes and failing disks, against a tiny model", () => {
  it(
    "delivers each line that kept a name once and in order",
    async () => {
      for (let round = 0; round < (REPLAY === undefined ? ROUNDS : 1); round += 1) {
        const seed = FIRST + round;
        const { problems } = await runSchedule(seed);
        if (problems.length === 0) continue;
        const story = await shorten(seed, actionsOf(seed));
        const shown = story.map(
          ({ kind, family, amount, pauseMs }) => `  ${kind} ${"ab"[family]} ${amount}, then ${pauseMs} ms`,
        );
        const { problems: left } = await runSchedule(seed, story);
        expect.fail(
          `replay with TAILRACE_TEST_SEED=${seed}\n${problems.slice(0, 10).join("\n")}\n` +
            `shortest story:\n${shown.join("\n")}\nits problems:\n${left.slice(0, 10).join("\n")}`,
        );
      }
    },
    180_000 + ROUNDS * 20,
  );

  it("found these once", async () => {
    for (const seed of FOUND) expect((await runSchedule(seed)).problems).toEqual([]);
  });

  it("replays: the same seed gives the same run", async () => {
    for (const seed of [1, 2, 3]) expect(await runSchedule(seed)).toEqual(await runSchedule(seed));
  });
});
