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
    keepsMarks: true,
    isIdle: false,
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

  describe("of a sink that keeps no marks", () => {
    /** Answers at once; `commits` are the times of its commits. */
    function quick() {
      const { clock, committer, runner, answer } = bench();
      const commits: number[] = [];
      runner.keepsMarks = false;
      const { barrier } = runner;
      runner.barrier = async () => {
        commits.push(clock.monotonic());
        setImmediate(answer);
        return barrier();
      };
      const ends = async (afterMs: number) => {
        await clock.advance(afterMs);
        runner.isDirty = true;
        committer.onDirty();
        await clock.advance(0);
        await turn();
        await turn();
      };
      return { clock, runner, commits, ends };
    }

    it("commits at once what ends while it is at rest, but for a pause that lets endings gather", async () => {
      const { clock, runner, commits, ends } = quick();
      runner.isIdle = true;
      await ends(0);
      expect(commits).toEqual([0]);
      await ends(50);
      expect(commits).toEqual([0, 50]);
      await ends(3);
      expect(commits).toEqual([0, 50]);
      await clock.advance(7);
      await turn();
      expect(commits).toEqual([0, 50, 60]);
    });

    it("commits under load once an interval, of which the first begins at once", async () => {
      const { clock, commits, ends } = quick();
      for (let atMs = 0; atMs < 1000; atMs += 5) await ends(atMs === 0 ? 0 : 5);
      await clock.advance(100);
      await turn();
      expect(commits[0]).toBe(0);
      for (const [index, atMs] of commits.slice(1).entries())
        expect(atMs - commits[index]!).toBeGreaterThanOrEqual(100);
      expect(commits.length).toBeGreaterThanOrEqual(9);
    });

    it("commits nothing where nothing ends", async () => {
      const { clock, runner, commits, ends } = quick();
      runner.isIdle = true;
      await ends(0);
      await clock.advance(60_000);
      expect(commits).toEqual([0]);
    });
  });
});
