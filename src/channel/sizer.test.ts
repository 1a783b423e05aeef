import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import type { ChannelClock } from "./clock.ts";
import { ChannelMonitor } from "./monitor.ts";
import { type ChannelDefinition, ChannelRegistry } from "./registry.ts";
import { EVENT_BYTES, FIRST_PATIENCE_MS } from "./sizer.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

/** A clock of one timer at a time (the monitor's): hours pass in milliseconds. */
class ManualClock implements ChannelClock {
  #nowMs = 0;
  #due: { readonly atMs: number; readonly run: () => void } | undefined;

  monotonic(): number {
    return this.#nowMs;
  }

  after(ms: number, run: () => void): { cancel(): void } {
    this.#due = { atMs: this.#nowMs + ms, run };
    return { cancel: () => undefined };
  }

  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let due = this.#due; due !== undefined && due.atMs <= untilMs; due = this.#due) {
      this.#nowMs = due.atMs;
      due.run();
    }
    this.#nowMs = untilMs;
  }
}

interface Resize {
  readonly channel: string;
  readonly capacity: number;
  readonly before: number;
  readonly reason: string;
}

function setup(totalBytes?: number) {
  const clock = new ManualClock();
  const registry = new ChannelRegistry();
  const resizes: Resize[] = [];
  const told: string[] = [];
  const log = {
    warn: () => {},
    info(fields: { readonly [field: string]: unknown }, message: string) {
      if (fields["capacity"] === undefined) return;
      told.push(message);
      if (fields["capacity_before"] === undefined) return;
      resizes.push({
        channel: fields["channel"] as string,
        capacity: fields["capacity"] as number,
        before: fields["capacity_before"] as number,
        reason: fields["reason"] as string,
      });
    },
  };
  const monitor = new ChannelMonitor({
    registry,
    clock,
    log,
    warningThreshold: 1,
    sampleMs: 1000,
    ...(totalBytes === undefined ? {} : { totalBytes }),
  });
  monitor.start();
  const create = (channel: string, extra: Partial<ChannelDefinition<number>> = {}) => {
    const ends = registry.create<number>({
      component: "c",
      channel,
      why: "test",
      clock,
      capacity: 10,
      capacityMin: 5,
      capacityMax: 100,
      ...extra,
    });
    return { ...ends, capacity: () => ends.receiver.counters().capacity };
  };
  return { clock, registry, resizes, told, monitor, create };
}

type Ends = ReturnType<ReturnType<typeof setup>["create"]>;

/** A second in which `count` messages come at once, and all are taken. */
function burst({ sender, receiver }: Ends, count: number, clock: ManualClock): void {
  for (let sent = 0; sent < count; sent += 1) sender.trySend(sent);
  while (receiver.tryRecv() !== undefined);
  clock.advance(1000);
}

describe("dynamic sizing", () => {
  it("grows a channel that drops, twice the size at a time, until bursts fit, and says why", () => {
    const { clock, create, resizes, told } = setup();
    const ends = create("events", { overflow: "drop_newest" });
    for (let second = 0; second < 10; second += 1) burst(ends, 35, clock);
    expect(resizes.map(({ before, capacity }) => [before, capacity])).toEqual([
      [10, 20],
      [20, 40],
    ]);
    expect(told[0]).toBe("Channel grown from 10 to 20 messages: 25 messages were dropped in 1 s");
  });

  it("grows a channel whose senders wait, and lets them in", async () => {
    const { clock, create, told } = setup();
    const { sender, receiver, capacity } = create("input");
    for (let sent = 0; sent < 10; sent += 1) sender.trySend(sent);
    const waiting = Promise.all(Array.from({ length: 5 }, (_, sent) => sender.send(sent)));
    clock.advance(1000);
    await waiting;
    expect(capacity()).toBe(20);
    expect(receiver.counters()).toMatchObject({ messages: 15, capacity: 20 });
    expect(told[0]).toMatch(/grown from 10 to 20 messages: senders waited 1000 ms in 1 s while it was 100% full/);
  });

  it("grows a channel that refuses", () => {
    const { clock, create, capacity } = { ...setup(), capacity: 0 };
    const ends = create("ffi", { overflow: "error" });
    burst(ends, 35, clock);
    expect(capacity).toBe(0);
    expect(ends.capacity()).toBe(20);
  });

  it("does not grow a channel that was merely full without anybody waiting", () => {
    const { clock, create, resizes } = setup();
    const ends = create("input");
    for (let second = 0; second < 5; second += 1) burst(ends, 10, clock);
    expect(resizes).toEqual([]);
  });

  it("stays between its bounds", () => {
    const { clock, create } = setup();
    const ends = create("events", { overflow: "drop_newest", capacityMin: 8, capacityMax: 25 });
    for (let second = 0; second < 10; second += 1) burst(ends, 1000, clock);
    expect(ends.capacity()).toBe(25);
    clock.advance(10 * FIRST_PATIENCE_MS);
    expect(ends.capacity()).toBe(8);
  });

  it("shrinks only after a quiet minute, by half, and says why", () => {
    const { clock, create, told, resizes } = setup();
    const ends = create("events", { overflow: "drop_newest", capacity: 100 });
    for (let second = 0; second < 59; second += 1) burst(ends, 25, clock);
    expect(resizes).toEqual([]);
    burst(ends, 3, clock);
    expect(told).toEqual(["Channel shrunk from 100 to 50 messages: in 60 s there were never more than 25 inside"]);
    for (let second = 0; second < 300; second += 1) burst(ends, 25, clock);
    expect(ends.capacity()).toBe(50);
  });

  it("drops nothing when it shrinks a channel with messages inside", () => {
    const { clock, create } = setup();
    const { sender, receiver, capacity } = create("events", { overflow: "drop_oldest", capacity: 20 });
    for (let sent = 0; sent < 5; sent += 1) sender.trySend(sent);
    clock.advance(10 * FIRST_PATIENCE_MS);
    expect(capacity()).toBe(10);
    expect(receiver.counters()).toMatchObject({ messages: 5, dropped: { policy: 0 } });
  });

  it("waits twice as long before it shrinks again what it had to grow again", () => {
    const { clock, create, resizes } = setup();
    const ends = create("events", { overflow: "drop_newest", capacity: 10, capacityMin: 10, capacityMax: 20 });
    const changes: number[] = [];
    for (let second = 0; second < 3600; second += 1) {
      const before = resizes.length;
      // A burst every 100 seconds: longer than the first patience.
      burst(ends, second % 100 === 0 ? 20 : 0, clock);
      if (resizes.length > before) changes.push(second);
    }
    expect(changes).toEqual([0, 60, 100]);
    expect(ends.capacity()).toBe(20);
  });

  it("holds all resizable channels under one budget, and says so once", () => {
    const { clock, create, told } = setup(60 * EVENT_BYTES);
    const one = create("one", { overflow: "drop_newest" });
    const two = create("two", { overflow: "drop_newest" });
    for (let second = 0; second < 10; second += 1) {
      burst(one, 100, clock);
      burst(two, 100, clock);
    }
    expect(one.capacity() + two.capacity()).toBeLessThanOrEqual(60);
    expect(one.capacity() + two.capacity()).toBeGreaterThanOrEqual(50);
    const held = told.filter((message) => message.includes("stays at"));
    expect(held.length).toBe(2);
    expect(held[0]).toMatch(/30720 bytes together \(total_bytes\)/);
  });

  it("gives budget back, down to the lower bound, when messages turn out to be larger", () => {
    const { clock, create, told } = setup(100_000);
    const ends = create("input", {
      capacity: 100,
      sizeOf: (value) => value,
      recordsOf: () => 1,
      capacityBytes: 1_000_000,
    });
    for (let sent = 0; sent < 20; sent += 1) ends.sender.trySend(4000);
    while (ends.receiver.tryRecv() !== undefined);
    clock.advance(1000);
    expect(ends.capacity()).toBe(24);
    expect(told[0]).toMatch(/shrunk from 100 to 24 messages: messages of 4096 bytes would exceed the 100000 bytes/);
    for (let sent = 0; sent < 20; sent += 1) ends.sender.trySend(40_000);
    while (ends.receiver.tryRecv() !== undefined);
    clock.advance(1000);
    expect(ends.capacity()).toBe(5);
  });

  it("forgets a channel that is over", () => {
    const { clock, create, told } = setup(40 * EVENT_BYTES);
    const gone = create("gone", { capacity: 30, capacityMin: 30 });
    const ends = create("events", { overflow: "drop_newest" });
    gone.sender.close();
    gone.receiver.close();
    burst(ends, 100, clock);
    expect(ends.capacity()).toBe(20);
    expect(told).toHaveLength(1);
  });

  it("leaves channels without both bounds alone, and refuses bounds that are none", () => {
    const { clock, create, registry } = setup();
    const ends = registry.create<number>({
      component: "c",
      channel: "fixed",
      why: "test",
      capacity: 2,
      capacityMin: 1,
      overflow: "drop_newest",
    });
    burst({ ...ends, capacity: () => 0 }, 50, clock);
    expect(ends.receiver.counters().capacity).toBe(2);
    for (const capacityMin of [0, 1.5, 11]) expect(() => create("x", { capacityMin })).toThrow(ConfigError);
    expect(() => create("x", { capacityMax: 9 })).toThrow(/10 does not lie between 5 and 9/);
  });
});

/** Phases of a load: so many seconds long, with so large a burst each second, drained at such a rate. */
const load = fc.array(
  fc.record({
    seconds: fc.integer({ min: 1, max: 200 }),
    burst: fc.constantFrom(0, 1, 3, 8, 20, 60, 200),
    drained: fc.constantFrom(0, 1, 10, 1000),
    bytes: fc.constantFrom(10, 1000, 5000),
  }),
  { minLength: 1, maxLength: 12 },
);

describe("dynamic sizing under any load", () => {
  it("stays in bounds and under the budget, conserves, and turns round at most log2 of the time", () => {
    const totalBytes = 100_000;
    fc.assert(
      fc.property(load, load, fc.constantFrom("drop_newest", "drop_oldest", "block", "error"), (...given) => {
        const [one, two, overflow] = given;
        const { clock, create, resizes } = setup(totalBytes);
        let bytes = 10;
        const channels = [one, two].map((phases, number) => ({
          phases,
          ends: create(String(number), {
            overflow,
            capacityMin: 4,
            capacityMax: 300,
            ...(number === 0 ? {} : { sizeOf: () => bytes, recordsOf: () => 1, capacityBytes: 90_000 }),
          }),
        }));
        const seconds = Math.max(
          ...channels.map(({ phases }) => phases.reduce((sum, phase) => sum + phase.seconds, 0)),
        );
        for (let second = 0; second < seconds; second += 1) {
          for (const { phases, ends } of channels) {
            const phase = phaseAt(phases, second);
            if (phase === undefined) continue;
            bytes = phase.bytes;
            for (let sent = 0; sent < phase.burst; sent += 1) ends.sender.trySend(sent);
            for (let taken = 0; taken < phase.drained && ends.receiver.tryRecv() !== undefined; taken += 1);
          }
          clock.advance(1000);
          for (const { ends } of channels) {
            const counters = ends.receiver.counters();
            expect(counters.capacity).toBeGreaterThanOrEqual(4);
            expect(counters.capacity).toBeLessThanOrEqual(300);
            expect(counters.messages).toBeLessThanOrEqual(counters.capacity);
            expect(counters.sent).toBe(counters.received + counters.dropped.policy + counters.messages);
          }
        }
        // Growing never breaks the budget.
        for (const { channel, capacity, before } of resizes)
          if (capacity > before) expect(capacity * (channel === "0" ? EVENT_BYTES : 1)).toBeLessThanOrEqual(totalBytes);
        for (const name of ["0", "1"]) {
          const directions = resizes
            .filter(({ channel, reason }) => channel === name && !reason.includes("total_bytes"))
            .map(({ capacity, before }) => capacity > before);
          const regrown = directions.filter((isUp, at) => isUp && directions[at - 1] === false).length;
          // The k-th time that it shrinks after having grown again takes a quiet time of 2^k minutes.
          const limit = Math.log2((seconds * 1000) / FIRST_PATIENCE_MS + 1);
          expect(regrown).toBeLessThanOrEqual(limit);
        }
      }),
      { numRuns: 40 },
    );
  });

  it("comes to rest under any load that stays the same", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: 1, max: 40 }),
        (count, drained, every) => {
          const { clock, create, resizes } = setup();
          const { sender, receiver } = create("events", { overflow: "drop_oldest", capacity: 50, capacityMax: 500 });
          for (let second = 0; second < 600; second += 1) {
            if (second % every === 0) for (let sent = 0; sent < count; sent += 1) sender.trySend(sent);
            for (let taken = 0; taken < drained && receiver.tryRecv() !== undefined; taken += 1);
            clock.advance(1000);
          }
          const settled = resizes.length;
          for (let second = 600; second < 1200; second += 1) {
            if (second % every === 0) for (let sent = 0; sent < count; sent += 1) sender.trySend(sent);
            for (let taken = 0; taken < drained && receiver.tryRecv() !== undefined; taken += 1);
            clock.advance(1000);
          }
          // Where the receiver does not keep up, the fill itself creeps up for longer.
          if (drained * every >= count) expect(resizes.length).toBe(settled);
          const directions = resizes.map(({ capacity, before }) => capacity > before);
          const turns = directions.filter((isUp, at) => at > 0 && isUp !== directions[at - 1]).length;
          expect(turns).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 40 },
    );
  });
});

function phaseAt<P extends { readonly seconds: number }>(phases: readonly P[], second: number): P | undefined {
  let left = second;
  for (const phase of phases) {
    if (left < phase.seconds) return phase;
    left -= phase.seconds;
  }
  return undefined;
}
