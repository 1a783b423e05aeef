import { describe, expect, it } from "vitest";
import { HeldMessages } from "./held-messages.ts";
import { QueueRead } from "./queue-read.ts";

function bench(batch: number) {
  let nowMs = 0;
  const held = new HeldMessages(batch, () => nowMs);
  let next = 1;
  return {
    held,
    pass: (ms: number) => {
      nowMs += ms;
    },
    read: (count: number) =>
      Array.from({ length: count }, () => {
        held.hold(next, nowMs + 30_000);
        return next++;
      }),
    finish: (ids: readonly number[]) => {
      for (const id of ids) held.done(id);
      held.forget(held.takeDone(100_000));
    },
  };
}

describe("held messages", () => {
  it("has room for one read at first, and for twice what was finished within the last second", () => {
    const { held, read, finish, pass } = bench(10);
    expect(held.room).toBe(10);
    const first = read(10);
    expect(held.room).toBe(0);
    finish(first);
    expect(held.room).toBe(20);
    finish(read(20));
    expect(held.room).toBe(60);
    pass(1000);
    // Of the second that is over.
    expect(held.room).toBe(60);
    pass(2000);
    expect(held.room).toBe(10);
  });

  it("knows a message that it holds already, and which ones others will see soon", () => {
    const { held } = bench(10);
    expect(held.hold(7, 1000)).toBe(true);
    expect(held.hold(7, 5000)).toBe(false);
    held.hold(8, 1000);
    held.hold(9, 1000);
    held.done(9);
    expect(held.endingBefore(2000)).toEqual([8]);
    held.extended([8], 9000);
    expect(held.endingBefore(6000)).toEqual([7]);
    expect(held.unfinished()).toEqual([7, 8]);
  });
});

describe("queue read", () => {
  it("has a message done when it has ended on every way, whatever the order and however wide the ranges", () => {
    const done: number[] = [];
    const read = new QueueRead({ source: "q", key: "q#1", recordIdPrefix: "x" }, [3, 7, 9], (id) => done.push(id));
    read.onForwarded(2);
    read.onSettled([{ start: 7, end: 8 }]);
    expect(done).toEqual([]);
    read.onSettled([{ start: 0, end: 10 }]);
    expect(done).toEqual([7]);
    read.onSettled([
      { start: 3, end: 7 },
      { start: 8, end: 10 },
    ]);
    expect(done).toEqual([7, 3, 9]);
  });
});
