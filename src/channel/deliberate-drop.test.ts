import { describe, expect, it } from "vitest";
import { channel } from "./channel.ts";

describe("Sender.drop", () => {
  it("counts a value as the policy's, in messages and records, and hands it to onDrop", () => {
    const dropped: [string, string][] = [];
    const { sender, receiver } = channel<string>({
      capacity: 2,
      overflow: "drop_newest",
      recordsOf: (value) => value.length,
      onDrop: (value, reason) => void dropped.push([value, reason]),
    });
    sender.trySend("ab");
    sender.drop("cde");
    expect(dropped).toEqual([["cde", "policy"]]);
    expect(sender.counters()).toMatchObject({ sent: 2, messages: 1, dropped: { policy: 1, closed: 0 } });
    const { sent, received, inChannel, dropped: records } = sender.counters().records;
    expect([sent, received, inChannel, records.policy]).toEqual([5, 0, 2, 3]);
    expect(receiver.tryRecv()).toBe("ab");
    expect(receiver.tryRecv()).toBeUndefined();
    sender.close();
    receiver.close();
  });

  it("does nothing once either end is closed", () => {
    for (const side of ["sender", "receiver"] as const) {
      const ends = channel<number>({ capacity: 1, overflow: "drop_newest" });
      ends[side].close();
      ends.sender.drop(1);
      expect(ends.receiver.counters()).toMatchObject({ sent: 0, dropped: { policy: 0, closed: 0 } });
      ends.sender.close();
      ends.receiver.close();
    }
  });
});
