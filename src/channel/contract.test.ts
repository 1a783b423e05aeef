import { describe, expect, it } from "vitest";
import { ChannelClosedError, ChannelFullError } from "../errors.ts";
import { channel } from "./channel.ts";
import { type ChannelOptions, OVERFLOW_POLICIES } from "./options.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

/** Ways to build a channel that must not change what it promises as long as no message is critical, alike or heavy. */
const kinds: readonly [string, Partial<ChannelOptions<number>>][] = [
  ["plain", {}],
  ["weighed", { sizeOf: () => 1, recordsOf: () => 3, capacityBytes: 1000 }],
  ["with lanes", { priorityLanes: { isCritical: () => false } }],
  ["coalescing", { coalesce: { keyOf: (value) => value, merge: (waiting) => waiting } }],
  [
    "with lanes and coalescing",
    {
      priorityLanes: { isCritical: () => true },
      coalesce: { keyOf: () => undefined, merge: (waiting) => waiting },
    },
  ],
];

const cases = OVERFLOW_POLICIES.flatMap((overflow) =>
  [1, 2].flatMap((capacity) => kinds.map(([kind, options]) => ({ overflow, capacity, kind, options }))),
);

describe.each(cases)("a channel with $overflow, capacity $capacity, $kind", ({ overflow, capacity, kind, options }) => {
  const open = () => {
    const dropped: [number, string][] = [];
    const onDrop = (value: number, reason: "policy" | "closed") => void dropped.push([value, reason]);
    return { ...channel<number>({ capacity, overflow, ...options, onDrop }), dropped };
  };
  /** 1 to `capacity`, and as many more as asked. */
  const values = (more = 0) => Array.from({ length: capacity + more }, (_, index) => index + 1);
  const perMessage = kind === "weighed" ? 3 : 1;

  it("takes as many as its capacity, and gives them back in order", async () => {
    const { sender, receiver, dropped } = open();
    for (const value of values()) await sender.send(value);
    expect(receiver.counters()).toMatchObject({ messages: capacity, usagePercent: 100, capacity });
    expect(await receiver.recvMany(9)).toEqual(values());
    expect(dropped).toEqual([]);
  });

  it("does with one more what its policy says, counted once", async () => {
    const { sender, receiver, dropped } = open();
    for (const value of values()) sender.trySend(value);
    const more = capacity + 1;
    const outcome = sender.trySend(more);
    const drops = overflow === "drop_newest" || overflow === "drop_oldest";
    expect(outcome).toBe(drops ? "sent" : "full");
    if (overflow === "drop_newest") expect(dropped).toEqual([[more, "policy"]]);
    else if (overflow === "drop_oldest") expect(dropped).toEqual([[1, "policy"]]);
    else expect(dropped).toEqual([]);
    expect(receiver.counters()).toMatchObject({
      sent: drops ? more : capacity,
      messages: capacity,
      dropped: { policy: drops ? 1 : 0, closed: 0 },
      records: { sent: (drops ? more : capacity) * perMessage, inChannel: capacity * perMessage },
    });
    if (overflow === "error") {
      await expect(sender.send(more)).rejects.toBeInstanceOf(ChannelFullError);
      await expect(sender.send(more)).rejects.toMatchObject({ value: more });
    }
    if (overflow === "block") {
      const waiting = sender.send(more);
      expect(receiver.tryRecv()).toBe(1);
      await waiting;
      expect(receiver.counters()).toMatchObject({ sent: more, messages: capacity });
    }
  });

  it("keeps its order and conserves over many rounds of filling and emptying", () => {
    const { sender, receiver, dropped } = open();
    const got: number[] = [];
    let accepted = 0;
    for (let value = 1; value <= 60; value += 1) {
      if (sender.trySend(value) === "sent") accepted += 1;
      if (value % 3 !== 0) continue;
      const one = receiver.tryRecv();
      if (one !== undefined) got.push(one);
      const { sent, received, dropped: drops, messages, records } = receiver.counters();
      expect(sent).toBe(received + drops.policy + messages);
      expect(records.sent).toBe(sent * perMessage);
      expect(records.sent).toBe(records.received + records.dropped.policy + records.inChannel);
      expect(messages).toBeLessThanOrEqual(capacity);
    }
    for (let one = receiver.tryRecv(); one !== undefined; one = receiver.tryRecv()) got.push(one);
    expect(got).toEqual(got.toSorted((one, other) => one - other));
    expect(got.length + dropped.length).toBe(accepted);
  });

  it("hands a value to a receive that waits, whatever its policy", async () => {
    const { sender, receiver, dropped } = open();
    const waiting = receiver.recv();
    for (const value of values(1)) expect(sender.trySend(value)).toBe("sent");
    expect(await waiting).toBe(1);
    expect(dropped).toEqual([]);
  });

  it("closed at the sending end, gives what is inside and then the end", async () => {
    const { sender, receiver } = open();
    for (const value of values()) sender.trySend(value);
    sender.close();
    expect(sender.trySend(9)).toBe("closed");
    const got: number[] = [];
    for await (const value of receiver) got.push(value);
    expect(got).toEqual(values());
    expect(receiver.closed).toBe(true);
  });

  it("closed at the receiving end, drops what is inside as closed and refuses the rest", async () => {
    const { sender, receiver, dropped } = open();
    for (const value of values()) sender.trySend(value);
    receiver.close();
    expect(dropped).toEqual(values().map((value) => [value, "closed"]));
    expect(sender.trySend(9)).toBe("closed");
    await expect(sender.send(9)).rejects.toBeInstanceOf(ChannelClosedError);
    expect(receiver.counters()).toMatchObject({
      sent: capacity,
      dropped: { policy: 0, closed: capacity },
      messages: 0,
    });
  });
});
