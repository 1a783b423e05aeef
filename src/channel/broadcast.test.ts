import { describe, expect, expectTypeOf, it } from "vitest";
import { ChannelClosedError, ConfigError } from "../errors.ts";
import { type BroadcastItem, broadcast } from "./broadcast.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

describe("broadcast", () => {
  it("gives every receiver all that was sent since it subscribed", async () => {
    const hub = broadcast<number>({ capacity: 2 });
    const early = hub.subscribe();
    expect(hub.send(1)).toBe(1);
    const late = hub.subscribe();
    expect(hub.send(2)).toBe(2);
    expect([await early.recv(), await early.recv()]).toEqual([{ value: 1 }, { value: 2 }]);
    expect(await late.recv()).toEqual({ value: 2 });
    expect(late.tryRecv()).toBeUndefined();
  });

  it("tells a lagging receiver how many it missed before it goes on", async () => {
    const hub = broadcast<number>({ capacity: 2 });
    const slow = hub.subscribe();
    for (const value of [1, 2, 3, 4, 5]) hub.send(value);
    expect(await slow.recv()).toEqual({ missed: 3 });
    hub.send(6);
    expect(await slow.recv()).toEqual({ missed: 1 });
    expect([await slow.recv(), await slow.recv()]).toEqual([{ value: 5 }, { value: 6 }]);
    expect(slow.missedTotal).toBe(4);
    expect(slow.counters()).toMatchObject({ sent: 6, received: 2, dropped: { policy: 4 } });
  });

  it("costs the quick receivers nothing when one lags", async () => {
    const hub = broadcast<number>({ capacity: 1 });
    const slow = hub.subscribe();
    const quick = hub.subscribe();
    const got: unknown[] = [];
    for (const value of [1, 2, 3]) {
      hub.send(value);
      got.push(await quick.recv());
    }
    expect(got).toEqual([{ value: 1 }, { value: 2 }, { value: 3 }]);
    expect(await slow.recv()).toEqual({ missed: 2 });
  });

  it("wakes a waiting receiver, and on abort loses nothing", async () => {
    const hub = broadcast<number>({ capacity: 1 });
    const receiver = hub.subscribe();
    const abort = new AbortController();
    const waiting = receiver.recv({ signal: abort.signal });
    abort.abort();
    expect(await waiting).toBeUndefined();
    const next = receiver.recv();
    hub.send(1);
    expect(await next).toEqual({ value: 1 });
  });

  it("ends for each receiver after what is inside, missed ones included", async () => {
    const hub = broadcast<number>({ capacity: 1 });
    const receiver = hub.subscribe();
    hub.send(1);
    hub.send(2);
    hub.close();
    expect(() => hub.send(3)).toThrow(ChannelClosedError);
    const items: BroadcastItem<number>[] = [];
    for await (const item of receiver) items.push(item);
    expect(items).toEqual([{ missed: 1 }, { value: 2 }]);
    expect(await hub.subscribe().recv()).toBeUndefined();
  });

  it("forgets a receiver that left a loop, and keeps its counts", async () => {
    const hub = broadcast<number>({ capacity: 4 });
    const receiver = hub.subscribe();
    hub.send(1);
    hub.send(2);
    for await (const item of receiver) {
      expect(item).toEqual({ value: 1 });
      break;
    }
    expect(hub.receivers).toBe(0);
    expect(hub.send(3)).toBe(0);
    expect(hub.counters()).toMatchObject({ sent: 2, received: 1, dropped: { closed: 1 }, messages: 0 });
  });

  it("counts over all receivers and shows the slowest one's usage", () => {
    const hub = broadcast<number>({ capacity: 4 });
    const one = hub.subscribe();
    hub.subscribe();
    hub.send(1);
    hub.send(2);
    one.tryRecv();
    const { sent, received, dropped, messages, usagePercent } = hub.counters();
    expect(sent).toBe(received + dropped.policy + dropped.closed + messages);
    expect({ sent, messages, usagePercent }).toEqual({ sent: 4, messages: 3, usagePercent: 50 });
  });

  it("refuses a capacity that is none", () => {
    expect(() => broadcast({ capacity: 0 })).toThrow(ConfigError);
  });

  it("tells values and gaps apart by type", () => {
    const read = (item: BroadcastItem<string>) => (item.missed === undefined ? item.value : item.missed);
    expectTypeOf(read).returns.toEqualTypeOf<string | number>();
    expect(read({ missed: 2 })).toBe(2);
  });
});
