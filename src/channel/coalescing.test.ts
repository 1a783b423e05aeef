import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { channel } from "./channel.ts";
import type { ChannelOptions } from "./options.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

interface Note {
  readonly key: string | undefined;
  readonly times: number;
  readonly last: number;
}

function coalescing(options: Partial<ChannelOptions<Note>> & { capacity: number }) {
  return channel<Note>({
    ...options,
    coalesce: {
      keyOf: (note) => note.key,
      merge: (waiting, arrived, count) => ({ key: waiting.key, times: count, last: arrived.last }),
    },
  });
}

const note = (key: string | undefined, last: number): Note => ({ key, times: 1, last });

describe("coalescing", () => {
  it("lets the same key wait once, in its first place, with a count", async () => {
    const { sender, receiver } = coalescing({ capacity: 4 });
    for (const [last, key] of ["a", "b", "a", "a", "b"].entries()) expect(sender.trySend(note(key, last))).toBe("sent");
    expect(receiver.counters()).toMatchObject({ messages: 2, sent: 2, coalesced: 3 });
    expect(await receiver.recvMany(9)).toEqual([
      { key: "a", times: 3, last: 3 },
      { key: "b", times: 2, last: 4 },
    ]);
  });

  it("begins anew once the waiting one was received", () => {
    const { sender, receiver } = coalescing({ capacity: 2 });
    sender.trySend(note("a", 1));
    expect(receiver.tryRecv()).toMatchObject({ times: 1, last: 1 });
    sender.trySend(note("a", 2));
    expect(receiver.tryRecv()).toMatchObject({ times: 1, last: 2 });
    expect(receiver.counters()).toMatchObject({ sent: 2, received: 2, coalesced: 0 });
  });

  it("merges into a full channel at once, without waiting and without a drop", async () => {
    for (const overflow of ["block", "error", "drop_newest", "drop_oldest"] as const) {
      const { sender, receiver } = coalescing({ capacity: 1, overflow });
      sender.trySend(note("a", 1));
      await sender.send(note("a", 2));
      expect(receiver.counters()).toMatchObject({ messages: 1, coalesced: 1, dropped: { policy: 0 } });
      expect(receiver.tryRecv()).toMatchObject({ times: 2 });
    }
  });

  it("merges senders that wait, as their turn comes", async () => {
    const { sender, receiver } = coalescing({ capacity: 1 });
    sender.trySend(note("x", 0));
    const sends = [1, 2, 3].map((last) => sender.send(note("a", last)));
    expect(receiver.tryRecv()).toMatchObject({ key: "x" });
    await Promise.all(sends);
    expect(receiver.tryRecv()).toEqual({ key: "a", times: 3, last: 3 });
    expect(receiver.counters()).toMatchObject({ sent: 2, received: 2, coalesced: 2 });
  });

  it("leaves messages without a key alone", () => {
    const { sender, receiver } = coalescing({ capacity: 3 });
    for (const last of [1, 2]) sender.trySend(note(undefined, last));
    expect(receiver.counters().messages).toBe(2);
  });

  it("forgets a key whose message was dropped", () => {
    const dropped: Note[] = [];
    const { sender, receiver } = coalescing({
      capacity: 1,
      overflow: "drop_oldest",
      onDrop: (one) => dropped.push(one),
    });
    sender.trySend(note("a", 1));
    sender.trySend(note("a", 2));
    sender.trySend(note("b", 3));
    sender.trySend(note("a", 4));
    expect(dropped).toEqual([
      { key: "a", times: 2, last: 2 },
      { key: "b", times: 1, last: 3 },
    ]);
    expect(receiver.tryRecv()).toEqual({ key: "a", times: 1, last: 4 });
  });

  it("throws what merging throws, to the one who sent, and changes nothing", async () => {
    const { sender, receiver } = channel<number>({
      capacity: 1,
      coalesce: {
        keyOf: (value) => value % 10,
        merge: () => {
          throw new Error("cannot merge");
        },
      },
    });
    sender.trySend(1);
    expect(() => sender.trySend(11)).toThrow("cannot merge");
    await expect(sender.send(11)).rejects.toThrow("cannot merge");
    expect(receiver.counters()).toMatchObject({ sent: 1, coalesced: 0, messages: 1 });
    const [other, same, last] = [sender.send(2), sender.send(12), sender.send(3)];
    expect(receiver.tryRecv()).toBe(1);
    await other;
    await expect(same).rejects.toThrow("cannot merge");
    expect(receiver.tryRecv()).toBe(2);
    await last;
    expect(receiver.tryRecv()).toBe(3);
  });

  it("survives a merge that uses the channel", async () => {
    const got: number[] = [];
    const { sender, receiver } = channel<number>({
      capacity: 1,
      coalesce: {
        keyOf: (value) => value % 10,
        merge: (waiting, arrived) => {
          got.push(receiver.tryRecv() as number);
          return waiting + arrived;
        },
      },
    });
    sender.trySend(1);
    const waiting = sender.send(2);
    // The 1 is received while 11 is merged into it; then who waited longer comes first, and 11 stays with its owner.
    expect(sender.trySend(11)).toBe("full");
    await waiting;
    expect(got).toEqual([1]);
    const rest: (number | undefined)[] = [receiver.tryRecv(), receiver.tryRecv()];
    expect(rest).toEqual([2, undefined]);
    expect(receiver.counters()).toMatchObject({ sent: 2, received: 2, messages: 0 });
  });

  it("keeps critical and normal messages of one key apart", async () => {
    const { sender, receiver } = coalescing({ capacity: 4, priorityLanes: { isCritical: ({ last }) => last > 100 } });
    for (const last of [1, 101, 2, 102]) sender.trySend(note("a", last));
    expect(await receiver.recvMany(9)).toEqual([
      { key: "a", times: 2, last: 102 },
      { key: "a", times: 2, last: 2 },
    ]);
  });

  it("is refused where records travel", () => {
    expect(() => coalescing({ capacity: 1, sizeOf: () => 1 })).toThrow(/coalesce: .*may not vanish/);
  });

  it.each(["block", "drop_newest", "drop_oldest", "error"] as const)(
    "under %s delivers every message once, by itself or in a count, and never two waiting ones of a key",
    (overflow) => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 3 }),
          fc.array(fc.oneof(fc.constantFrom("a", "b", "c", "d"), fc.constant("receive")), { maxLength: 60 }),
          (capacity, steps) => {
            const out: Note[] = [];
            const { sender, receiver } = coalescing({ capacity, overflow, onDrop: (one) => out.push(one) });
            let accepted = 0;
            for (const [last, step] of steps.entries()) {
              if (step !== "receive") accepted += sender.trySend(note(step, last)) === "sent" ? 1 : 0;
              else {
                const value = receiver.tryRecv();
                if (value !== undefined) out.push(value);
              }
              const counters = receiver.counters();
              expect(counters.sent + counters.coalesced).toBe(accepted);
              expect(counters.sent).toBe(counters.received + counters.dropped.policy + counters.messages);
            }
            const inside: Note[] = [];
            for (let value = receiver.tryRecv(); value !== undefined; value = receiver.tryRecv()) inside.push(value);
            expect(new Set(inside.map(({ key }) => key)).size).toBe(inside.length);
            expect([...out, ...inside].reduce((sum, { times }) => sum + times, 0)).toBe(accepted);
          },
        ),
        { numRuns: 300 },
      );
    },
  );
});
