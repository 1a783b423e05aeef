import { describe, expect, it } from "vitest";
import { kernelBtf } from "./btf.test-kit.ts";
import { Btf, BtfError } from "./btf.ts";
import { FakeKernel } from "./kernel-calls.test-kit.ts";
import { processorsIn } from "./kernel-calls.ts";
import { openKernelSide } from "./kernel-side.ts";
import { Ownership } from "./ownership.ts";
import { SlotCollector } from "./slot-collector.ts";

const setting = (btf: Buffer = kernelBtf()) => ({
  btf: new Btf(btf),
  slotNs: 1_000_000,
  ringBytes: 65_536,
  edgeOffsetNs: 0n,
});

/** Each thing that was opened or mapped, given back in reverse order. */
function expectReversed(log: readonly string[]): void {
  const opened = log.filter((line) => !/^(close|unmap)/.test(line)).map((line) => line.split(" ").at(-1));
  const released = log.filter((line) => /^(close|unmap)/.test(line)).map((line) => line.split(" ").at(-1));
  expect(released.filter((thing) => thing !== undefined)).toHaveLength(opened.length);
  const maps = opened.filter((thing) => Number.parseInt(thing!, 16) >= 0x100000);
  expect(released.filter((thing) => maps.includes(thing))).toEqual([...maps].reverse());
}

describe("the kernel's side of time slots", () => {
  it("is given back whole, links first and memory before its map, when its owner is released", () => {
    const kernel = new FakeKernel();
    const owned = new Ownership();
    const side = openKernelSide(kernel, owned, setting());
    expect(side.abilities).toMatchObject({ network: true, block: true });
    expect(kernel.mapped.size).toBe(3);
    const { ring, shared } = side;
    owned.release();
    expect([kernel.open.size, kernel.mapped.size]).toEqual([0, 0]);
    expectReversed(kernel.log);
    // Its memory is out of reach, so that nobody can touch what is no longer mapped.
    expect(() => ring.reader).toThrow("given back to the kernel");
    expect(() => shared.bytes).toThrow("given back to the kernel");
  });

  it("leaves nothing behind, whichever call fails while it is opened", () => {
    const whole = new FakeKernel();
    new SlotCollector(whole, setting()).close();
    const calls = whole.calls;
    expect(calls).toBeGreaterThan(30);
    for (let failAt = 1; failAt <= calls; failAt += 1) {
      const kernel = new FakeKernel();
      kernel.failAt = failAt;
      let error: unknown;
      try {
        new SlotCollector(kernel, setting()).close();
      } catch (thrown) {
        error = thrown;
      }
      expect(error, `call ${failAt}`).toMatchObject({ name: "KernelError", reason: "EPERM" });
      expect([failAt, [...kernel.open], kernel.mapped.size]).toEqual([failAt, [], 0]);
      expectReversed(kernel.log);
    }
  });

  it("loads a program again whose check a signal has cut short, and gives up at last", () => {
    const kernel = new FakeKernel();
    kernel.interruptions = 3;
    new SlotCollector(kernel, setting()).close();
    expect(kernel.interruptions).toBe(0);
    const refusing = new FakeKernel();
    refusing.interruptions = Number.POSITIVE_INFINITY;
    expect(() => new SlotCollector(refusing, setting())).toThrow(
      "the kernel refuses the eBPF program tr_sums (EAGAIN)",
    );
    expect([refusing.open.size, refusing.mapped.size]).toEqual([0, 0]);
  });

  it("detaches first, and then once only", () => {
    const kernel = new FakeKernel();
    const collector = new SlotCollector(kernel, setting());
    const links = kernel.log.filter((line) => line.startsWith("bpf(RAW_TRACEPOINT_OPEN)")).length;
    const open = kernel.open.size;
    collector.detach();
    expect(kernel.open.size).toBe(open - links);
    collector.collect(() => {});
    collector.detach();
    collector.close();
    collector.close();
    expect([kernel.open.size, kernel.mapped.size]).toEqual([0, 0]);
    expect(() => collector.collect(() => {})).toThrow("given back to the kernel");
    expect(() => collector.counts()).toThrow("given back to the kernel");
  });

  it("leaves out what the machine does not have", () => {
    const kernel = new FakeKernel();
    using owned = new Ownership();
    const side = openKernelSide(kernel, owned, setting(kernelBtf("sock_recv_length")));
    expect(side.abilities).toMatchObject({ network: false, block: true });
    const other = openKernelSide(kernel, owned, setting(kernelBtf("block_bio_queue")));
    expect(other.abilities).toMatchObject({ network: true, block: false });
  });

  it("names what it cannot do without, and leaves nothing behind", () => {
    const kernel = new FakeKernel();
    const owned = new Ownership();
    expect(() => owned.orRelease(() => openKernelSide(kernel, owned, setting(kernelBtf("sched_switch"))))).toThrow(
      BtfError,
    );
    expect([kernel.open.size, kernel.mapped.size]).toEqual([0, 0]);
  });

  it("knows how many processors there can be", () => {
    expect(processorsIn("0\n")).toBe(1);
    expect(processorsIn("0-3,8-11\n")).toBe(12);
    expect(() => processorsIn("")).toThrow("no list of processors");
  });
});
