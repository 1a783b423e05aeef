import { ProcessNames } from "./process-names.ts";
import { idOf, pathOf, type RecordMemory, textOf, wideOf } from "./record-memory.ts";
import { CGROUP, COMM_BYTES, COMMON, GONE, PROCESS, RECORD, RUN, RUN_FLAGS, WAKE } from "./shared-layout.ts";
import { SlotTable, SUM, SUM_COUNT } from "./slot-table.ts";

/*
 * From the records of all processors to slots. Of each processor it is known what runs on it since when; of each task that
 * waits, since when it waits. A record ends a stretch of running, and adds what was counted in it:
 *
 *   processor 0   ----A----|--idle--|-B-|-----A-----
 *   processor 1   --------------C-------------------    (no record at all)
 *   slots         |....|....|....|....|....|
 *                                ^ closed up to here: what runs or waits is credited up to it; the rest of the
 *                                  stretch comes with its record, or when the next slots are closed
 *
 * So an idle processor, and one whose task never leaves it, hold nothing back; and a stretch is split at the edges of slots,
 * exactly. Times are nanoseconds since `baseNs`, an edge of a slot: numbers that are exact for 104 days, and to 2 ns then.
 */

/** A slot that is over. */
export interface ClosedSlot {
  /** Its start, nanoseconds since the base. */
  readonly startNs: number;
  /** Only good until `emit` returns; undefined if nothing happened. */
  readonly table: SlotTable | undefined;
}

interface Processor {
  /** 0: nothing, it is idle. */
  taskId: number;
  /** Undefined where it is idle. */
  task: Task | undefined;
  /** False: it is not known what runs (nothing was seen yet, or records were lost). */
  isKnown: boolean;
  /** Up to where it was credited with the CPU. */
  creditedToNs: number;
  /** With how much of it before its stretch was over. */
  openNs: number;
  /** Up to where its time was given to tasks. */
  freeNs: number;
  /** Up to where the hardware counters were claimed. */
  claimedToNs: number;
}

interface Task {
  process: number;
  /** False: what it had used up when it was first seen is not known, so that nothing of it is new. */
  hasTotals: boolean;
  // What it had used up in its life when it was last seen.
  faults: number;
  switches: number;
  migrations: number;
  /** NaN: not known exactly. */
  runtimeNs: number;
  /** CPU time that it has in the kernel's account and not in the slots. Negative: it was credited too much. */
  balanceNs: number;
  /** Since when it waits for a processor, as far as that is not told yet; NaN: it does not. */
  waitsSinceNs: number;
}

const TWO_32 = 2 ** 32;

/**
 * What was credited of a stretch that is not over, and was not the task's but the hypervisor's, is taken off later ones; what
 * it had and found no room is added. No more than this.
 */
const MAX_BALANCE_NS = 1e9;
/** A task that was seen for the first time; and one that has just begun. */
const UNKNOWN = {
  hasTotals: false,
  faults: 0,
  switches: 0,
  migrations: 0,
  runtimeNs: Number.NaN,
  balanceNs: 0,
  waitsSinceNs: Number.NaN,
};
const NEWBORN = { ...UNKNOWN, hasTotals: true, runtimeNs: 0 };

/** Tables that are kept to be used again. */
const MAX_SPARE = 128;
/** Only reached when records of tasks that died were lost. */
const MAX_TASKS = 262_144;

export class SlotMerger {
  readonly slotNs: number;
  readonly names: ProcessNames = new ProcessNames();
  readonly #processors: Processor[];
  readonly #hasCounters: boolean;
  #baseLow = 0;
  #baseHigh = 0;
  /** Tables of the slots that are open, from `#firstOpen` on; absent: nothing happened in it. */
  readonly #open: (SlotTable | undefined)[] = [];
  /** Its number: start / slotNs. */
  #firstOpen = 0;
  readonly #spare: SlotTable[] = [];
  readonly #tasks = new Map<number, Task>();
  readonly #waiting = new Set<Task>();

  constructor(options: {
    readonly slotNs: number;
    readonly processors: number;
    readonly hasCounters: boolean;
    /** CLOCK_MONOTONIC at an edge of a slot. Times before it do not count. */
    readonly baseNs: bigint;
  }) {
    this.slotNs = options.slotNs;
    this.#hasCounters = options.hasCounters;
    this.#processors = Array.from({ length: options.processors }, () => ({
      taskId: 0,
      task: undefined,
      isKnown: false,
      creditedToNs: 0,
      openNs: 0,
      freeNs: 0,
      claimedToNs: 0,
    }));
    this.#setBase(options.baseNs);
  }

  /** Everything before this is closed; nanoseconds since the base. */
  get closedToNs(): number {
    return this.#firstOpen * this.slotNs;
  }

  /** Whether it is known what runs on a processor. */
  isKnown(processor: number): boolean {
    return this.#processors[processor]!.isKnown;
  }

  /** A task runs on the processor, and what the hardware counted of it before a moment was not told yet. */
  hasUnclaimedCounters(processor: number, momentNs: number): boolean {
    const state = this.#processors[processor]!;
    return this.#hasCounters && state.task !== undefined && state.claimedToNs < momentNs;
  }

  /** A processor of which no record can come (offline): idle, until there is one. */
  isAbsent(processor: number): void {
    this.#processors[processor]!.isKnown = true;
  }

  /** Records of a processor were lost: what runs there, and who waits anywhere, is not known any more. Totals heal. */
  doubt(processor: number): void {
    const state = this.#processors[processor]!;
    this.#forget(state);
    state.isKnown = false;
    state.taskId = 0;
    state.task = undefined;
    for (const task of this.#waiting) task.waitsSinceNs = Number.NaN;
    this.#waiting.clear();
  }

  /** One record of the ring. */
  take(memory: RecordMemory, word: number): void {
    const { words } = memory;
    const kindAndProcessor = words[word + COMMON.kind / 4]!;
    const timeNs = this.#time(words, word + COMMON.timeNs / 4);
    const kind = kindAndProcessor & 0xff;
    if (kind === RECORD.SWITCH) this.#takeSwitch(words, word, kindAndProcessor >>> 8, timeNs);
    else if (kind === RECORD.SUMS) this.#takeSums(words, word, kindAndProcessor >>> 8, timeNs);
    else if (kind === RECORD.WAKE || kind === RECORD.NEW) {
      const task = this.#known(words[word + WAKE.task / 4]!, words[word + WAKE.process / 4]!);
      if (kind === RECORD.NEW) Object.assign(task, NEWBORN);
      this.#wait(task, timeNs);
    } else if (kind === RECORD.PROCESS) {
      const at = word * 4 + PROCESS.comm;
      const comm = textOf(memory.bytes, at, at + COMM_BYTES);
      this.names.tellProcess(words[word + PROCESS.process / 4]!, comm, idOf(words, word + PROCESS.cgroupId / 4));
    } else if (kind === RECORD.CGROUP) {
      this.names.tellCgroup(idOf(words, word + CGROUP.cgroupId / 4), pathOf(memory.bytes, word * 4 + CGROUP.names));
    } else if (kind === RECORD.GONE) this.names.tellGone(words[word + GONE.process / 4]!);
  }

  /**
   * Every record of before `timeNs` was taken: closes the slots that end by then, each handed to `emit` in order. (What
   * is counted late, by an interrupted program in the kernel, goes to the oldest slot that is open: sums stay right.)
   */
  close(timeNs: number, emit: (slot: ClosedSlot) => void): void {
    const upTo = Math.floor(timeNs / this.slotNs);
    if (upTo <= this.#firstOpen) return;
    const edgeNs = upTo * this.slotNs;
    for (const state of this.#processors) {
      if (state.isKnown) this.#creditOpen(state, edgeNs);
    }
    for (const task of this.#waiting) {
      if (task.waitsSinceNs >= edgeNs) continue;
      this.#spread(task.process, SUM.runqueueWaitNs, task.waitsSinceNs, edgeNs, edgeNs - task.waitsSinceNs);
      task.waitsSinceNs = edgeNs;
    }
    for (; this.#firstOpen < upTo; this.#firstOpen += 1) {
      const table = this.#open.shift();
      emit({ startNs: this.#firstOpen * this.slotNs, table });
      if (table === undefined) continue;
      table.clear();
      if (this.#spare.length < MAX_SPARE) this.#spare.push(table);
    }
    this.names.forgetGone();
  }

  /** Forgets what was not closed before `timeNs`: nobody looked for so long that it would be too much. */
  skip(timeNs: number): void {
    const upTo = Math.floor(timeNs / this.slotNs);
    if (upTo <= this.#firstOpen) return;
    this.#open.splice(0, upTo - this.#firstOpen);
    this.#firstOpen = upTo;
    const edgeNs = upTo * this.slotNs;
    for (const state of this.#processors) {
      if (state.creditedToNs >= edgeNs) continue;
      state.openNs += edgeNs - state.creditedToNs;
      state.creditedToNs = edgeNs;
    }
    for (const task of this.#waiting) task.waitsSinceNs = Math.max(task.waitsSinceNs, edgeNs);
  }

  /**
   * The clock was set: slots have other edges from now on, and the first of them is `baseNs`, not before what is closed. Sums
   * of slots that are open move into the new slots that their old ones begin in.
   */
  rebase(baseNs: bigint): void {
    const shiftNs = Number(BigInt(this.#baseHigh) * BigInt(TWO_32) + BigInt(this.#baseLow) - baseNs);
    const closedNs = this.closedToNs;
    const moved = this.#open.splice(0);
    this.#firstOpen = 0;
    this.#setBase(baseNs);
    for (const state of this.#processors) {
      state.creditedToNs += shiftNs;
      state.freeNs += shiftNs;
      state.claimedToNs += shiftNs;
    }
    for (const task of this.#waiting) task.waitsSinceNs += shiftNs;
    for (const [index, table] of moved.entries()) {
      if (table === undefined) continue;
      const startNs = closedNs + index * this.slotNs + shiftNs;
      const target = this.#table(Math.max(Math.floor(startNs / this.slotNs), 0));
      for (let row = 0; row < table.rows; row += 1)
        for (let sum = 0; sum < SUM_COUNT; sum += 1) target.add(table.process(row), sum, table.value(row, sum));
    }
  }

  #takeSwitch(words: Uint32Array, word: number, processor: number, timeNs: number): void {
    const state = this.#processors[processor]!;
    const runtimeNs = wideOf(words, word + RUN.runtimeNs / 4);
    const task = this.#adopt(state, words, word, timeNs, runtimeNs);
    if (task !== undefined) {
      this.#count(words, word, state, task, timeNs);
      const inSlotNs = this.#slotOf(words, word);
      this.#sawTotals(task, words, word + RUN.faults / 4, runtimeNs, timeNs, inSlotNs);
      const stretchNs = Math.max(timeNs - state.creditedToNs, 0);
      const usedNs = Number.isNaN(task.runtimeNs) ? stretchNs + state.openNs : runtimeNs - task.runtimeNs;
      task.balanceNs += usedNs - state.openNs;
      task.runtimeNs = runtimeNs;
      state.openNs = 0;
      this.#credit(state, task, timeNs - stretchNs, timeNs);
      const flags = words[word + RUN.flags / 4]!;
      if ((flags & RUN_FLAGS.isRunnable) !== 0) this.#wait(task, timeNs);
      else if ((flags & RUN_FLAGS.isDead) !== 0) this.#tasks.delete(state.taskId);
    }
    this.#start(state, words, word, timeNs);
  }

  #takeSums(words: Uint32Array, word: number, processor: number, timeNs: number): void {
    const state = this.#processors[processor]!;
    const task = this.#adopt(state, words, word, timeNs, Number.NaN);
    if (task === undefined) return;
    this.#count(words, word, state, task, timeNs);
    // Its runtime is up to a tick old while it runs: nothing is reckoned from it.
    this.#sawTotals(task, words, word + RUN.faults / 4, Number.NaN, timeNs, this.#slotOf(words, word));
    this.#creditOpen(state, timeNs);
  }

  /**
   * Makes `state` be of the task that the record says was running, and returns it; undefined: none. Where that is news, it
   * is not known since when, but by what it has used up (`runtimeNs`, NaN: not known exactly) how long: so its wait is told.
   */
  #adopt(state: Processor, words: Uint32Array, word: number, timeNs: number, runtimeNs: number): Task | undefined {
    const taskId = words[word + RUN.task / 4]!;
    if (state.isKnown && state.taskId === taskId) return state.task;
    this.#forget(state);
    const lowSince = words[word + RUN.sinceNs / 4]!;
    const highSince = words[word + RUN.sinceNs / 4 + 1]!;
    const sinceNs = lowSince === 0 && highSince === 0 ? timeNs : this.#time(words, word + RUN.sinceNs / 4);
    state.isKnown = true;
    state.taskId = taskId;
    state.task = taskId === 0 ? undefined : this.#known(taskId, words[word + RUN.process / 4]!);
    if (state.task !== undefined) this.#tellWait(state.task, timeNs - (runtimeNs - state.task.runtimeNs));
    state.creditedToNs = Math.max(sinceNs, this.closedToNs);
    state.claimedToNs = state.creditedToNs;
    return state.task;
  }

  /** It is not this task that runs: what it was credited with too much is taken off later, as its account says. */
  #forget(state: Processor): void {
    if (state.task !== undefined) state.task.balanceNs -= state.openNs;
    state.openNs = 0;
  }

  /** What comes on the processor. */
  #start(state: Processor, words: Uint32Array, word: number, timeNs: number): void {
    const taskId = words[word + RUN.nextTask / 4]!;
    let task: Task | undefined;
    if (taskId !== 0) {
      task = this.#known(taskId, words[word + RUN.nextProcess / 4]!);
      this.#tellWait(task, timeNs);
      const runtimeNs = wideOf(words, word + RUN.nextRuntimeNs / 4);
      this.#sawTotals(task, words, word + RUN.nextFaults / 4, runtimeNs, timeNs, timeNs);
      if (task.runtimeNs !== runtimeNs) {
        // It ran and nobody told.
        if (!Number.isNaN(task.runtimeNs)) task.balanceNs += runtimeNs - task.runtimeNs;
        task.runtimeNs = runtimeNs;
        this.#credit(state, task, timeNs, timeNs);
      }
    }
    state.isKnown = true;
    state.taskId = taskId;
    state.task = task;
    state.openNs = 0;
    state.creditedToNs = timeNs;
    state.claimedToNs = timeNs;
  }

  #known(taskId: number, process: number): Task {
    let task = this.#tasks.get(taskId);
    if (task === undefined) {
      if (this.#tasks.size >= MAX_TASKS) this.#tasks.clear();
      task = { process, ...UNKNOWN };
      this.#tasks.set(taskId, task);
    }
    task.process = process;
    return task;
  }

  /** Counts what is new of the totals that begin at `word`. `runtimeNs` NaN: not told exactly. */
  #sawTotals(task: Task, words: Uint32Array, word: number, runtimeNs: number, timeNs: number, inSlotNs: number): void {
    const faults = words[word]!;
    const switches = words[word + 1]!;
    const migrations = words[word + 2]!;
    // Less than before: another task has its number now (an exec of a thread that was not the first, a death untold).
    if (runtimeNs < task.runtimeNs) {
      task.hasTotals = false;
      task.runtimeNs = Number.NaN;
      task.balanceNs = 0;
    }
    if (task.hasTotals) {
      const { process } = task;
      if (task.faults !== faults) this.#add(process, SUM.pageFaults, inSlotNs, newOf(faults, task.faults));
      if (task.switches !== switches) this.#add(process, SUM.contextSwitches, timeNs, newOf(switches, task.switches));
      if (task.migrations !== migrations)
        this.#add(process, SUM.migrations, timeNs, newOf(migrations, task.migrations));
    }
    task.hasTotals = true;
    task.faults = faults;
    task.switches = switches;
    task.migrations = migrations;
  }

  /** Credits the task that runs with all of the time up to now, as far as is known. */
  #creditOpen(state: Processor, timeNs: number): void {
    const stretchNs = timeNs - state.creditedToNs;
    if (stretchNs <= 0 || state.task === undefined) return;
    this.#spread(state.task.process, SUM.cpuNs, state.creditedToNs, timeNs, stretchNs);
    state.openNs += stretchNs;
    state.creditedToNs = timeNs;
    state.freeNs = timeNs;
  }

  /**
   * Credits a task with what it has in the kernel's account, for a stretch that is over. That may be more than the stretch: by
   * microseconds, as the kernel reads its clock before it tells of a switch, or by what was used up while nobody told. So
   * much is put before it, as far as the processor's time there is nobody's; what finds no room waits for the next stretch.
   */
  #credit(state: Processor, task: Task, fromNs: number, toNs: number): void {
    const roomNs = toNs - Math.max(Math.min(state.freeNs, fromNs), this.closedToNs);
    const amountNs = Math.min(task.balanceNs, roomNs);
    if (amountNs > 0) {
      const startNs = Math.min(fromNs, toNs - amountNs);
      this.#spread(task.process, SUM.cpuNs, startNs, startNs + amountNs, amountNs);
      state.freeNs = startNs + amountNs;
    }
    task.balanceNs = Math.min(Math.max(task.balanceNs - Math.max(amountNs, 0), -MAX_BALANCE_NS), MAX_BALANCE_NS);
  }

  /** A moment in the slot that the sums of a record belong to. */
  #slotOf(words: Uint32Array, word: number): number {
    return this.#time(words, word + RUN.slotEndNs / 4) - 1;
  }

  #wait(task: Task, timeNs: number): void {
    // Woken while it was still on the queue: it has waited since before.
    if (!Number.isNaN(task.waitsSinceNs)) return;
    task.waitsSinceNs = timeNs;
    this.#waiting.add(task);
  }

  /** What it waits for has come at `endNs` (NaN: nobody knows when). */
  #tellWait(task: Task, endNs: number): void {
    const sinceNs = task.waitsSinceNs;
    if (Number.isNaN(sinceNs)) return;
    task.waitsSinceNs = Number.NaN;
    this.#waiting.delete(task);
    if (sinceNs < endNs) this.#spread(task.process, SUM.runqueueWaitNs, sinceNs, endNs, endNs - sinceNs);
  }

  /** The sums of a record: all of them belong to one slot, but for those of the hardware, which nobody looked at meanwhile. */
  #count(words: Uint32Array, word: number, state: Processor, { process }: Task, timeNs: number): void {
    const inSlotNs = this.#slotOf(words, word);
    this.#add(process, SUM.syscalls, inSlotNs, words[word + RUN.syscalls / 4]!);
    this.#add(process, SUM.blockBytes, inSlotNs, wideOf(words, word + RUN.blockBytes / 4));
    this.#add(process, SUM.netSentBytes, inSlotNs, wideOf(words, word + RUN.sentBytes / 4));
    this.#add(process, SUM.netReceivedBytes, inSlotNs, wideOf(words, word + RUN.receivedBytes / 4));
    if (!this.#hasCounters) return;
    this.#spreadWhole(process, SUM.cycles, state.claimedToNs, timeNs, wideOf(words, word + RUN.cycles / 4));
    this.#spreadWhole(process, SUM.instructions, state.claimedToNs, timeNs, wideOf(words, word + RUN.instructions / 4));
    this.#spreadWhole(process, SUM.cacheMisses, state.claimedToNs, timeNs, wideOf(words, word + RUN.cacheMisses / 4));
    state.claimedToNs = timeNs;
  }

  /** Adds `amount` to the slot that a moment lies in. */
  #add(process: number, sum: number, timeNs: number, amount: number): void {
    if (amount === 0) return;
    this.#table(Math.max(Math.floor(timeNs / this.slotNs), this.#firstOpen)).add(process, sum, amount);
  }

  /** Spreads `amount` evenly over a stretch of time, split at the edges of slots. What lies in closed slots is left out. */
  #spread(process: number, sum: number, fromNs: number, toNs: number, amount: number): void {
    const { slotNs } = this;
    const startNs = Math.max(fromNs, this.closedToNs);
    if (amount === 0 || startNs >= toNs) return;
    const share = amount / (toNs - fromNs);
    for (let at = startNs; at < toNs; ) {
      const slot = Math.floor(at / slotNs);
      const endNs = Math.min((slot + 1) * slotNs, toNs);
      this.#table(slot).add(process, sum, (endNs - at) * share);
      at = endNs;
    }
  }

  /** The same in whole numbers that add up to all of `amount`, what lies in closed slots included. */
  #spreadWhole(process: number, sum: number, fromNs: number, toNs: number, amount: number): void {
    if (amount === 0) return;
    const startNs = Math.max(fromNs, this.closedToNs);
    if (startNs >= toNs) {
      this.#add(process, sum, toNs, amount);
      return;
    }
    let left = amount;
    for (let at = startNs; at < toNs; ) {
      const slot = Math.floor(at / this.slotNs);
      const endNs = Math.min((slot + 1) * this.slotNs, toNs);
      const part = endNs === toNs ? left : Math.round((amount * (endNs - at)) / (toNs - startNs));
      this.#table(slot).add(process, sum, part);
      left -= part;
      at = endNs;
    }
  }

  #table(slot: number): SlotTable {
    const index = slot - this.#firstOpen;
    let table = this.#open[index];
    if (table === undefined) {
      table = this.#spare.pop() ?? new SlotTable();
      while (this.#open.length < index) this.#open.push(undefined);
      this.#open[index] = table;
    }
    return table;
  }

  #setBase(baseNs: bigint): void {
    this.#baseLow = Number(baseNs & 0xffff_ffffn);
    this.#baseHigh = Number(baseNs >> 32n);
  }

  #time(words: Uint32Array, word: number): number {
    return (words[word + 1]! - this.#baseHigh) * TWO_32 + (words[word]! - this.#baseLow);
  }
}

/** What is new of a total of 32 bits that only rises. */
function newOf(now: number, before: number): number {
  const difference = (now - before) >>> 0;
  return difference < 2 ** 31 ? difference : 0;
}
