import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "./registry.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

describe("ChannelRegistry", () => {
  const definition = { component: "out", channel: "input", why: "one batch ahead", capacity: 2 };

  it("lists every channel that it made with its labels, size, policy, reason and counts", () => {
    const registry = new ChannelRegistry();
    const { sender } = registry.create<number>({ ...definition, overflow: "drop_oldest", recordsOf: (value) => value });
    registry.create<string>({ ...definition, channel: "commands" });
    sender.trySend(5);
    expect(registry.list()).toMatchObject([
      { ...definition, policy: "drop_oldest", unit: "records", carriesRecords: true, usagePercent: 50 },
      { channel: "commands", policy: "block", carriesRecords: false },
    ]);
    expect(registry.list()[0]?.counters()).toMatchObject({ sent: 1, records: { sent: 5, inChannel: 5 } });
  });

  it("refuses a second channel of the same name while the first is in use", () => {
    const registry = new ChannelRegistry();
    registry.create(definition);
    expect(() => registry.create(definition)).toThrow(/out\/input exists already/);
    registry.create({ ...definition, component: "other" });
  });

  it("goes on from the final counts of an earlier channel of the same name", async () => {
    const registry = new ChannelRegistry();
    for (let run = 1; run <= 3; run += 1) {
      const { sender, receiver } = registry.create<number>({ ...definition, capacity: 1, recordsOf: () => 10 });
      sender.trySend(1);
      const waiting = sender.send(2);
      receiver.tryRecv();
      await waiting;
      expect(registry.list()).toHaveLength(1);
      const counters = registry.list()[0]!.counters();
      expect(counters).toMatchObject({ messages: 1, sent: run * 2, received: run, dropped: { closed: run - 1 } });
      expect(counters.records).toMatchObject({ sent: run * 20, received: run * 10, inChannel: 10 });
      expect(registry.list()[0]!.sendDurations()).toMatchObject({ count: run * 2, atOnce: run });
      receiver.close();
      sender.close();
      expect(registry.list()[0]!.isOver).toBe(true);
    }
  });

  it("lists a broadcast with the sums over its receivers", () => {
    const registry = new ChannelRegistry();
    const hub = registry.createBroadcast<number>({ ...definition, capacity: 1 });
    hub.subscribe();
    hub.subscribe();
    hub.send(1);
    hub.send(2);
    const [entry] = registry.list();
    expect(entry).toMatchObject({ policy: "drop_oldest", usagePercent: 100, policyDroppedRecords: 2, isOver: false });
    expect(entry!.sendDurations().count).toBe(4);
  });

  it("forgets a channel that is taken off the list", () => {
    const registry = new ChannelRegistry();
    registry.create(definition);
    registry.remove("out", "input");
    expect(registry.list()).toEqual([]);
  });
});
