import { describe, expect, it } from "vitest";
import { letterOf, memoryDeadLetters } from "../dead-letters/index.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Batch } from "../record/index.ts";
import { systemRandom } from "../runtime/random.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import { DeadLetterReplay } from "./dead-letter-replay.ts";

const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

async function bench() {
  const store = memoryDeadLetters({ maxBytes: 1e6, random: systemRandom });
  const letters = contractBatch(["a", "b", "c", "d"]).records.map((record) =>
    letterOf(record, { component: "out", reason: "bad", attempts: 1, nowMs: 0 }),
  );
  await store.put(letters);
  const waiting: { batch: Batch; take: () => void }[] = [];
  const sent: Batch[] = [];
  const pipeline = {
    waysFrom: () => 1,
    resend: (_component: string, _source: string, batch: Batch) =>
      new Promise<void>((resolve) => {
        waiting.push({ batch, take: resolve });
        sent.push(batch);
      }),
  };
  const clock = new ManualClock();
  const replay = new DeadLetterReplay(store, pipeline as unknown as Pipeline, clock, silentLogger);
  return { store, letters, waiting, sent, clock, replay, pipeline };
}

describe("DeadLetterReplay", () => {
  it("has one letter waiting, however many orders come while its component takes nothing", async () => {
    const { letters, waiting, clock, replay } = await bench();
    for (let order = 0; order < 10; order += 1) {
      await replay.order(letters.map(({ id }) => id));
      await clock.advance(1000);
      await turns();
    }
    expect(waiting).toHaveLength(1);
    replay.stop();
    waiting[0]!.take();
    await turns();
    expect(waiting).toHaveLength(1);
  });

  it("sends what was ordered while it looked, also a letter that it was past", async () => {
    const { store, letters, waiting, sent, clock, replay } = await bench();
    const [a, b, c] = letters.map(({ id }) => id);
    await replay.order([b!, c!]);
    await turns();
    await replay.order([a!]);
    for (let round = 0; round < 3; round += 1) {
      waiting.shift()!.take();
      await turns();
    }
    expect(sent.map((batch) => batch.records[0]!.event["message"])).toEqual(["b", "c", "a"]);
    for (const batch of sent) batch.origin.onSettled?.(batch.ranges);
    await turns();
    expect(store.count).toBe(1);
    await clock.advance(1000);
    await turns();
    expect(waiting).toEqual([]);
    replay.stop();
  });

  it("sends a letter once that is ordered again while it is under way", async () => {
    const { store, letters, waiting, sent, clock, replay } = await bench();
    const ids = letters.map(({ id }) => id);
    await replay.order(ids.slice(0, 2));
    for (let round = 0; round < 2; round += 1) {
      await turns();
      waiting.shift()!.take();
    }
    expect(await replay.order(ids.slice(0, 2))).toBe(2);
    await clock.advance(1000);
    await turns();
    expect(sent).toHaveLength(2);
    for (const batch of sent) batch.origin.onSettled?.(batch.ranges);
    await replay.close();
    expect(store.count).toBe(2);
  });

  it("sends a letter once also where it cannot be removed at first", async () => {
    const { store, letters, waiting, sent, clock, replay } = await bench();
    const finishReplay = store.finishReplay.bind(store);
    store.finishReplay = () => Promise.reject(new Error("ENOSPC"));
    await replay.order([letters[0]!.id]);
    await turns();
    waiting.shift()!.take();
    sent[0]!.origin.onSettled?.(sent[0]!.ranges);
    for (let look = 0; look < 3; look += 1) {
      await turns();
      await clock.advance(1000);
    }
    expect([sent.length, store.count]).toEqual([1, 4]);
    store.finishReplay = finishReplay;
    await clock.advance(1000);
    await turns();
    expect([sent.length, store.count]).toEqual([1, 3]);
    replay.stop();
  });

  it("tries a letter again that the pipeline did not take", async () => {
    const { letters, sent, clock, replay, pipeline } = await bench();
    const { resend } = pipeline;
    pipeline.resend = () => Promise.reject(new Error("its input is full, and it may not wait"));
    await replay.order([letters[0]!.id]);
    await turns();
    pipeline.resend = resend;
    await clock.advance(1000);
    await turns();
    expect(sent).toHaveLength(1);
    replay.stop();
  });

  it("removes a letter only with the last of the events that it was split into", async () => {
    const { store, letters, waiting, sent, replay } = await bench();
    await replay.order([letters[0]!.id]);
    await turns();
    waiting.shift()!.take();
    sent[0]!.origin.onSettled?.([]);
    await turns();
    expect(store.count).toBe(4);
    sent[0]!.origin.onSettled?.(sent[0]!.ranges);
    await replay.close();
    expect(store.count).toBe(3);
  });
});
