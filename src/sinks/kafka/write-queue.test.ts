import { describe, expect, it } from "vitest";
import type { Batch } from "../../record/index.ts";
import { delivered } from "../../stage/index.ts";
import { linesBatch } from "../../testing/memory-stages.ts";
import { type Waiting, WriteQueue } from "./write-queue.ts";

const signal = new AbortController().signal;

/** A queue whose transactions end when they are told to. */
function bench() {
  const transactions: (readonly Waiting[])[] = [];
  const ends: (() => void)[] = [];
  const queue = new WriteQueue(async (writes) => {
    transactions.push(writes);
    await new Promise<void>((end) => ends.push(end));
    return writes.map(() => delivered());
  });
  return { queue, transactions, end: () => ends.shift()!() };
}

const batch = (bytes: number): Batch => linesBatch("app", "a", 0, ["x".repeat(bytes - 1)]);

const turns = async () => {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((next) => setImmediate(next));
};

describe("WriteQueue", () => {
  it("writes together what came while the one before was under way, and a single one at once", async () => {
    const { queue, transactions, end } = bench();
    const first = queue.write(batch(10), "", signal);
    await turns();
    const others = [1, 2, 3].map(() => queue.write(batch(10), "", signal));
    await turns();
    expect(transactions.map(({ length }) => length)).toEqual([1]);
    end();
    await first;
    await turns();
    expect(transactions.map(({ length }) => length)).toEqual([1, 3]);
    end();
    expect(await Promise.all(others)).toEqual(others.map(() => delivered()));
  });

  it("takes no more together than 4 MiB, and what passes it", async () => {
    const { queue, transactions, end } = bench();
    for (let count = 0; count < 7; count += 1) void queue.write(batch(1_000_000), "", signal);
    await turns();
    end();
    await turns();
    expect(transactions.map(({ length }) => length)).toEqual([5, 2]);
  });

  it("writes each alone after a refusal that did not say of which", async () => {
    const { queue, transactions, end } = bench();
    queue.separate(2);
    for (let count = 0; count < 4; count += 1) void queue.write(batch(10), "", signal);
    for (let count = 0; count < 3; count += 1) {
      await turns();
      end();
    }
    await turns();
    expect(transactions.map(({ length }) => length)).toEqual([1, 1, 2]);
  });
});
