import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "../channel/index.ts";
import type { EventSubscription, LifecycleEvent } from "../telemetry/events.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { EventPublisher } from "./event-publisher.ts";

function bench(overflow: "drop_newest" | "drop_oldest" | "block" = "drop_newest", queue = 100, listener = 2) {
  const lines: { level: string; fields: object; message: string }[] = [];
  const at = (level: string) => (fields: object, message: string) => void lines.push({ level, fields, message });
  const log: Logger = { ...silentLogger, error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
  const channels = new ChannelRegistry();
  const size = (bufferSize: number) => ({ bufferSize, bufferBytes: undefined, overflow, sendTimeoutMs: 0 });
  const publisher = new EventPublisher({
    channels,
    clock: new ManualClock(),
    log,
    queue: size(queue),
    listener: size(listener),
  });
  const emit = (count: number, from = 1) => {
    for (let n = from; n < from + count; n += 1) publisher.of("out").emit("sink_down", `down ${n}`, { reason: `${n}` });
  };
  const counters = (channel: string) =>
    channels
      .list()
      .find((row) => row.channel === channel)!
      .counters();
  return { publisher, lines, emit, counters };
}

/** Everything up to the end: a message, or how many events are missing in its place. */
async function all(events: EventSubscription): Promise<(string | number)[]> {
  const seen: (string | number)[] = [];
  for await (const event of events) seen.push(shown(event));
  return seen;
}

const shown = (event: LifecycleEvent) => (event.event === "events_missed" ? event.facts.missed : event.message);

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("EventPublisher", () => {
  it("gives every listener each event, numbered, and ends with the publisher", async () => {
    const { publisher, emit } = bench();
    const [one, other] = [publisher.subscribe(), publisher.subscribe()];
    emit(2);
    await publisher.close();
    expect(await one.recv()).toEqual({
      number: 1,
      time: "2026-01-01T00:00:00.000Z",
      event: "sink_down",
      level: "warn",
      component: "out",
      message: "down 1",
      facts: { reason: "1" },
    });
    expect(await one.recv()).toMatchObject({ number: 2 });
    expect(await one.recv()).toBeUndefined();
    expect(await all(other)).toEqual(["down 1", "down 2"]);
  });

  it("logs at once, also what is dropped, and after its end", async () => {
    const { publisher, lines, emit, counters } = bench("drop_newest", 1);
    emit(3);
    expect(lines.map(({ message }) => message)).toEqual(["down 1", "down 2", "down 3"]);
    expect(lines[0]).toEqual({
      level: "warn",
      fields: { component: "out", event: "sink_down", reason: "1" },
      message: "down 1",
    });
    // The first went straight to who serves the listeners.
    expect(counters("event_publisher")).toMatchObject({ sent: 3, dropped: { policy: 1 } });
    await publisher.close();
    emit(1);
    expect(lines).toHaveLength(4);
    expect(counters("event_publisher").sent).toBe(3);
  });

  it.each(["drop_newest", "block"] as const)(
    "never waits, and under %s tells a slow listener behind what it got",
    async (overflow) => {
      const { publisher, emit, counters } = bench(overflow);
      const events = publisher.subscribe();
      emit(5);
      await turn();
      expect(counters("event_stream").dropped.policy).toBe(3);
      expect(shown((await events.recv())!)).toBe("down 1");
      expect(shown((await events.recv())!)).toBe("down 2");
      emit(1, 6);
      expect(shown((await events.recv())!)).toBe(3);
      expect(shown((await events.recv())!)).toBe("down 6");
      await publisher.close();
      expect(await all(events)).toEqual([]);
    },
  );

  it("under drop_oldest tells a slow listener in front of what it gets", async () => {
    const { publisher, emit } = bench("drop_oldest");
    const events = publisher.subscribe();
    emit(5);
    await publisher.close();
    expect(await all(events)).toEqual([3, "down 4", "down 5"]);
  });

  it("tells at the end what was dropped behind the last event", async () => {
    const { publisher, emit } = bench("drop_newest", 100, 1);
    const events = publisher.subscribe();
    emit(3);
    await publisher.close();
    expect(await all(events)).toEqual(["down 1", 2]);
  });

  it("tells a drop in its own queue as one on the way", async () => {
    const { publisher, emit } = bench("drop_newest", 1, 10);
    const events = publisher.subscribe();
    emit(3);
    await turn();
    emit(1, 4);
    await publisher.close();
    expect(await all(events)).toEqual(["down 1", "down 2", 1, "down 4"]);
  });

  it("loses nothing where a receive is given up", async () => {
    const { publisher, emit } = bench();
    const events = publisher.subscribe();
    const gone = new AbortController();
    const waiting = events.recv({ signal: gone.signal });
    gone.abort();
    expect(await waiting).toBeUndefined();
    emit(1);
    await turn();
    expect(shown((await events.recv())!)).toBe("down 1");
    events.close();
    await publisher.close();
  });

  it("counts only from the subscription on", async () => {
    const { publisher, emit } = bench();
    emit(5);
    await turn();
    const events = publisher.subscribe();
    emit(1, 6);
    await publisher.close();
    expect(await all(events)).toEqual(["down 6"]);
  });

  it("masks secrets for listeners as the log does", async () => {
    const { publisher } = bench();
    const events = publisher.subscribe();
    publisher.of("out").emit("sink_down", "http://me:pw@h/ is down", { reason: "http://me:pw@h/ refused" });
    await publisher.close();
    expect(JSON.stringify(await events.recv())).not.toContain("pw");
  });

  it("makes events of what the channel monitor says, but not of a tap's channel", async () => {
    const { publisher, lines } = bench("drop_newest", 10, 10);
    const events = publisher.subscribe();
    const log = publisher.monitorLog();
    const names = { component: "out", channel: "input" };
    log.warn({ ...names, usage_percent: 90 }, "full");
    log.warn({ ...names, dropped: 7 }, "Dropped 7 records in last second");
    log.info({ ...names, usage_percent: 10, lasted_ms: 5 }, "room again");
    log.info({ ...names, capacity: 9 }, "grown");
    log.warn({ component: "tap", channel: "out", dropped: 7 }, "Dropped 7 records in last second");
    await publisher.close();
    const seen: LifecycleEvent[] = [];
    for await (const event of events) seen.push(event);
    expect(seen.map(({ event, component, facts }) => ({ event, component, facts }))).toEqual([
      { event: "warning_raised", component: "out", facts: { ...names, usage_percent: 90 } },
      { event: "drop_burst", component: "out", facts: { ...names, dropped: 7 } },
      { event: "warning_cleared", component: "out", facts: { ...names, usage_percent: 10, lasted_ms: 5 } },
    ]);
    expect(lines.map(({ message }) => message)).toEqual([
      "full",
      "Dropped 7 records in last second",
      "room again",
      "grown",
    ]);
  });
});
