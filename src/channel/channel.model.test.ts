import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChannelClosedError, ChannelFullError } from "../errors.ts";
import { channel } from "./channel.ts";
import type { ChannelClock } from "./clock.ts";
import { type ChannelOptions, OVERFLOW_POLICIES } from "./options.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

/** One step of a task; which task goes next is the scheduler's choice. */
type SendStep = "send" | "trySend" | "abortedSend" | "timedSend" | "idle";
type ReceiveStep = "recv" | "tryRecv" | "recvMany" | "abortedRecv" | "iterate" | "idle";

const sendStep: fc.Arbitrary<SendStep> = fc.constantFrom("send", "send", "trySend", "abortedSend", "timedSend", "idle");
const receiveStep: fc.Arbitrary<ReceiveStep> = fc.constantFrom(
  "recv",
  "tryRecv",
  "recvMany",
  "abortedRecv",
  "iterate",
  "idle",
);

interface Value {
  readonly sender: number;
  readonly index: number;
  readonly records: number;
  /** With coalescing: what this stands for, itself not included. */
  readonly merged?: readonly Value[];
}

/** What a message stands for. */
const partsOf = (value: Value): readonly Value[] => [value.merged?.[0] ?? value, ...(value.merged?.slice(1) ?? [])];

/** Ways to build the channel; lanes and coalescing are for messages that weigh nothing. */
const kinds = {
  weighed: {
    capacityBytes: 4,
    sizeOf: (value: Value) => value.records,
    recordsOf: (value: Value) => value.records,
  },
  tagged: {
    priorityLanes: { isCritical: (value: Value) => value.index % 2 === 1, burst: 2 },
    coalesce: {
      keyOf: (value: Value) => (value.index === 5 ? undefined : value.index % 3),
      merge: (waiting: Value, arrived: Value) => ({ ...waiting, merged: [...partsOf(waiting), arrived] }),
    },
  },
} satisfies { [kind: string]: Partial<ChannelOptions<Value>> };

describe("channel under every interleaving", () => {
  const cases = OVERFLOW_POLICIES.flatMap((overflow) =>
    [1, 2].flatMap((capacity) => (["weighed", "tagged"] as const).map((kind) => [overflow, capacity, kind] as const)),
  );

  it.each(cases)("%s at capacity %i, %s, conserves, loses nothing, repeats nothing, keeps the order", async (...on) => {
    const [overflow, capacity, kind] = on;
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(fc.array(sendStep, { maxLength: 6 }), { minLength: 1, maxLength: 3 }),
        fc.array(receiveStep, { maxLength: 12 }),
        fc.boolean(),
        async (scheduler, senderPlans, receiverPlan, drains) => {
          const accepted: Value[] = [];
          const refused: Value[] = [];
          const received: Value[] = [];
          const dropped: Value[] = [];
          const timers = new Set<() => void>();
          const clock: ChannelClock = {
            monotonic: () => 0,
            after(_, run) {
              const fire = () => void (timers.delete(fire) && run());
              timers.add(fire);
              return { cancel: () => void timers.delete(fire) };
            },
          };
          const { sender, receiver } = channel<Value>({
            capacity,
            ...kinds[kind],
            overflow,
            clock,
            onDrop: (value) => {
              dropped.push(value);
              check();
            },
          });
          const check = () => {
            const counters = receiver.counters();
            const { records } = counters;
            expect(counters.messages).toBeLessThanOrEqual(capacity);
            expect(counters.messages > 1 ? counters.bytes : 0).toBeLessThanOrEqual(4);
            expect(counters.sent).toBe(
              counters.received + counters.dropped.policy + counters.dropped.closed + counters.messages,
            );
            expect(records.sent).toBe(
              records.received + records.dropped.policy + records.dropped.closed + records.inChannel,
            );
          };
          const pause = () => scheduler.schedule(Promise.resolve());

          const sending = senderPlans.map(async (plan, number) => {
            using own = sender.clone();
            for (const [index, step] of plan.entries()) {
              await pause();
              check();
              if (step === "idle") continue;
              const value = { sender: number, index, records: (index * 3 + number) % 7 };
              if (step === "trySend") {
                (own.trySend(value) === "sent" ? accepted : refused).push(value);
                continue;
              }
              const abort = new AbortController();
              const sent = own.send(value, {
                signal: abort.signal,
                ...(step === "timedSend" ? { timeoutMs: 1 } : {}),
              });
              const aborting = step === "abortedSend" ? pause().then(() => abort.abort("gave up")) : undefined;
              await sent.then(
                () => accepted.push(value),
                (error) => {
                  if (error instanceof ChannelClosedError || error instanceof ChannelFullError) {
                    expect(error.value).toBe(value);
                  } else {
                    expect(error).toBe("gave up");
                  }
                  refused.push(value);
                },
              );
              await aborting;
              check();
            }
          });
          sender.close();

          const receiving = (async () => {
            for (const step of receiverPlan) {
              await pause();
              check();
              if (step === "tryRecv") {
                const value = receiver.tryRecv();
                if (value !== undefined) received.push(value);
              } else if (step === "recvMany") {
                received.push(...(await receiver.recvMany(2)));
              } else if (step === "recv") {
                const value = await receiver.recv();
                if (value !== undefined) received.push(value);
              } else if (step === "iterate") {
                const result = await receiver[Symbol.asyncIterator]().next();
                if (!result.done) received.push(result.value);
              } else if (step === "abortedRecv") {
                const abort = new AbortController();
                const one = receiver.recv({ signal: abort.signal });
                const aborting = pause().then(() => abort.abort());
                const value = await one;
                if (value !== undefined) received.push(value);
                await aborting;
              }
            }
            if (drains) {
              for await (const value of receiver) received.push(value);
            }
            receiver.close();
            check();
          })();
          const timing = (async () => {
            // Time passes now and then, for as long as somebody may be waiting on it.
            for (let turn = 0; turn < 40; turn += 1) {
              await pause();
              for (const fire of timers) fire();
            }
          })();

          await scheduler.waitFor(Promise.all([...sending, receiving, timing]));

          check();
          const counters = receiver.counters();
          expect(counters.messages).toBe(0);
          const parts = [...received, ...dropped].flatMap(partsOf);
          const out = new Set(parts);
          expect(out.size).toBe(parts.length);
          expect(out).toEqual(new Set(accepted));
          for (const value of refused) expect(out.has(value)).toBe(false);
          expect(counters.sent + counters.coalesced).toBe(accepted.length);
          expect(counters.received).toBe(received.length);
          for (const number of senderPlans.keys()) {
            for (const lane of [0, 1]) {
              const isOf = (value: Value) =>
                value.sender === number && (kind === "weighed" || value.index % 2 === lane);
              const indices = received.filter(isOf).map((value) => value.index);
              expect(indices).toEqual(indices.toSorted((one, other) => one - other));
            }
          }
          if (overflow === "block" || overflow === "error") expect(counters.dropped.policy).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });
});
