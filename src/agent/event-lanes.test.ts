import { describe, expect, it } from "vitest";
import { ChannelMonitor, ChannelRegistry } from "../channel/index.ts";
import type { ChannelSize } from "../config/plan.ts";
import type { LifecycleEvent } from "../telemetry/events.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { EventPublisher } from "./event-publisher.ts";

function bench(queue: Partial<ChannelSize>) {
  const channels = new ChannelRegistry();
  const clock = new ManualClock();
  const fixed = { bufferBytes: undefined, overflow: "drop_newest", sendTimeoutMs: 0 } as const;
  const publisher = new EventPublisher({
    channels,
    clock,
    log: silentLogger,
    queue: { bufferSize: 3, ...fixed, ...queue },
    listener: { bufferSize: 100, ...fixed },
  });
  const monitor = new ChannelMonitor({ registry: channels, clock, log: silentLogger, warningThreshold: 0.8 });
  const listener = publisher.subscribe();
  const end = async () => {
    await publisher.close();
    const events: LifecycleEvent[] = [];
    for await (const event of listener) events.push(event);
    return events;
  };
  return { out: publisher.of("out"), channels, clock, monitor, end };
}

describe("the event publisher's channel", () => {
  it("with priority_lanes lets errors pass what waits, and drops other events for them", async () => {
    const { out, end } = bench({ priorityLanes: true });
    for (const reason of ["1", "2", "3"]) out.emit("sink_down", `down ${reason}`, { reason });
    out.emit("gap", "gone", { file: "/a", offset: 0 });
    const events = await end();
    // The first was handed over before the second came.
    expect(events.map(({ number, event, message }) => [number, event === "events_missed" ? event : message])).toEqual([
      [1, "down 1"],
      [2, "gone"],
      [3, "down 2"],
      [4, "down 3"],
    ]);
  });

  it("with priority_lanes keeps errors where without them they would be dropped", async () => {
    for (const priorityLanes of [true, false]) {
      const { out, end } = bench({ bufferSize: 2, priorityLanes });
      for (const reason of ["1", "2", "3"]) out.emit("sink_down", `down ${reason}`, { reason });
      out.emit("gap", "gone", { file: "/a", offset: 0 });
      const events = await end();
      expect(events.some(({ event }) => event === "gap")).toBe(priorityLanes);
      expect(events.find(({ event }) => event === "events_missed")?.facts).toEqual({ missed: 1 });
    }
  });

  it("with coalesce tells once, with a count, what was told in the same words again and again", async () => {
    const { out, channels, end } = bench({ coalesce: true });
    for (const reason of ["x", "1", "1", "2", "1", "2"]) out.emit("sink_down", "down", { reason });
    const { coalesced, dropped } = channels.list()[0]!.counters();
    expect({ coalesced, dropped }).toEqual({ coalesced: 3, dropped: { policy: 0, closed: 0 } });
    const events = await end();
    expect(events.map(({ number, facts, count }) => [number, facts, count])).toEqual([
      [1, { reason: "x" }, undefined],
      [2, { reason: "1" }, 3],
      [3, { reason: "2" }, 2],
    ]);
  });

  it("with both bounds of its size grows when it drops", async () => {
    const { out, channels, clock, monitor, end } = bench({ bufferSizeMin: 2, bufferSizeMax: 100 });
    monitor.start();
    for (let n = 0; n < 10; n += 1) out.emit("sink_down", "down", { reason: `${n}` });
    await clock.advance(1000);
    expect(channels.list()[0]!.capacity).toBe(6);
    monitor.stop();
    await end();
  });
});
