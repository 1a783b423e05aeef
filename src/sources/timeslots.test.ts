import { describe, expect, it } from "vitest";
import { ChannelMonitor, ChannelRegistry } from "../channel/index.ts";
import type { Batch } from "../record/batch.ts";
import { MemoryBudget } from "../runtime/memory-budget.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { SourceContext, SourcePositions } from "../stage/contract.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { ProcessNames } from "../timeslots/process-names.ts";
import type { CollectedSlot } from "../timeslots/slot-collector.ts";
import { SlotTable } from "../timeslots/slot-table.ts";
import { type Collecting, TimeSlotsSource, timeslotsSource } from "./timeslots.ts";

/** A collector that hands on one slot of `rows` processes at each look. */
class FakeCollector implements Collecting {
  readonly abilities = { counters: new Set<never>(), network: true, block: true };
  readonly names = new ProcessNames();
  fill = 0;
  rows = 1;
  looks = 0;
  skipped = 0;
  lost = 0;
  failure: Error | undefined;
  readonly ends: string[] = [];

  collect(emit: (slot: CollectedSlot) => void): number {
    if (this.failure !== undefined) throw this.failure;
    const table = new SlotTable();
    for (let process = 1; process <= this.rows; process += 1) table.add(process, 0, process);
    const startRealtimeNs = BigInt(this.looks) * 1_000_000n;
    this.looks += 1;
    emit({ startRealtimeNs, table, lostEvents: 0, isComplete: true, hasCounters: true });
    return this.skipped;
  }

  counts() {
    return { begun: this.looks + this.lost, taken: this.looks, lost: this.lost };
  }

  detach(): void {
    this.ends.push("detach");
  }

  close(): void {
    this.ends.push("close");
  }
}

function bench(options: { capacity?: number; budgetBytes?: number } = {}) {
  const clock = new ManualClock();
  const registry = new ChannelRegistry();
  const lines: { fields: object; message: string }[] = [];
  const log = { ...silentLogger, warn: (fields: object, message: string) => void lines.push({ fields, message }) };
  const budget = new MemoryBudget(options.budgetBytes ?? 1024 * 1024, 64 * 1024);
  const monitor = new ChannelMonitor({ registry, clock, log: { ...log, info() {} }, warningThreshold: 1 });
  monitor.start();
  const context: SourceContext = {
    name: "slots",
    log,
    events: { emit() {} },
    clock,
    random: systemRandom,
    fileSystem: nodeFileSystem,
    host: "test",
    stateDir: "/nonexistent",
    channels: memoryStageChannels(),
    channel: () =>
      registry.create<Batch>({
        component: "slots",
        channel: "tailer_payload",
        why: "test",
        clock,
        capacity: options.capacity ?? 100,
        ...timeslotsSource.output!,
        sizeOf: (batch) => batch.byteLength,
        recordsOf: (batch) => batch.count,
        onDrop: (batch) => batch.memory.release(),
      }),
    budget,
    positions: {} as SourcePositions,
    deadLetter: () => Promise.resolve(false),
  };
  const collector = new FakeCollector();
  const source = new TimeSlotsSource(collector, 1, context);
  const stop = new AbortController();
  return { source, collector, clock, registry, budget, lines, monitor, stop };
}

const dropped = (registry: ChannelRegistry) => registry.list()[0]!.counters().records.dropped.policy;

describe("timeslots", () => {
  it("sends what each look gives, until it is stopped; then detaches, tells the rest, and gives everything back", async () => {
    const { source, collector, clock, stop, budget } = bench();
    const running = source.run({ signal: stop.signal, once: false });
    await clock.advance(450);
    expect(collector.looks).toBe(3);
    stop.abort();
    await running;
    expect(collector.looks).toBe(4);
    expect(collector.ends).toEqual(["detach", "close"]);
    const events: object[] = [];
    for await (const batch of source.output) {
      expect(batch.origin.kind).toBe("fleeting");
      for (const record of batch.records) events.push(record.event);
      batch.memory.release();
    }
    expect(events.map((event) => (event as { slot_start: string }).slot_start.slice(-11))).toEqual([
      ".000000000Z",
      ".001000000Z",
      ".002000000Z",
      ".003000000Z",
    ]);
    expect(events[0]).toMatchObject({
      source: "slots",
      host: "test",
      slot_ns: 1_000_000,
      pid: 1,
      cpu_ns: 1,
      cycles: null,
    });
    expect(budget.usedBytes).toBe(0);
    await source[Symbol.asyncDispose]();
    expect(collector.ends).toEqual(["detach", "close"]);
  });

  it("cuts what a look gives into batches with numbers of their own", async () => {
    const { source, collector, clock, stop } = bench();
    collector.rows = 500;
    const running = source.run({ signal: stop.signal, once: false });
    await clock.advance(1);
    stop.abort();
    await running;
    const ids: string[] = [];
    for await (const batch of source.output) {
      expect(batch.count).toBeLessThanOrEqual(160);
      expect(batch.ranges).toEqual([{ start: batch.records[0]!.offset, end: batch.records.at(-1)!.offset + 1 }]);
      for (const { id } of batch.records) ids.push(id);
    }
    expect(new Set(ids).size).toBe(1000);
  });

  it("drops slots and waits for nobody while its channel is full, and reports each once", async () => {
    const { source, clock, registry, lines, monitor, stop, budget } = bench({ capacity: 2 });
    const running = source.run({ signal: stop.signal, once: false });
    await clock.advance(6000);
    stop.abort();
    await running;
    monitor.stop();
    expect(dropped(registry)).toBeGreaterThan(25);
    const told = lines.filter(({ message }) => /^Dropped \d+ time slots in last second$/.test(message));
    expect(told.length).toBeGreaterThanOrEqual(2);
    expect(told[0]!.fields).toMatchObject({ component: "slots", channel: "tailer_payload" });
    expect(told.reduce((sum, { fields }) => sum + (fields as { dropped: number }).dropped, 0)).toBe(dropped(registry));
    // Only what is in the channel holds memory.
    expect(budget.usedBytes).toBe(2 * 192);
    source.output.close();
    expect(budget.usedBytes).toBe(0);
  });

  it("drops slots just so while there is no memory for them: sent = received + dropped + in channel", async () => {
    const { source, clock, registry, stop, budget } = bench({ budgetBytes: 4 * 192 });
    const running = source.run({ signal: stop.signal, once: false });
    await clock.advance(4000);
    stop.abort();
    await running;
    const { records } = registry.list()[0]!.counters();
    expect(records.inChannel).toBe(4);
    expect(records.dropped.policy).toBeGreaterThan(10);
    expect(records.sent).toBe(records.received + records.dropped.policy + records.inChannel);
    expect(budget.usedBytes).toBe(4 * 192);
    source.output.close();
  });

  it.each([
    [0, 200],
    [1 / 256, 100],
    [1 / 32, 25],
    [0.5, 1],
  ])("looks again the sooner the fuller the ring is: at a fill of %d after %d ms", async (fill, afterMs) => {
    const { source, collector, clock, stop } = bench();
    collector.fill = fill;
    const running = source.run({ signal: stop.signal, once: false });
    await clock.advance(10 * afterMs - 1);
    expect(collector.looks).toBe(10);
    stop.abort();
    await running;
    source.output.close();
  });

  it("looks again at once while the ring fills, and says what nobody looked at", async () => {
    const { source, collector, clock, stop, lines } = bench();
    collector.fill = 0.5;
    collector.skipped = 5000;
    const running = source.run({ signal: stop.signal, once: false });
    await clock.advance(10);
    expect(collector.looks).toBeGreaterThanOrEqual(10);
    expect(lines[0]).toEqual({
      fields: { skipped_slots: 5000 },
      message: "nobody looked at the time slots for 5000 ms; those are missing",
    });
    stop.abort();
    await running;
    source.output.close();
  });

  it("reports what the kernel had no room for, once a second and at the end, each once", async () => {
    const { source, collector, clock, stop, lines } = bench();
    const running = source.run({ signal: stop.signal, once: false });
    collector.lost = 5;
    await clock.advance(1100);
    await clock.advance(2000);
    collector.lost = 7;
    await clock.advance(100);
    stop.abort();
    await running;
    expect(lines).toEqual([
      {
        fields: { lost_events: 5 },
        message: expect.stringMatching(/^Lost 5 kernel events of time slots: the ring was full/),
      },
      { fields: { lost_events: 2 }, message: expect.stringMatching(/^Lost 2 kernel events/) },
    ]);
    source.output.close();
  });

  it("fails, closes its channel and gives everything back when the kernel does not answer any more", async () => {
    const { source, collector, stop } = bench();
    collector.failure = new Error("EIO");
    await expect(source.run({ signal: stop.signal, once: false })).rejects.toThrow("cannot read time slots: EIO");
    expect(collector.ends).toEqual(["close"]);
    expect(await source.output.recv()).toBeUndefined();
  });

  it("ends at once with --once: no slot is there before somebody looks", async () => {
    const { source, collector, stop } = bench();
    await source.run({ signal: stop.signal, once: true });
    expect(collector.looks).toBe(0);
    expect(await source.output.recv()).toBeUndefined();
  });

  it("takes slots of 1 to 1000 ms and rings of a power of two", () => {
    expect(timeslotsSource.options.parse({})).toEqual({ slot_ms: 1, ring_bytes: 8_388_608 });
    for (const wrong of [
      { slot_ms: 0 },
      { slot_ms: 1001 },
      { slot_ms: 1.5 },
      { ring_bytes: 100_000 },
      { ring_bytes: 4096 },
    ])
      expect(timeslotsSource.options.safeParse(wrong).success).toBe(false);
  });
});
