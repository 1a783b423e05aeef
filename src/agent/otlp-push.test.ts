import { describe, expect, it } from "vitest";
import { systemClock } from "../runtime/clock.ts";
import { silentLogger } from "../telemetry/log.ts";
import { METRICS, type MetricsSnapshot } from "../telemetry/metrics.ts";
import { HttpReceiver } from "../testing/http-receiver.ts";
import { OtlpPush } from "./otlp-push.ts";

describe("OtlpPush", () => {
  it("has one push under way, however many intervals pass while the receiver says nothing", async () => {
    const receiver = new HttpReceiver();
    receiver.answer = () => "hang";
    await receiver.start();
    let collected = 0;
    const push = await OtlpPush.load({
      plan: { url: receiver.url, intervalMs: 10, timeoutMs: 2000, headers: {} },
      clock: systemClock,
      log: silentLogger,
      metrics: () => {
        collected += 1;
        return {
          snapshot: Object.fromEntries(Object.keys(METRICS).map((name) => [name, []])) as unknown as MetricsSnapshot,
          moment: { startedAtMs: 0, nowMs: 1, version: "0", host: "test" },
        };
      },
    });
    push.start();
    await expect.poll(() => receiver.requests.length).toBe(1);
    const until = systemClock.monotonic() + 200;
    while (systemClock.monotonic() < until) {
      expect(receiver.connections).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect([collected, receiver.requests.length]).toEqual([1, 1]);
    const closing = push.close();
    await receiver.kill();
    await closing;
  });
});
