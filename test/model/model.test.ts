import { describe, expect, it, vi } from "vitest";
import { setUnclosedHook } from "../../src/channel/index.ts";
import { firstSeed } from "../seed.ts";
import { ALL_KINDS, type Kind } from "./actions.ts";
import { runSchedule, type Schedule, scheduleOf, shorten } from "./schedule.ts";

// A process that is killed closes nothing.
setUnclosedHook(() => {});
// Errors of a simulated disk are many; where each was made is of interest only once something went wrong.
const STACK_LINES = Error.stackTraceLimit;

vi.mock("node:zlib", async () => {
  const { syncZlib } = await import("../../src/testing/sim-zlib.ts");
  return syncZlib();
});

/**
 * The suite runs each kind of trouble alone, and all of them mixed by chance. TAILRACE_TEST_SEED=N replays one schedule;
 * TAILRACE_TEST_ROUNDS=N runs that many of the mixed ones (the long form); with TAILRACE_TEST_KINDS=links,holes only these
 * kinds are in it (`everyday`: none).
 */
const REPLAY = process.env["TAILRACE_TEST_SEED"];
const KINDS = kindsOf(process.env["TAILRACE_TEST_KINDS"]);
const ROUNDS = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 230);
const FIRST = firstSeed();

/** By kind: schedules of the suite of which it is known that something is wrong yet. One that is right is to be taken out. */
const OPEN_FAULTS: { readonly [kinds: string]: readonly number[] } = {
  // Generations of one or two equal lines that nobody ever saw, of which one is taken for a copy of the other; 74: repeated, as the times are equal.
  beats: [30, 65, 72, 74, 77, 84, 109, 114, 142, 144, 153, 170, 181, 199, 203, 227, 230],
  // A rotated archive that was cut to less than was read of it comes twice.
  damage: [75],
  // Half a line, failing commits, truncation and rotation in one look: twice.
  reuse: [92],
  // Overwritten and copied in one look: the copy comes, too.
  overwrites: [159],
  // Rotations within one look beside failing calls: out of order.
  fast: [68, 126],
  // As in beats; and late bytes of a generation that is gone.
  mixed: [32, 67, 98, 216],
};

interface Form {
  readonly title: string;
  readonly kinds: readonly Kind[] | undefined;
}

const MIXED: Form = { title: "mixed", kinds: undefined };
const FORMS: readonly Form[] =
  KINDS !== undefined
    ? [{ title: KINDS.join(",") || "everyday", kinds: KINDS }]
    : REPLAY !== undefined || process.env["TAILRACE_TEST_ROUNDS"] !== undefined
      ? [MIXED]
      : [{ title: "everyday", kinds: [] }, ...ALL_KINDS.map((kind) => ({ title: kind, kinds: [kind] })), MIXED];

describe("agent › random actions on its inputs, crashes and failing disks, against a tiny model", () => {
  let kills = 0;

  it.each(FORMS)(
    "delivers each line that kept a name once and in order, and tells every other: $title",
    async ({ title, kinds }) => {
      Error.stackTraceLimit = 0;
      const open = REPLAY === undefined ? (OPEN_FAULTS[title] ?? []) : [];
      const right: number[] = [];
      for (let round = 0; round < (REPLAY === undefined ? ROUNDS : 1); round += 1) {
        const schedule = scheduleOf(FIRST + round, kinds);
        const result = await runSchedule(schedule);
        kills += result.kills;
        const isOpen = open.includes(schedule.seed);
        if (result.problems.length === 0) {
          if (isOpen) right.push(schedule.seed);
          continue;
        }
        if (isOpen) continue;
        Error.stackTraceLimit = STACK_LINES;
        expect.fail(await storyOf(schedule, result.problems));
      }
      Error.stackTraceLimit = STACK_LINES;
      expect(right).toEqual([]);
    },
    180_000 + ROUNDS * 20,
  );

  it.skipIf(FORMS.length === 1)("kills ten thousand times on the way", () => {
    expect(kills).toBeGreaterThan(10_000);
  });

  it("replays: the same seed gives the same run", async () => {
    for (const seed of [1, 2, 3])
      expect(await runSchedule(scheduleOf(seed))).toEqual(await runSchedule(scheduleOf(seed)));
  });
});

async function storyOf(schedule: Schedule, problems: readonly string[]): Promise<string> {
  const shortest = await shorten(schedule);
  const { problems: left, events, setting } = await runSchedule(shortest);
  return [
    `replay with TAILRACE_TEST_SEED=${schedule.seed}`,
    ...problems.slice(0, 10),
    `shortest story (${shortest.kinds.join(", ") || "everyday"}; ${setting}):`,
    ...shortest.actions.map(
      ({ kind, family, amount, pauseMs }) => `  ${kind} ${"abc"[family]} ${amount}, then ${pauseMs} ms`,
    ),
    "its problems:",
    ...left.slice(0, 10),
    "what the agent said:",
    ...events.slice(-30).map((event) => `  ${event}`),
  ].join("\n");
}

function kindsOf(text: string | undefined): readonly Kind[] | undefined {
  return text === undefined ? undefined : ALL_KINDS.filter((kind) => text.split(",").includes(kind));
}
