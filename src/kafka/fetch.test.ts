import type { Consumer } from "@platformatic/kafka";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fetchCommitted } from "./fetch.ts";

/** One batch of a partition's log: data of a producer, or the marker that ends its transaction. */
interface Entry {
  readonly producerId: number;
  readonly kind: "data" | "plain" | "commit" | "abort";
}

/** A consumer whose partition holds `log`, one record a batch, answered from an offset on, `count` batches at a time. */
function consumerOf(log: readonly Entry[], count: number): Consumer {
  const ends = log.map((entry, index) => ({ ...entry, index }));
  const outcomeOf = (producerId: number, from: number) =>
    ends.find(
      (one) => one.index > from && one.producerId === producerId && (one.kind === "abort" || one.kind === "commit"),
    );
  const fetch = async ({ topics }: { topics: { partitions: { fetchOffset: bigint }[] }[] }) => {
    const from = Number(topics[0]!.partitions[0]!.fetchOffset);
    const upTo = Math.min(log.length, from + count);
    // As the broker says them: every aborted transaction that has a record in what is answered, by its first offset.
    const aborted = new Map<string, { producerId: bigint; firstOffset: bigint }>();
    for (const { producerId, kind, index } of ends) {
      const end = kind === "data" ? outcomeOf(producerId, index) : undefined;
      if (end?.kind !== "abort" || end.index < from || index >= upTo) continue;
      const key = `${producerId}/${end.index}`;
      if (!aborted.has(key)) aborted.set(key, { producerId: BigInt(producerId), firstOffset: BigInt(index) });
    }
    const records = ends.slice(from, upTo).map(({ producerId, kind, index }) => ({
      firstOffset: BigInt(index),
      lastOffsetDelta: 0,
      firstTimestamp: 5n,
      producerId: BigInt(producerId),
      attributes: kind === "plain" ? 0 : kind === "data" ? 0x10 : 0x30,
      records: [
        {
          offsetDelta: 0,
          timestampDelta: 1n,
          key: kind === "commit" || kind === "abort" ? Buffer.from([0, 0, 0, kind === "commit" ? 1 : 0]) : null,
          value: Buffer.from(String(index)),
        },
      ],
    }));
    const partition = {
      partitionIndex: 0,
      errorCode: 0,
      highWatermark: BigInt(log.length),
      logStartOffset: 0n,
      abortedTransactions: [...aborted.values()],
      records,
    };
    return { errorCode: 0, responses: [{ topicId: "id", partitions: [partition] }] };
  };
  return { fetch } as unknown as Consumer;
}

async function readAll(log: readonly Entry[], count: number): Promise<number[]> {
  const consumer = consumerOf(log, count);
  const found: number[] = [];
  for (let offset = 0n; offset < BigInt(log.length); ) {
    const place = { topic: "t", topicId: "id", partition: 0, leader: 1, offset };
    const limits = { maxWaitMs: 1, maxBytes: 1, maxPartitionBytes: 1 };
    const [fetched] = await fetchCommitted(consumer, 1, [place], limits);
    found.push(...fetched!.records.map(({ value }) => Number(value!.toString())));
    expect(fetched!.nextOffset).toBeGreaterThan(offset);
    offset = fetched!.nextOffset;
  }
  return found;
}

describe("fetchCommitted", () => {
  it("takes out several aborted transactions of one producer, also where their end lies in a later answer", async () => {
    const log: Entry[] = [
      { producerId: 1, kind: "data" },
      { producerId: 1, kind: "abort" },
      { producerId: 1, kind: "data" },
      { producerId: 2, kind: "plain" },
      { producerId: 1, kind: "commit" },
      { producerId: 1, kind: "data" },
      { producerId: 1, kind: "data" },
      { producerId: 1, kind: "abort" },
    ];
    for (let count = 1; count <= log.length; count += 1) expect(await readAll(log, count)).toEqual([2, 3]);
  });

  it("gives what was committed and nothing else, however the log is cut into answers", async () => {
    const step = fc.record({
      producerId: fc.integer({ min: 1, max: 3 }),
      kind: fc.constantFrom<Entry["kind"]>("data", "data", "plain", "commit", "abort"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 7 }), async (steps, count) => {
        // A marker ends a transaction that is open; what stays open is behind the last stable offset, and not answered.
        const open = new Set<number>();
        const log = steps.filter(({ producerId, kind }) => {
          if (kind === "data") open.add(producerId);
          else if (kind !== "plain" && !open.delete(producerId)) return false;
          return true;
        });
        for (const producerId of open) log.push({ producerId, kind: "abort" });
        const expected = log.flatMap(({ producerId, kind }, index) => {
          if (kind === "plain") return [index];
          const end = log
            .slice(index)
            .find((one) => one.producerId === producerId && one.kind !== "data" && one.kind !== "plain");
          return kind === "data" && end?.kind === "commit" ? [index] : [];
        });
        expect(await readAll(log, count)).toEqual(expected);
      }),
    );
  });
});
