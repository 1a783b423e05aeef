import { Hono } from "hono";
import { afterEach, describe, expect, it, vi } from "vitest";
import { type Broadcast, broadcast } from "../channel/index.ts";
import type { EventSubscription, LifecycleEvent } from "../telemetry/events.ts";
import { eventRoute } from "./event-route.ts";

afterEach(() => {
  vi.useRealTimers();
});

function bench() {
  const hub: Broadcast<LifecycleEvent> = broadcast({ capacity: 4 });
  const subscribe = (): EventSubscription => {
    const receiver = hub.subscribe();
    return {
      async recv(options) {
        for (;;) {
          const item = await receiver.recv(options);
          if (item?.missed === undefined) return item?.value;
        }
      },
      close: () => receiver.close(),
      [Symbol.dispose]: () => receiver.close(),
      [Symbol.asyncIterator]: () => {
        throw new Error("not used");
      },
    };
  };
  const app = new Hono();
  app.get("/events", eventRoute(subscribe));
  return { hub, ask: () => app.request("/events") };
}

const event = (number: number, message = "m") =>
  ({
    number,
    time: "t",
    event: "commit",
    level: "debug",
    component: "c",
    message,
    facts: {},
  }) as unknown as LifecycleEvent;

describe("eventRoute", () => {
  it("takes 16 listeners, refuses the next, and takes another once one has left", async () => {
    const { ask } = bench();
    const answers = await Promise.all(Array.from({ length: 16 }, ask));
    expect(answers.map(({ status }) => status)).toEqual(new Array(16).fill(200));
    const refused = await ask();
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "5"]);
    await answers[0]!.body!.cancel();
    await expect.poll(async () => (await ask()).status).toBe(200);
    for (const answer of answers.slice(1)) await answer.body!.cancel();
  });

  it("hangs up on a listener that takes nothing for 30 seconds; until then its ring drops what it has no room for", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const { hub, ask } = bench();
    const answer = await ask();
    expect(hub.receivers).toBe(1);
    const turns = async () => {
      for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    };
    await turns();
    for (let number = 1; number <= 1000; number += 1) {
      hub.send(event(number, "x".repeat(10_000)));
      if (number % 50 === 0) await turns();
    }
    // Nobody has read a byte: a few are in the stream's hands, the ring is full, the rest is dropped.
    expect(hub.counters()).toMatchObject({ messages: 4 });
    expect(hub.counters().received).toBeLessThan(10);
    await vi.advanceTimersByTimeAsync(30_000);
    await turns();
    expect(hub.receivers).toBe(0);
    await answer.body!.cancel().catch(() => {});
  });
});
