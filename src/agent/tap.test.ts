import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "../channel/index.ts";
import type { Tappable } from "../pipeline/tap.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { ledgerOf } from "./ledger.ts";
import { type TapSession, Taps } from "./tap.ts";

const batch = (...texts: string[]) => linesBatch("app", "a", 0, texts);
const messagesOf = (events: readonly string[] | undefined) =>
  events?.map((event) => (JSON.parse(event) as { message: string }).message);

function bench(capacity = 2) {
  const channels = new ChannelRegistry();
  const clock = new ManualClock();
  const stages = new Map<string, Tappable>([["app", { tap: undefined }]]);
  const size = { bufferSize: capacity, bufferBytes: undefined, overflow: "drop_newest", sendTimeoutMs: 0 } as const;
  const taps = new Taps({ channels, clock, size, pipeline: { tappable: (name) => stages.get(name) } });
  const { signal } = new AbortController();
  /** What the tap shows next, once its pace allows. */
  const next = async (session: TapSession) => {
    const shown = session.next({ signal });
    await clock.advance(100);
    return messagesOf(await shown);
  };
  const open = (limit = Number.POSITIVE_INFINITY) => taps.open("app", limit) as TapSession;
  return { channels, stages, taps, next, open, stage: () => stages.get("app")! };
}

describe("Taps", () => {
  it("leave a component alone that nobody taps", () => {
    const { open, stage } = bench();
    const [one, other] = [open(), open()];
    expect(stage().tap).toBeDefined();
    one.close();
    expect(stage().tap).toBeDefined();
    other.close();
    expect(stage().tap).toBeUndefined();
  });

  it("show records as events in their order, to each session", async () => {
    const { open, next, stage } = bench();
    using one = open();
    using other = open();
    stage().tap!(batch("a", "b"));
    expect(await next(one)).toEqual(["a", "b"]);
    expect(await next(other)).toEqual(["a", "b"]);
    expect(one.skipped).toBe(0);
  });

  it("leave out what comes too fast, and count it in records", async () => {
    const { open, next, stage, channels } = bench(2);
    using session = open();
    stage().tap!(batch("a", "b", "c"));
    stage().tap!(batch("d", "e"));
    expect(session.skipped).toBe(3);
    expect(await next(session)).toEqual(["a", "b"]);
    stage().tap!(batch("f"));
    expect(await next(session)).toEqual(["f"]);
    const counters = channels
      .list()
      .find(({ component }) => component === "tap")!
      .counters().records;
    expect(counters).toMatchObject({ sent: 6, received: 3, inChannel: 0, dropped: { policy: 3, closed: 0 } });
  });

  it("keep only so many bytes", async () => {
    const { open, next, stage } = bench(1000);
    using session = open();
    const large = "x".repeat(300 * 1024);
    stage().tap!(batch(large, large, large, large, large));
    expect(session.skipped).toBe(2);
    expect((await next(session))?.length).toBe(3);
  });

  it("end after the limit, with all that was taken until then", async () => {
    const { open, next, stage } = bench(5);
    const session = open(3);
    stage().tap!(batch("a", "b"));
    stage().tap!(batch("c", "d"));
    expect(stage().tap).toBeUndefined();
    expect(await next(session)).toEqual(["a", "b", "c"]);
    expect(await next(session)).toBeUndefined();
    expect(session.skipped).toBe(0);
  });

  it("survive an event that is no JSON", async () => {
    const { open, stage } = bench();
    using session = open();
    const made = batch("a");
    stage().tap!(made.withRecords([made.records[0]!.with({ n: 1n })]));
    expect(await session.next({ signal: new AbortController().signal })).toEqual([
      expect.stringContaining("this event is no JSON"),
    ]);
  });

  it("go on at the successor of a component, and end with one that is gone", async () => {
    const { open, next, stages, taps } = bench();
    const session = open();
    stages.set("app", { tap: undefined });
    taps.attach();
    stages.get("app")!.tap!(batch("a"));
    expect(await next(session)).toEqual(["a"]);
    stages.delete("app");
    taps.attach();
    expect(await next(session)).toBeUndefined();
  });

  it("refuse a component that there is not, and too many sessions", () => {
    const { taps } = bench();
    expect(taps.open("nobody", 1)).toBe("unknown");
    const open = Array.from({ length: 9 }, () => taps.open("app", 1));
    expect(open.filter((session) => session === "busy")).toHaveLength(1);
  });

  it("stay out of the ledger: what they show is a copy", () => {
    const { open, stage, channels } = bench();
    using _session = open();
    stage().tap!(batch("a"));
    expect(ledgerOf(channels)).toEqual([]);
  });
});
