import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NO_TOTALS, RecordMaker, type Totals } from "./slot-merger.test-kit.ts";
import { SlotMerger } from "./slot-merger.ts";
import { SUM } from "./slot-table.ts";

const SLOT = 100;
/** Beyond 32 bits, so that both words of a time matter. */
const BASE = 2n ** 33n - 57n;
const records = new RecordMaker();

type Cell = "cpuNs" | "runqueueWaitNs" | "contextSwitches" | "migrations" | "pageFaults" | "syscalls" | "netSentBytes";

/** "process/slot/sum" -> amount; nothing where it is 0. */
type Told = Map<string, number>;

function tell(told: Told, process: number, slot: number, sum: Cell, amount: number): void {
  const key = `${process}/${slot}/${sum}`;
  told.set(key, (told.get(key) ?? 0) + amount);
}

/** Takes what a merger closes. */
function closing(merger: SlotMerger, told: Told, timeNs: number): number[] {
  const slots: number[] = [];
  merger.close(timeNs, ({ startNs, table }) => {
    slots.push(startNs / SLOT);
    for (let row = 0; row < (table?.rows ?? 0); row += 1)
      for (const [name, sum] of Object.entries(SUM)) {
        const value = Math.round(table!.value(row, sum) * 1e6) / 1e6;
        if (value !== 0) tell(told, table!.process(row), startNs / SLOT, name as Cell, value);
      }
  });
  return slots;
}

const merger = (processors: number, hasCounters = false) =>
  new SlotMerger({ slotNs: SLOT, processors, hasCounters, baseNs: BASE });

/** A scheduler, nanosecond by nanosecond, with the kernel's programs on it: the truth beside what they tell. */
class Machine {
  readonly truth: Told = new Map();
  now = 0;
  readonly #merger: SlotMerger;
  readonly #cpus;
  readonly #tasks;

  constructor(merging: SlotMerger, processors: number, processOf: readonly number[]) {
    this.#merger = merging;
    this.#cpus = Array.from({ length: processors }, () => ({
      task: 0,
      sinceNs: 0,
      slotEnd: SLOT,
      syscalls: 0,
      sent: 0,
    }));
    this.#tasks = new Map(
      processOf.map((process, index) => [
        index + 1,
        {
          process,
          state: "asleep" as "asleep" | "waiting" | "running",
          lastCpu: 0,
          totals: { ...NO_TOTALS } as Totals,
        },
      ]),
    );
    // As when it is opened: every processor is asked what runs on it.
    for (const cpu of this.#cpus.keys()) this.#sums(cpu);
    // What was there before has used up something that nobody must count.
    for (const task of this.#tasks.values())
      Object.assign(task.totals, { faults: 7, switches: 7, migrations: 7, runtimeNs: 7000 });
  }

  advance(byNs: number): void {
    for (let step = 0; step < byNs; step += 1) {
      const slot = Math.floor(this.now / SLOT);
      for (const { task } of this.#cpus) if (task !== 0) this.#count(task, slot, "cpuNs", 1);
      for (const [id, task] of this.#tasks) {
        if (task.state === "running") task.totals.runtimeNs += 1;
        if (task.state === "waiting") this.#count(id, slot, "runqueueWaitNs", 1);
      }
      this.now += 1;
    }
  }

  wake(id: number): void {
    const task = this.#tasks.get(id)!;
    if (task.state !== "asleep") return;
    task.state = "waiting";
    this.#merger.take(records.woke(0, this.#time(), id, task.process), 0);
  }

  /** `prefer`: the task that comes, if it can. */
  switch(cpu: number, prefer: number, sleeps: boolean): void {
    const state = this.#cpus[cpu]!;
    const candidate = this.#tasks.get(prefer);
    const next = candidate?.state === "waiting" ? prefer : 0;
    if (next === state.task) return;
    const slot = Math.floor(this.now / SLOT);
    const last = this.#tasks.get(state.task);
    if (last !== undefined) {
      last.totals.switches += 1;
      this.#count(state.task, slot, "contextSwitches", 1);
    }
    const coming = this.#tasks.get(next);
    if (coming !== undefined && coming.lastCpu !== cpu) {
      // The first time that a task is seen, where it was before does not count.
      coming.totals.migrations += 1;
      if (this.#seen.has(next)) this.#count(next, slot, "migrations", 1);
      coming.lastCpu = cpu;
    }
    if (next !== 0) this.#seen.add(next);
    this.#merger.take(
      records.switched({
        ...this.#run(cpu),
        flags: sleeps ? undefined : "isRunnable",
        nextTask: next,
        nextProcess: coming?.process ?? 0,
        nextTotals: coming?.totals ?? NO_TOTALS,
      }),
      0,
    );
    if (last !== undefined) last.state = sleeps ? "asleep" : "waiting";
    if (coming !== undefined) coming.state = "running";
    Object.assign(state, { task: next, sinceNs: this.now, slotEnd: this.#slotEnd(), syscalls: 0, sent: 0 });
  }

  /** The running task does something that is counted. */
  act(cpu: number, what: "call" | "fault" | "send"): void {
    const state = this.#cpus[cpu]!;
    const task = this.#tasks.get(state.task);
    if (task === undefined) return;
    if (this.now >= state.slotEnd) this.#sums(cpu);
    const slot = Math.floor(this.now / SLOT);
    if (what === "call") {
      state.syscalls += 1;
      this.#count(state.task, slot, "syscalls", 1);
    } else if (what === "send") {
      state.sent += 1000;
      this.#count(state.task, slot, "netSentBytes", 1000);
    } else {
      task.totals.faults += 1;
      this.#count(state.task, slot, "pageFaults", 1);
    }
  }

  /** As a look of the collector does: whoever keeps sums of a slot that is over is asked for them. */
  close(told: Told): number[] {
    for (const [cpu, { slotEnd }] of this.#cpus.entries()) if (slotEnd <= this.now) this.#sums(cpu);
    return closing(this.#merger, told, this.now);
  }

  readonly #seen = new Set<number>();

  #sums(cpu: number): void {
    const state = this.#cpus[cpu]!;
    this.#merger.take(records.sums(this.#run(cpu)), 0);
    Object.assign(state, { slotEnd: this.#slotEnd(), syscalls: 0, sent: 0 });
  }

  #run(cpu: number) {
    const { task, sinceNs, slotEnd, syscalls, sent } = this.#cpus[cpu]!;
    const known = this.#tasks?.get(task);
    return {
      cpu,
      timeNs: this.#time(),
      sinceNs: BASE + BigInt(sinceNs),
      slotEndNs: BASE + BigInt(slotEnd),
      task,
      process: known?.process ?? 0,
      totals: known?.totals ?? NO_TOTALS,
      syscalls,
      sentBytes: sent,
    };
  }

  #count(task: number, slot: number, sum: Cell, amount: number): void {
    tell(this.truth, this.#tasks.get(task)!.process, slot, sum, amount);
  }

  #slotEnd(): number {
    return (Math.floor(this.now / SLOT) + 1) * SLOT;
  }

  #time(): bigint {
    return BASE + BigInt(this.now);
  }
}

const step = () =>
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("advance" as const), ns: fc.integer({ min: 1, max: 260 }) }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("wake" as const), task: fc.integer({ min: 1, max: 4 }) }) },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("switch" as const),
        cpu: fc.nat(1),
        task: fc.integer({ min: 0, max: 4 }),
        sleeps: fc.boolean(),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("act" as const),
        cpu: fc.nat(1),
        what: fc.constantFrom("call" as const, "fault" as const, "send" as const),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("close" as const) }) },
  );

describe("SlotMerger", () => {
  it("tells of every process and slot exactly what happened, whenever slots are closed", () => {
    fc.assert(
      fc.property(fc.array(step(), { minLength: 1, maxLength: 120 }), (steps) => {
        const merging = merger(2);
        const machine = new Machine(merging, 2, [10, 10, 30, 40]);
        const told: Told = new Map();
        const slots: number[] = [];
        for (const one of steps) {
          if (one.kind === "advance") machine.advance(one.ns);
          else if (one.kind === "wake") machine.wake(one.task);
          else if (one.kind === "switch") machine.switch(one.cpu, one.task, one.sleeps);
          else if (one.kind === "act") machine.act(one.cpu, one.what);
          else slots.push(...machine.close(told));
        }
        machine.advance(2 * SLOT - (machine.now % SLOT));
        slots.push(...machine.close(told));
        // In order, each once.
        expect(slots).toEqual([...slots.keys()]);
        expect(new Map([...told].sort())).toEqual(new Map([...machine.truth].sort()));
      }),
      { numRuns: 300 },
    );
  });

  it("closes slots while a processor is idle, and while a task never leaves one", () => {
    const merging = merger(3);
    const told: Told = new Map();
    const run = { timeNs: BASE, sinceNs: BASE, slotEndNs: BASE + 100n, totals: NO_TOTALS };
    merging.take(records.sums({ ...run, cpu: 0, task: 0, process: 0 }), 0);
    merging.take(records.sums({ ...run, cpu: 1, task: 5, process: 50 }), 0);
    merging.isAbsent(2);
    expect([0, 1, 2].map((cpu) => merging.isKnown(cpu))).toEqual([true, true, true]);
    expect(closing(merging, told, 350)).toEqual([0, 1, 2]);
    expect(Object.fromEntries(told)).toEqual({ "50/0/cpuNs": 100, "50/1/cpuNs": 100, "50/2/cpuNs": 100 });
  });

  it("tells the CPU time that the kernel does: what the hypervisor took is taken off", () => {
    const merging = merger(1);
    const told: Told = new Map();
    const switched = (from: number, to: number, runtimeNs: number, task: number, nextTask: number) =>
      merging.take(
        records.switched({
          cpu: 0,
          timeNs: BASE + BigInt(to),
          sinceNs: BASE + BigInt(from),
          slotEndNs: BASE + BigInt(to),
          task,
          process: task,
          totals: { ...NO_TOTALS, runtimeNs: task === 0 ? 0 : runtimeNs },
          nextTask,
          nextProcess: nextTask,
          nextTotals: { ...NO_TOTALS, runtimeNs: nextTask === 0 ? 0 : runtimeNs },
        }),
        0,
      );
    switched(0, 0, 1000, 0, 5);
    // Credited with all of 200 when slots are closed, it had 150 of 260 in truth.
    closing(merging, told, 200);
    switched(0, 260, 1150, 5, 0);
    switched(260, 300, 1150, 0, 5);
    switched(300, 400, 1250, 5, 0);
    closing(merging, told, 400);
    const cpu = [...told].filter(([key]) => key.endsWith("cpuNs"));
    expect(cpu.reduce((sum, [, ns]) => sum + ns, 0)).toBe(250);
    expect(Object.fromEntries(cpu)).toEqual({ "5/0/cpuNs": 100, "5/1/cpuNs": 100, "5/3/cpuNs": 50 });
  });

  it("gets back what was used up during switches that nobody told of, or whose records were lost", () => {
    const merging = merger(1);
    const told: Told = new Map();
    const at = (ns: number) => BASE + BigInt(ns);
    const totals = (runtimeNs: number, faults: number): Totals => ({ faults, switches: 0, migrations: 0, runtimeNs });
    const idle = { task: 0, process: 0, totals: NO_TOTALS };
    const none = { nextTask: 0, nextProcess: 0, nextTotals: NO_TOTALS };
    const run = (ns: number, sinceNs: bigint) => ({ cpu: 0, timeNs: at(ns), sinceNs, slotEndNs: at(100) });
    // Seen twice, so that what it had used up before is known.
    merging.take(
      records.switched({ ...run(0, at(0)), ...idle, nextTask: 5, nextProcess: 50, nextTotals: totals(1000, 10) }),
      0,
    );
    merging.take(records.switched({ ...run(10, at(0)), task: 5, process: 50, totals: totals(1010, 12), ...none }), 0);
    // It came and went unseen: 400 microseconds and 3 faults, and comes again.
    merging.take(
      records.switched({
        ...run(500_000, at(10)),
        ...idle,
        nextTask: 5,
        nextProcess: 50,
        nextTotals: totals(401_010, 15),
      }),
      0,
    );
    merging.doubt(0);
    expect(merging.isKnown(0)).toBe(false);
    // The record of its going is lost too; then it is seen leaving, and nobody knows since when it was there.
    merging.take(
      records.switched({ ...run(1_000_000, 0n), task: 5, process: 50, totals: totals(701_010, 20), ...none }),
      0,
    );
    closing(merging, told, 1_100_000);
    const sum = (name: Cell) =>
      [...told].filter(([key]) => key.endsWith(name)).reduce((all, [, amount]) => all + amount, 0);
    expect(sum("cpuNs")).toBeCloseTo(700_010, 3);
    expect(sum("pageFaults")).toBe(10);
    expect(Math.max(...[...told].filter(([key]) => key.endsWith("cpuNs")).map(([, ns]) => ns))).toBeLessThanOrEqual(
      200,
    );
  });

  it("tells the wait that ended with a switch that nobody told of, by what was used up since", () => {
    const merging = merger(1);
    const told: Told = new Map();
    const switched = (timeNs: number, task: number, runtimeNs: number, nextTask: number, flags?: "isRunnable") =>
      merging.take(
        records.switched({
          cpu: 0,
          timeNs: BASE + BigInt(timeNs),
          // 0: it is not the task that came last.
          sinceNs: 0n,
          slotEndNs: BASE + BigInt(timeNs),
          task,
          process: task,
          totals: { ...NO_TOTALS, runtimeNs },
          flags,
          nextTask,
          nextProcess: nextTask,
          nextTotals: { ...NO_TOTALS, runtimeNs: nextTask === 5 ? runtimeNs : 0 },
        }),
        0,
      );
    switched(10, 0, 0, 5);
    // It is preempted by one whose leaving is never told; the next record is of its own leaving, 40 later.
    switched(60, 5, 50, 70, "isRunnable");
    switched(190, 5, 90, 0);
    closing(merging, told, 200);
    expect(Object.fromEntries([...told].filter(([key]) => key.startsWith("5/")))).toMatchObject({
      "5/0/runqueueWaitNs": 40,
      "5/1/runqueueWaitNs": 50,
      "5/1/cpuNs": 40,
    });
  });

  it("counts nothing of another task that has a number that it knew", () => {
    const merging = merger(1);
    const told: Told = new Map();
    const run = { cpu: 0, sinceNs: BASE, slotEndNs: BASE + 100n };
    const idle = { task: 0, process: 0, totals: NO_TOTALS };
    const next = (nextProcess: number, nextTotals: Totals) => ({ nextTask: 5, nextProcess, nextTotals });
    const old = { faults: 500, switches: 500, migrations: 500, runtimeNs: 90_000 };
    merging.take(records.switched({ ...run, timeNs: BASE, ...idle, ...next(50, old) }), 0);
    const none = { nextTask: 0, nextProcess: 0, nextTotals: NO_TOTALS };
    merging.take(records.switched({ ...run, timeNs: BASE, task: 5, process: 50, totals: old, ...none }), 0);
    const young = { faults: 3, switches: 3, migrations: 3, runtimeNs: 1000 };
    merging.take(records.switched({ ...run, timeNs: BASE + 10n, ...idle, ...next(60, young) }), 0);
    const older = { faults: 4, switches: 4, migrations: 3, runtimeNs: 1020 };
    merging.take(records.switched({ ...run, timeNs: BASE + 30n, task: 5, process: 60, totals: older, ...none }), 0);
    closing(merging, told, 100);
    expect(Object.fromEntries(told)).toEqual({ "60/0/cpuNs": 20, "60/0/pageFaults": 1, "60/0/contextSwitches": 1 });
  });

  it("spreads what the hardware counted over the slots of a stretch, in whole numbers that add up", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: 1, max: 777 }), (cycles, toNs) => {
        const merging = merger(1, true);
        const told: Told = new Map();
        merging.take(
          records.sums({
            cpu: 0,
            timeNs: BASE,
            sinceNs: BASE,
            slotEndNs: BASE + 100n,
            task: 5,
            process: 50,
            totals: NO_TOTALS,
          }),
          0,
        );
        expect(merging.hasUnclaimedCounters(0, toNs)).toBe(true);
        merging.take(
          records.sums({
            cpu: 0,
            timeNs: BASE + BigInt(toNs),
            sinceNs: BASE,
            slotEndNs: BASE + 100n,
            task: 5,
            process: 50,
            totals: NO_TOTALS,
            cycles,
          }),
          0,
        );
        closing(merging, told, 800);
        const parts = [...told].filter(([key]) => key.endsWith("/cycles")).map(([, amount]) => amount);
        expect(parts.reduce((sum, part) => sum + part, 0)).toBe(cycles);
        expect(parts.every(Number.isInteger)).toBe(true);
      }),
    );
  });

  it("gives what is counted late to the oldest slot that is open, so that sums stay right", () => {
    const merging = merger(1);
    const told: Told = new Map();
    const run = { cpu: 0, sinceNs: BASE, slotEndNs: BASE + 100n, task: 5, process: 50, totals: NO_TOTALS };
    merging.take(records.sums({ ...run, timeNs: BASE }), 0);
    closing(merging, told, 200);
    merging.take(records.sums({ ...run, timeNs: BASE + 210n, syscalls: 3 }), 0);
    closing(merging, told, 300);
    expect(told.get("50/2/syscalls")).toBe(3);
  });

  it("has new edges after the clock was set, and keeps every sum", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: SLOT - 1 }), (shift) => {
        const merging = merger(1);
        const told: Told = new Map();
        const run = { cpu: 0, sinceNs: BASE, slotEndNs: BASE + 100n, task: 5, process: 50, totals: NO_TOTALS };
        merging.take(records.sums({ ...run, timeNs: BASE }), 0);
        closing(merging, told, 300);
        merging.take(records.sums({ ...run, timeNs: BASE + 350n, slotEndNs: BASE + 400n, syscalls: 4 }), 0);
        merging.take(records.woke(0, BASE + 500n, 6, 60), 0);
        merging.rebase(BASE + 300n + BigInt(shift));
        expect(merging.closedToNs).toBe(0);
        const closed = closing(merging, told, 700 - shift);
        expect(closed).toEqual([...closed.keys()]);
        const sum = (name: Cell) =>
          [...told].filter(([key]) => key.endsWith(name)).reduce((all, [, amount]) => all + amount, 0);
        expect(sum("syscalls")).toBe(4);
        const endNs = 300 + shift + closed.length * SLOT;
        expect(sum("cpuNs")).toBeCloseTo(350 + endNs - Math.max(350, 300 + shift), 6);
        expect(sum("runqueueWaitNs")).toBeCloseTo(endNs - 500, 6);
      }),
    );
  });

  it("skips what nobody looked at for too long", () => {
    const merging = merger(1);
    const told: Told = new Map();
    const run = { cpu: 0, sinceNs: BASE, slotEndNs: BASE + 100n, task: 5, process: 50, totals: NO_TOTALS };
    merging.take(records.sums({ ...run, timeNs: BASE }), 0);
    merging.take(records.woke(0, BASE + 10n, 6, 60), 0);
    merging.skip(5000);
    expect(closing(merging, told, 5100)).toEqual([50]);
    expect(Object.fromEntries(told)).toEqual({ "50/50/cpuNs": 100, "60/50/runqueueWaitNs": 100 });
  });

  it("knows processes by name and cgroup until the slots of their last deeds are closed", () => {
    const merging = merger(1);
    const none: Told = new Map();
    merging.take(records.process(5, "worker", 77n), 0);
    expect(merging.names.of(5)).toEqual({ comm: "worker", cgroup: "" });
    merging.take(records.cgroup(77n, ["app.service", "system.slice"]), 0);
    expect(merging.names.of(5)).toEqual({ comm: "worker", cgroup: "/system.slice/app.service" });
    merging.take(records.process(5, "0123456789abcdef", 1n), 0);
    merging.take(records.cgroup(1n, []), 0);
    expect(merging.names.of(5)).toEqual({ comm: "0123456789abcdef", cgroup: "/" });
    merging.take(records.gone(5), 0);
    closing(merging, none, 100);
    expect(merging.names.of(5).comm).toBe("0123456789abcdef");
    closing(merging, none, 200);
    expect(merging.names.of(5)).toEqual({ comm: "", cgroup: "" });
    merging.take(
      records.cgroup(
        9n,
        Array.from({ length: 10 }, (_, level) => `l${level}`),
      ),
      0,
    );
    merging.take(records.process(6, "deep", 9n), 0);
    expect(merging.names.of(6).cgroup).toBe(".../l9/l8/l7/l6/l5/l4/l3/l2/l1/l0");
  });
});
