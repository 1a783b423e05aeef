import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Assembler } from "../../src/timeslots/assembler.ts";
import { loadKernelCalls } from "../../src/timeslots/index.ts";
import { SharedValue } from "../../src/timeslots/maps.ts";
import { Ownership } from "../../src/timeslots/ownership.ts";
import { attachTracepoint, loadProgram, VerifierError } from "../../src/timeslots/programs.ts";
import { Load, noSlots, SlotWatch } from "./slot-watch.ts";

/** Within 1 % of what the kernel itself says, and a little for what the two were asked at different moments. */
function expectWithinOnePercent(seen: number, truth: number, little: number): void {
  expect(Math.abs(seen - truth), `seen ${seen}, truth ${truth}`).toBeLessThanOrEqual(truth / 100 + little);
}

describe.skipIf(noSlots !== undefined)("time slots of this kernel", () => {
  it("tell the CPU time of a process that spins 30 % in a pattern, as its schedstat and getrusage do", async () => {
    using watch = await SlotWatch.start();
    await using load = Load.start(`
      const end = performance.now() + 1500;
      const idle = new Int32Array(new SharedArrayBuffer(4));
      while (performance.now() < end) {
        const until = performance.now() + 3;
        while (performance.now() < until);
        Atomics.wait(idle, 0, 0, 7);
      }
      report();
    `);
    const { cpu, usage } = await load.told();
    await watch.settle();
    const sums = watch.sumsOf(load.pid);
    expectWithinOnePercent(sums.cpuNs, cpu, 1e6);
    expectWithinOnePercent(sums.cpuNs, (usage.userCPUTime + usage.systemCPUTime) * 1000, 1e6);
    expectWithinOnePercent(sums.contextSwitches, usage.voluntaryContextSwitches + usage.involuntaryContextSwitches, 5);
    expect(sums.cycles).toBe(0);
  });

  it("tell how long processes wait for a processor that they share", async () => {
    using watch = await SlotWatch.start();
    const spin = `
      require("node:child_process").execFileSync("taskset", ["-acp", "0", String(process.pid)], { stdio: "ignore" });
      const end = performance.now() + 1000;
      while (performance.now() < end);
      report();
    `;
    await using first = Load.start(spin);
    await using second = Load.start(spin);
    const told = [await first.told(), await second.told()];
    await watch.settle();
    for (const [index, load] of [first, second].entries()) {
      const sums = watch.sumsOf(load.pid);
      expect(told[index]!.wait).toBeGreaterThan(100e6);
      expectWithinOnePercent(sums.runqueueWaitNs, told[index]!.wait, 2e6);
      expectWithinOnePercent(sums.cpuNs, told[index]!.cpu, 1e6);
    }
  });

  it("tell the page faults of a process that touches new pages", async () => {
    using watch = await SlotWatch.start();
    await using load = Load.start(`
      const memory = Buffer.allocUnsafeSlow(20000 * 4096);
      for (let page = 0; page < 20000; page += 1) memory[page * 4096] = 1;
      report();
    `);
    const { usage } = await load.told();
    await watch.settle();
    const truth = usage.minorPageFault + usage.majorPageFault;
    expect(truth).toBeGreaterThan(5000);
    expectWithinOnePercent(watch.sumsOf(load.pid).pageFaults, truth, 10);
  });

  it("count system calls in the slots in which they were made", async () => {
    using watch = await SlotWatch.start();
    const calls = 50_000;
    const child = spawnSync("dd", ["if=/dev/zero", "of=/dev/null", "bs=1", `count=${calls}`], { stdio: "ignore" });
    await watch.settle();
    // A read and a write each, and the little that starts and ends a program.
    expectWithinOnePercent(watch.sumsOf(child.pid).syscalls, 2 * calls, 300);
    expect(watch.slots.filter(({ rows }) => (rows.get(child.pid)?.[5] ?? 0) > 0).length).toBeGreaterThan(5);
  });

  it("tell the bytes that a process sends and receives", async () => {
    using watch = await SlotWatch.start();
    const bytes = 8_000_000;
    const server = createServer((socket) => socket.on("error", () => {}).pipe(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    try {
      await using load = Load.start(`
        const socket = require("node:net").connect(${port}, "127.0.0.1", () => socket.write(Buffer.alloc(${bytes})));
        let received = 0;
        socket.on("data", ({ length }) => (received += length) === ${bytes} && report());
      `);
      await load.told();
      await watch.settle();
      const sums = watch.sumsOf(load.pid);
      expectWithinOnePercent(sums.netSentBytes, bytes, 1000);
      expectWithinOnePercent(sums.netReceivedBytes, bytes, 1000);
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
  });

  it("tell the bytes that a process writes to a block device", async ({ skip }) => {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-block-"));
    try {
      using watch = await SlotWatch.start();
      const bytes = 64 * 65_536;
      const args = ["if=/dev/zero", `of=${join(folder, "out")}`, "bs=65536", "count=64", "oflag=direct"];
      const child = spawnSync("dd", args, { stdio: "ignore" });
      if (child.status !== 0) {
        console.warn("SKIPPED: the folder of temporary files lies on no block device");
        skip();
      }
      await watch.settle();
      expectWithinOnePercent(watch.sumsOf(child.pid).blockBytes, bytes, 65_536);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("are aligned to the clock, hold processors to their time, and are all complete while nothing is lost", async () => {
    using watch = await SlotWatch.start({ slotNs: 2_000_000 });
    execFileSync(process.execPath, ["-e", "for (const end = Date.now() + 200; Date.now() < end; );"]);
    await watch.settle();
    expect(watch.slots.length).toBeGreaterThan(50);
    for (const [index, { startRealtimeNs, isComplete, lostEvents }] of watch.slots.entries()) {
      expect(startRealtimeNs % 2_000_000n).toBe(0n);
      if (index > 0) expect(startRealtimeNs > watch.slots[index - 1]!.startRealtimeNs).toBe(true);
      expect([isComplete, lostEvents]).toEqual([true, 0]);
    }
    expect(watch.collector.counts().lost).toBe(0);
    const capacityNs = availableParallelism() * 2_000_000;
    for (const { rows } of watch.slots)
      expect([...rows.values()].reduce((sum, [cpuNs]) => sum + cpuNs!, 0)).toBeLessThan(capacityNs + 1);
  });

  it("tell name and cgroup of processes, also of those that are gone", async () => {
    using watch = await SlotWatch.start({}, 0);
    const child = spawnSync("sleep", ["0.01"]);
    let name: object | undefined;
    const { collector } = watch;
    for (let turn = 0; turn < 10_000 && name === undefined; turn += 1) {
      collector.collect(({ table }) => {
        for (let row = 0; row < table.rows; row += 1)
          if (table.process(row) === child.pid) name = collector.names.of(child.pid);
      });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(name).toEqual({ comm: "sleep", cgroup: expect.stringMatching(/^\//) });
  });

  it("count each event once: begun = taken + lost, also when the ring overflows, and say which slots are incomplete", async () => {
    using watch = await SlotWatch.start({ ringBytes: 65_536 }, 0);
    const load = "for (const end = Date.now() + 400; Date.now() < end; ) require('fs').statSync('/');";
    spawnSync(process.execPath, ["-e", load], { stdio: "ignore" });
    // Where others keep the processors busy, so small a ring may overflow again meanwhile: what is lost then is told later.
    const settled = async () => {
      await watch.settle();
      return watch;
    };
    const told = () => watch.slots.reduce((sum, slot) => sum + slot.lostEvents, 0);
    await expect.poll(async () => (await settled()).collector.counts().lost - told()).toBe(0);
    const { lost } = watch.collector.counts();
    expect(lost).toBeGreaterThan(0);
    for (const { lostEvents, isComplete } of watch.slots) if (lostEvents > 0) expect(isComplete).toBe(false);
    // And it recovers: later slots are complete again.
    const before = watch.slots.length;
    await expect
      .poll(async () => (await settled()).slots.slice(before).at(-1))
      .toMatchObject({ isComplete: true, lostEvents: 0 });
    // Once more full to the brim, and then nothing new: now it must add up exactly.
    spawnSync(process.execPath, ["-e", load], { stdio: "ignore" });
    watch.collector.detach();
    await expect
      .poll(() => {
        watch.look();
        const { begun, taken, lost: allLost } = watch.collector.counts();
        return begun - taken - allLost;
      })
      .toBe(0);
    expect(watch.collector.counts().lost).toBeGreaterThan(lost);
  });

  it("come from programs that the kernel checks: what it refuses is told with what its verifier says", async () => {
    const calls = await loadKernelCalls();
    using owned = new Ownership();
    const load = (name: string, code: Assembler) =>
      loadProgram(calls, owned, { name, type: "raw_tracepoint", code: code.assemble() });
    expect(() => load("tr_wrong", new Assembler().register("mov", 0, 5).exit())).toThrow(
      /^the kernel refuses the eBPF program tr_wrong \(EACCES\):\n[\s\S]*R5 !read_ok/,
    );
    expect(() => load("tr_wrong", new Assembler().exit())).toThrow(VerifierError);
    // And what it takes runs: here at each system call.
    const counter = new SharedValue(calls, owned, "tr_counter", 8);
    const program = load(
      "tr_count",
      new Assembler()
        .mapValue(1, counter.descriptor, 0)
        .immediate("mov", 2, 1)
        .atomicAdd(8, 1, 0, 2)
        .immediate("mov", 0, 0)
        .exit(),
    );
    const value = new BigUint64Array(counter.bytes, 0, 1);
    using attached = new Ownership();
    attachTracepoint(calls, attached, program, "sys_enter");
    execFileSync("dd", ["if=/dev/zero", "of=/dev/null", "bs=1", "count=1000"], { stdio: "ignore" });
    expect(Number(Atomics.load(value, 0))).toBeGreaterThan(2000);
    expect(() => attachTracepoint(calls, attached, program, "no_such_tracepoint")).toThrow("ENOENT");
  });

  it("read counters like those of the hardware, and page faults where they have no tracepoint", async () => {
    // PERF_TYPE_SOFTWARE: PERF_COUNT_SW_CPU_CLOCK counts nanoseconds, PERF_COUNT_SW_DUMMY nothing; 99 does not exist.
    using watch = await SlotWatch.start({
      counterEvents: {
        cycles: { type: 1, config: 0 },
        instructions: { type: 1, config: 9 },
        cacheMisses: { type: 1, config: 99 },
      },
      pageFaultsBy: "event",
    });
    expect([...watch.collector.abilities.counters].sort()).toEqual(["cycles", "instructions"]);
    await using load = Load.start(`
      const memory = Buffer.allocUnsafeSlow(5000 * 4096);
      for (let page = 0; page < 5000; page += 1) memory[page * 4096] = 1;
      for (const end = performance.now() + 300; performance.now() < end; );
      report();
    `);
    const { usage } = await load.told();
    await watch.settle();
    const sums = watch.sumsOf(load.pid);
    expectWithinOnePercent(sums.pageFaults, usage.minorPageFault + usage.majorPageFault, 10);
    expect(Math.abs(sums.cycles / sums.cpuNs - 1)).toBeLessThan(0.05);
    expect(sums.cacheMisses).toBe(0);
  });
});
