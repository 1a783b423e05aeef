import { describe, expect, it } from "vitest";
import { kernelBtf } from "./btf.test-kit.ts";
import { Btf } from "./btf.ts";
import { FakeKernel } from "./kernel-calls.test-kit.ts";
import { KernelError } from "./kernel-calls.ts";
import type { RecordMemory } from "./record-memory.ts";
import { HEADER_BYTES, LOSS_SLOTS, lossesAt, STATE, STATE_BYTES } from "./shared-layout.ts";
import { type CollectedSlot, SlotCollector } from "./slot-collector.ts";
import { RecordMaker } from "./slot-merger.test-kit.ts";
import { SUM } from "./slot-table.ts";

const MS = 1_000_000;
const PAGE = 4096;
const records = new RecordMaker();

/** A collector on a kernel that does only what the test says. All processors are absent, so that none holds slots up. */
class Bench implements Disposable {
  readonly kernel = new FakeKernel();
  readonly collector: SlotCollector;
  readonly told: (Omit<CollectedSlot, "table"> & { readonly waitNs: number })[] = [];
  readonly #producer: ArrayBuffer;
  readonly #shared: ArrayBuffer;
  #at = 0;

  constructor() {
    this.kernel.onRun = () => {
      throw new KernelError("bpf(PROG_TEST_RUN)", "ENXIO");
    };
    // In the middle of a slot, so that no test is about what happens at an edge.
    this.kernel.nowNs += BigInt(MS / 2);
    this.collector = new SlotCollector(this.kernel, { btf: new Btf(kernelBtf()), slotNs: MS, ringBytes: 65_536 });
    const [, producer, shared] = [...this.kernel.mapped.values()];
    this.#producer = producer!.bytes;
    this.#shared = shared!.bytes;
  }

  /** Nothing tells more in every slot than a task that waits all the time. */
  wait(): void {
    this.put(records.woke(0, this.kernel.nowNs, 5, 50));
  }

  put({ words }: RecordMemory, isBusy = false): () => void {
    const ring = new Uint32Array(this.#producer, PAGE);
    const at = this.#at;
    const header = words.byteLength;
    ring.set(words, at / 4 + 2);
    ring[at / 4] = isBusy ? header + 0x8000_0000 : header;
    this.#at += header + 8;
    new BigUint64Array(this.#producer, 0, 1)[0] = BigInt(this.#at);
    return () => {
      ring[at / 4] = header;
    };
  }

  state(processor: number, field: number, value: bigint): void {
    new BigUint64Array(this.#shared, HEADER_BYTES)[(processor * STATE_BYTES + field) / 8] = value;
  }

  /** Counts lost records in the slot that is now, as the kernel numbers slots. */
  lose(count: number): void {
    const epochNs = this.kernel.epochNs % BigInt(MS);
    const number = Number(((this.kernel.nowNs + epochNs) / BigInt(MS)) % BigInt(LOSS_SLOTS));
    new Uint32Array(this.#shared, lossesAt(this.kernel.processors), LOSS_SLOTS)[number]! += count;
  }

  look(afterNs: number): number {
    this.kernel.nowNs += BigInt(afterNs);
    return this.collector.collect(({ table, ...slot }) => {
      this.told.push({ ...slot, waitNs: table.value(0, SUM.runqueueWaitNs) });
    });
  }

  [Symbol.dispose](): void {
    this.collector.close();
    expect([this.kernel.open.size, this.kernel.mapped.size]).toEqual([0, 0]);
  }
}

describe("SlotCollector", () => {
  it("hands on slots aligned to the clock, each once, whole and complete", () => {
    using bench = new Bench();
    bench.look(5 * MS);
    bench.wait();
    bench.look(MS / 4);
    bench.look(10 * MS);
    bench.look(0);
    bench.look(5 * MS);
    expect(bench.told.length).toBeGreaterThanOrEqual(15);
    for (const [index, slot] of bench.told.entries()) {
      expect(slot.startRealtimeNs % BigInt(MS)).toBe(0n);
      expect([slot.isComplete, slot.lostEvents]).toEqual([true, 0]);
      if (index > 0) {
        expect(slot.startRealtimeNs - bench.told[index - 1]!.startRealtimeNs).toBe(BigInt(MS));
        expect(slot.waitNs).toBe(MS);
      }
    }
    expect(bench.collector.counts()).toEqual({ begun: 0, lost: 0, taken: 1 });
  });

  it("closes nothing of a processor on which a record is under way, and does once it is through", () => {
    using bench = new Bench();
    bench.look(2 * MS);
    bench.wait();
    bench.look(3 * MS);
    const before = bench.told.length;
    bench.state(0, STATE.begun, 1n);
    bench.look(5 * MS);
    expect(bench.told.length).toBe(before);
    bench.state(0, STATE.through, 1n);
    bench.look(0);
    expect(bench.told.length).toBe(before + 5);
  });

  it("closes nothing while a record that is being written hides those behind it", () => {
    using bench = new Bench();
    bench.look(2 * MS);
    const written = bench.put(records.woke(0, bench.kernel.nowNs, 6, 60), true);
    bench.wait();
    bench.look(5 * MS);
    expect(bench.told).toEqual([]);
    written();
    bench.look(0);
    expect(bench.told.length).toBe(5);
  });

  it("says in which slot records were lost, and that slots are incomplete until it knows again what runs", () => {
    using bench = new Bench();
    bench.look(2 * MS);
    bench.wait();
    bench.look(3 * MS);
    const before = bench.told.length;
    bench.kernel.nowNs += 1_000_000n;
    bench.lose(3);
    bench.state(0, STATE.lost, 3n);
    bench.kernel.nowNs += 1_000_000n;
    bench.look(0);
    bench.wait();
    bench.look(5 * MS);
    const after = bench.told.slice(before);
    expect(after.reduce((sum, { lostEvents }) => sum + lostEvents, 0)).toBe(3);
    // Who waited is not known after a loss: nothing is told of before the next record.
    expect(after.slice(0, 3).map(({ isComplete }) => isComplete)).toContain(false);
    expect(after.slice(-2)).toMatchObject([
      { isComplete: true, lostEvents: 0 },
      { isComplete: true, lostEvents: 0 },
    ]);
    expect(bench.collector.counts().lost).toBe(3);
  });

  it("takes the edges of the new time once the clock was set", () => {
    using bench = new Bench();
    bench.look(2 * MS);
    bench.wait();
    bench.look(4 * MS);
    const before = bench.told.at(-1)!.startRealtimeNs;
    bench.kernel.epochNs += 3_600_000_000_000n + 333_333n;
    bench.look(1000 * MS);
    bench.look(10 * MS);
    const after = bench.told.filter(({ startRealtimeNs }) => startRealtimeNs > before + 3_000_000_000_000n);
    expect(after.length).toBeGreaterThanOrEqual(9);
    for (const { startRealtimeNs } of after) expect(startRealtimeNs % BigInt(MS)).toBe(0n);
    expect(after.at(-1)!.waitNs).toBe(MS);
  });

  it("skips what is too much at once, and says how much", () => {
    using bench = new Bench();
    bench.look(2 * MS);
    bench.wait();
    bench.look(3 * MS);
    const before = bench.told.length;
    const skipped = bench.look(60_000 * MS);
    expect(skipped).toBeGreaterThan(59_000);
    bench.look(3 * MS);
    expect(bench.told.length - before).toBe(3);
  });

  it("tells of nothing after it was detached", () => {
    using bench = new Bench();
    bench.look(2 * MS);
    bench.wait();
    bench.look(3 * MS);
    const before = bench.told.length;
    bench.kernel.nowNs += 2_000_000n;
    bench.collector.detach();
    bench.look(50 * MS);
    expect(bench.told.length).toBe(before + 2);
  });

  it("asks who keeps sums of a slot that is over, and nobody else", () => {
    using bench = new Bench();
    const asked: number[] = [];
    bench.kernel.onRun = (cpu) => void asked.push(cpu);
    bench.look(3 * MS);
    expect(asked).toEqual([]);
    bench.state(0, STATE.syscalls, 4n);
    bench.state(0, STATE.slotEndNs, bench.kernel.nowNs + 10_000_000n);
    bench.look(3 * MS);
    expect(asked).toEqual([]);
    bench.look(20 * MS);
    expect(asked).toEqual([0]);
    bench.kernel.onRun = () => {
      throw new KernelError("bpf(PROG_TEST_RUN)", "EPERM");
    };
    expect(() => bench.look(3 * MS)).toThrow("EPERM");
  });
});
