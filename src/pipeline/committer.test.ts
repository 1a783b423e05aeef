import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { GroupCommit } from "../checkpoint/group-commit.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { Committer } from "./committer.ts";
import type { SinkRunner } from "./sink-runner.ts";

/** A committer with one sink that always has something to commit, over a store that is told when to answer. */
function bench() {
  const clock = new ManualClock();
  let answer = () => {};
  const groupCommit = new GroupCommit(
    {
      commit: () =>
        new Promise<void>((resolve) => {
          answer = resolve;
        }),
    },
    { clock },
  );
  const committer = new Committer({
    groupCommit,
    clock,
    random: new SeededRandom(1),
    events: { emit() {} },
    intervalMs: 100,
    commitBytes: 1000,
    maxUncommittedBytes: 500,
    maxUncommittedMs: 30_000,
    onFailure: (error) => {
      throw error;
    },
  });
  const runner = {
    name: "out",
    isDirty: true,
    barrier: async () => ({
      changes: [{ table: "mark", sink: "out", name: "length", value: 1 }],
      done: async () => {
        runner.isDirty = false;
      },
    }),
  };
  committer.add(runner as unknown as SinkRunner);
  return { clock, committer, runner, answer: () => answer() };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("Committer", () => {
  it("holds sources back at max_uncommitted_bytes, until a commit makes room", async () => {
    const { clock, committer, answer } = bench();
    committer.onUncommitted(499);
    expect(committer.hasRoom).toBe(true);
    committer.onUncommitted(1);
    expect(committer.hasRoom).toBe(false);
    let isOpen = false;
    const room = committer.room(new AbortController().signal).then(() => {
      isOpen = true;
    });
    committer.onDirty();
    await clock.advance(100);
    await turn();
    expect(isOpen).toBe(false);
    committer.onUncommitted(-500);
    answer();
    await room;
    expect(committer.hasRoom).toBe(true);
  });

  it("holds sources back once a store says nothing for max_uncommitted_ms, and lets them go on when it answers", async () => {
    const { clock, committer, answer } = bench();
    committer.onDirty();
    await clock.advance(100);
    await turn();
    await clock.advance(29_999);
    expect(committer.hasRoom).toBe(true);
    await clock.advance(1);
    expect(committer.hasRoom).toBe(false);
    const room = committer.room(new AbortController().signal);
    answer();
    await room;
    expect(committer.hasRoom).toBe(true);
  });

  it("leaves nothing behind of waits for room and for commits", async () => {
    const { clock, committer, runner, answer } = bench();
    const { signal } = new AbortController();
    for (let round = 0; round < 5; round += 1) {
      runner.isDirty = true;
      committer.onUncommitted(500);
      const waiting = [committer.room(signal), committer.commitNow(runner as unknown as SinkRunner, signal)];
      await turn();
      committer.onUncommitted(-500);
      answer();
      await Promise.all(waiting);
      await clock.advance(100);
    }
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
  });
});
