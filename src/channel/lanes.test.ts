import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { channel } from "./channel.ts";
import type { OverflowPolicy } from "./options.ts";
import { setUnclosedHook } from "./unclosed.ts";

// These tests leave ends open on purpose.
setUnclosedHook(() => {});

/** Values that begin with "!" are critical. */
function laned(capacity: number, overflow: OverflowPolicy = "block", burst?: number) {
  const dropped: string[] = [];
  const ends = channel<string>({
    capacity,
    overflow,
    priorityLanes: { isCritical: (value) => value.startsWith("!"), ...(burst === undefined ? {} : { burst }) },
    onDrop: (value) => dropped.push(value),
  });
  return { ...ends, dropped };
}

describe("priority lanes", () => {
  it("let critical messages out first, each lane in its own order", async () => {
    const { sender, receiver } = laned(8);
    for (const value of ["a", "b", "!1", "c", "!2"]) sender.trySend(value);
    expect(await receiver.recvMany(9)).toEqual(["!1", "!2", "a", "b", "c"]);
  });

  it("let one normal message out after a burst of critical ones, so that nobody starves", async () => {
    const { sender, receiver } = laned(9, "block", 2);
    for (const value of ["a", "b", "!1", "!2", "!3", "!4", "!5"]) sender.trySend(value);
    expect(await receiver.recvMany(9)).toEqual(["!1", "!2", "a", "!3", "!4", "b", "!5"]);
  });

  it("give a normal message its turn however many critical ones keep coming", () => {
    const { sender, receiver } = laned(4);
    sender.trySend("patient");
    let turns = 0;
    for (let value: string | undefined; value !== "patient"; value = receiver.tryRecv()) {
      sender.trySend(`!${turns}`);
      turns += 1;
      expect(turns).toBeLessThanOrEqual(10);
    }
  });

  it.each([
    ["drop_newest", "b"],
    ["drop_oldest", "a"],
  ] as const)("under %s let a critical message displace a normal one", (overflow, victim) => {
    const { sender, receiver, dropped } = laned(2, overflow);
    for (const value of ["a", "b", "!1"]) expect(sender.trySend(value)).toBe("sent");
    expect(dropped).toEqual([victim]);
    expect(receiver.tryRecv()).toBe("!1");
    expect(receiver.counters()).toMatchObject({ sent: 3, received: 1, dropped: { policy: 1 }, messages: 1 });
  });

  it.each([
    ["drop_newest", ["c", "!3"], ["!1", "!2"]],
    ["drop_oldest", ["c", "!1"], ["!2", "!3"]],
  ] as const)("under %s drop a critical message only where all are critical", async (overflow, victims, left) => {
    const { sender, receiver, dropped } = laned(2, overflow);
    for (const value of ["!1", "!2", "c", "!3"]) expect(sender.trySend(value)).toBe("sent");
    expect(dropped).toEqual(victims);
    expect(await receiver.recvMany(9)).toEqual(left);
  });

  it("let waiting senders in by the same turns", async () => {
    const { sender, receiver } = laned(1, "block", 1);
    sender.trySend("first");
    const sends = ["a", "b", "!1", "!2"].map((value) => sender.send(value));
    const got: (string | undefined)[] = [];
    for (let turns = 0; turns < 5; turns += 1) got.push(receiver.tryRecv());
    await Promise.all(sends);
    expect(got).toEqual(["first", "!1", "a", "!2", "b"]);
  });

  it("take nothing out of a full channel that blocks", () => {
    const { sender, dropped } = laned(1);
    sender.trySend("a");
    expect(sender.trySend("!1")).toBe("full");
    expect(dropped).toEqual([]);
  });

  it("are refused where records travel, and with a burst that is none", () => {
    const priorityLanes = { isCritical: () => true };
    expect(() => channel({ capacity: 1, priorityLanes, recordsOf: () => 1 })).toThrow(
      /priorityLanes: .*keep their order/,
    );
    expect(() => channel({ capacity: 1, priorityLanes: { ...priorityLanes, burst: 0 } })).toThrow(ConfigError);
  });

  it.each(["block", "drop_newest", "drop_oldest", "error"] as const)(
    "under %s conserve, keep each lane's order, starve nobody and drop no critical message for a normal one",
    (overflow) => {
      fc.assert(
        fc.property(
          fc.integer({ min: 1, max: 4 }),
          fc.integer({ min: 1, max: 3 }),
          fc.array(fc.constantFrom("normal", "critical", "receive"), { maxLength: 60 }),
          (capacity, burst, steps) => {
            const dropped: { critical: boolean; at: number }[] = [];
            const { sender, receiver } = channel<{ critical: boolean; at: number }>({
              capacity,
              overflow,
              priorityLanes: { isCritical: (value) => value.critical, burst },
              onDrop: (value) => dropped.push(value),
            });
            const inside = { critical: 0, normal: 0 };
            const last = { critical: -1, normal: -1 };
            let inRow = 0;
            for (const [at, step] of steps.entries()) {
              if (step !== "receive") {
                const before = dropped.length;
                const critical = step === "critical";
                const outcome = sender.trySend({ critical, at });
                if (outcome === "sent") inside[step] += 1;
                for (const victim of dropped.slice(before)) {
                  if (victim.critical) expect(critical && inside.normal === 0).toBe(true);
                  inside[victim.critical ? "critical" : "normal"] -= 1;
                }
                expect(dropped.length - before).toBeLessThanOrEqual(1);
              } else {
                const normalsWaited = inside.normal > 0;
                const value = receiver.tryRecv();
                if (value === undefined) continue;
                const lane = value.critical ? "critical" : "normal";
                expect(value.at).toBeGreaterThan(last[lane]);
                last[lane] = value.at;
                inside[lane] -= 1;
                inRow = value.critical && normalsWaited ? inRow + 1 : 0;
                expect(inRow).toBeLessThanOrEqual(burst);
              }
              const counters = receiver.counters();
              expect(counters.messages).toBe(inside.critical + inside.normal);
              expect(counters.messages).toBeLessThanOrEqual(capacity);
              expect(counters.sent).toBe(counters.received + counters.dropped.policy + counters.messages);
            }
          },
        ),
        { numRuns: 300 },
      );
    },
  );
});
