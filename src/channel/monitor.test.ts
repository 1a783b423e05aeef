import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import type { ChannelClock } from "./clock.ts";
import { ChannelMonitor } from "./monitor.ts";
import { type ChannelDefinition, ChannelRegistry } from "./registry.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

interface Line {
  readonly level: "warn" | "info";
  readonly fields: { readonly [field: string]: unknown };
  readonly message: string;
}

function setup(definition: Partial<ChannelDefinition<number>> = {}) {
  let nowMs = 0;
  let timers: { atMs: number; run: () => void }[] = [];
  const clock: ChannelClock = {
    monotonic: () => nowMs,
    after(ms, run) {
      const timer = { atMs: nowMs + ms, run };
      timers.push(timer);
      return {
        cancel() {
          timers = timers.filter((other) => other !== timer);
        },
      };
    },
  };
  const advance = (ms: number) => {
    const untilMs = nowMs + ms;
    for (;;) {
      const due = timers.filter((timer) => timer.atMs <= untilMs).toSorted((one, other) => one.atMs - other.atMs)[0];
      if (due === undefined) break;
      timers = timers.filter((timer) => timer !== due);
      nowMs = due.atMs;
      due.run();
    }
    nowMs = untilMs;
  };
  const lines: Line[] = [];
  const log = {
    warn: (fields: Line["fields"], message: string) => void lines.push({ level: "warn", fields, message }),
    info: (fields: Line["fields"], message: string) => void lines.push({ level: "info", fields, message }),
  };
  const registry = new ChannelRegistry();
  const create = (extra: Partial<ChannelDefinition<number>> = {}) =>
    registry.create<number>({ component: "out", channel: "input", why: "test", capacity: 10, ...definition, ...extra });
  const monitor = new ChannelMonitor({ registry, clock, log, warningThreshold: 0.8 });
  monitor.start();
  return { advance, lines, registry, create, monitor, timers: () => timers.length, ...create() };
}

const fill = (sender: { trySend(value: number): string }, count: number) => {
  for (let value = 0; value < count; value += 1) sender.trySend(value);
};

describe("ChannelMonitor", () => {
  it("warns once when a channel passes the threshold, and says once when it is over and how long it lasted", () => {
    const { advance, lines, sender, receiver } = setup();
    fill(sender, 7);
    advance(1000);
    expect(lines).toEqual([]);
    fill(sender, 1);
    advance(5000);
    expect(lines).toMatchObject([{ level: "warn", fields: { component: "out", channel: "input", usage_percent: 80 } }]);
    receiver.tryRecv();
    receiver.tryRecv();
    advance(1200);
    expect(lines).toMatchObject([
      { level: "warn" },
      { level: "info", fields: { component: "out", channel: "input", usage_percent: 60, lasted_ms: 5000 } },
    ]);
  });

  it("does not flap between the threshold and ten points below", () => {
    const { advance, lines, sender, receiver } = setup({ capacity: 100 });
    fill(sender, 85);
    for (let round = 0; round < 10; round += 1) {
      advance(200);
      for (let taken = 0; taken < 14; taken += 1) receiver.tryRecv();
      advance(200);
      fill(sender, 14);
    }
    expect(lines.map((line) => line.level)).toEqual(["warn"]);
  });

  it("warns again after it was over", () => {
    const { advance, lines, sender, receiver } = setup({ capacity: 1 });
    for (let round = 0; round < 2; round += 1) {
      fill(sender, 1);
      advance(200);
      receiver.tryRecv();
      advance(1200);
    }
    expect(lines.map((line) => line.level)).toEqual(["warn", "info", "warn", "info"]);
  });

  it("tells at once of a burst that would be over before the next look", async () => {
    const { lines, sender, receiver, advance } = setup();
    fill(sender, 9);
    await receiver.recvMany(10);
    expect(lines).toMatchObject([{ level: "warn", fields: { component: "out", channel: "input", usage_percent: 80 } }]);
    advance(1400);
    expect(lines).toMatchObject([{ level: "warn" }, { level: "info", fields: { usage_percent: 0, lasted_ms: 200 } }]);
  });

  it("tells once of a channel that fills and empties in turns, until it has been calm for a second", async () => {
    const { advance, lines, sender, receiver } = setup({ capacity: 1 });
    for (let turns = 0; turns < 20; turns += 1) {
      fill(sender, 1);
      await Promise.resolve();
      receiver.tryRecv();
      advance(300);
    }
    expect(lines.map((line) => line.level)).toEqual(["warn"]);
    advance(1200);
    expect(lines.map((line) => line.level)).toEqual(["warn", "info"]);
  });

  it("does not count a message as fill that is taken at once", async () => {
    const { advance, lines, sender, receiver } = setup({ capacity: 1 });
    for (let turns = 0; turns < 5; turns += 1) {
      const waiting = receiver.recv();
      fill(sender, 1);
      await waiting;
    }
    advance(1000);
    expect(lines).toEqual([]);
  });

  it("hears the alarm of bytes, and of waiting senders that are let in", async () => {
    const { lines, sender, receiver } = setup({ capacityBytes: 100, sizeOf: (value) => value });
    sender.trySend(70);
    const [small, large] = [sender.send(40), sender.send(50)];
    await Promise.resolve();
    expect(lines).toEqual([]);
    receiver.tryRecv();
    await Promise.all([small, large]);
    expect(lines).toMatchObject([{ level: "warn", fields: { usage_percent: 90 } }]);
  });

  it("says nothing more once it was stopped", async () => {
    const { lines, monitor, sender } = setup();
    fill(sender, 9);
    monitor.stop();
    lines.length = 0;
    fill(sender, 9);
    await Promise.resolve();
    expect(lines).toEqual([]);
  });

  it("says that it is over when the channel ends while full", () => {
    const { advance, lines, sender, receiver } = setup({ capacity: 1 });
    fill(sender, 1);
    advance(200);
    receiver.close();
    sender.close();
    advance(200);
    expect(lines.map((line) => line.level)).toEqual(["warn", "info"]);
  });

  it("looks at bytes too", () => {
    const { advance, lines, sender } = setup({ capacityBytes: 100, sizeOf: (value) => value });
    sender.trySend(90);
    advance(200);
    expect(lines).toMatchObject([{ fields: { usage_percent: 90 } }]);
  });

  it("reports drops once a second while they last and once at the end, and the reports add up", () => {
    const { advance, lines, monitor, sender } = setup({ overflow: "drop_newest", recordsOf: () => 3, capacity: 1000 });
    fill(sender, 1000);
    advance(1000);
    lines.length = 0;
    for (let step = 0; step < 23; step += 1) {
      fill(sender, 1);
      advance(100);
    }
    expect(lines.map((line) => line.fields["dropped"])).toEqual([30, 30]);
    fill(sender, 2);
    monitor.stop();
    const total = lines.reduce((sum, line) => sum + (line.fields["dropped"] as number), 0);
    expect(total).toBe(25 * 3);
    expect(total).toBe(sender.counters().records.dropped.policy);
    expect(lines.at(-1)).toEqual({
      level: "warn",
      fields: { component: "out", channel: "input", dropped: 15 },
      message: "Dropped 15 records in last second",
    });
  });

  it("is silent while nothing is dropped", () => {
    const { advance, lines, monitor } = setup({ overflow: "drop_oldest" });
    advance(10_000);
    monitor.stop();
    expect(lines).toEqual([]);
  });

  it("calls time slots time slots", () => {
    const { advance, lines, sender } = setup({ overflow: "drop_oldest", capacity: 1, unit: "time slots" });
    fill(sender, 4);
    advance(1000);
    expect(lines.map((line) => line.message)).toContain("Dropped 3 time slots in last second");
  });

  it("reports what is left as soon as the channel is over", () => {
    const { advance, lines, sender, receiver } = setup({ overflow: "drop_newest", capacity: 1 });
    fill(sender, 5);
    sender.close();
    receiver.tryRecv();
    advance(200);
    expect(lines.map((line) => line.message)).toContain("Dropped 4 records in last second");
  });

  it("reports what a channel dropped that was replaced or taken off the list between two looks", () => {
    const { advance, create, lines, registry, sender, receiver } = setup({ overflow: "drop_newest", capacity: 1 });
    advance(200);
    fill(sender, 3);
    receiver.close();
    sender.close();
    const next = create();
    fill(next.sender, 5);
    registry.remove("out", "input");
    advance(200);
    expect(lines.map((line) => line.fields["dropped"])).toEqual([2, 4]);
  });

  it("leaves no timer behind when stopped", () => {
    const { monitor, timers } = setup();
    monitor.stop();
    expect(timers()).toBe(0);
  });

  it("refuses a threshold that is no share", () => {
    const { registry } = setup();
    const clock = { monotonic: () => 0, after: () => ({ cancel() {} }) };
    const log = { warn() {}, info() {} };
    for (const warningThreshold of [0, 1.1, Number.NaN]) {
      expect(() => new ChannelMonitor({ registry, clock, log, warningThreshold })).toThrow(ConfigError);
    }
  });
});
