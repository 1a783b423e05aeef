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
  return { store, letters, waiting, sent, clock, replay };
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
});
