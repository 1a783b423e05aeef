import { ProcessNames } from "./process-names.ts";
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

/** The words and bytes of the ring; `RingReader` is one. */
export interface RecordMemory {
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
}

interface Processor {
  /** 0: nothing, it is idle. */
  task: number;
  process: number;
  /** False: it is not known what runs (nothing was seen yet, or records were lost). */
  isKnown: boolean;
  /** Up to where it was credited with the CPU. */
  creditedToNs: number;
  /** With how much of it before its stretch was over. */
  openNs: number;
  /** Up to where the hardware counters were claimed. */
  claimedToNs: number;
}

/** What a task had used up in its life when it was last seen. */
interface Task {
  faults: number;
  switches: number;
  migrations: number;
  /** NaN: not known exactly. */
  runtimeNs: number;
}

interface Waiting {
  readonly process: number;
  sinceNs: number;
}

const TWO_32 = 2 ** 32;

/** What was credited of a stretch that is not over, and was not the task's but the hypervisor's, is taken off later ones. */
const MAX_OWED_NS = 1e9;
/** Clocks are read one after the other and differ by little. What is more was used up while a switch was not told of. */
const MAX_SURPLUS_NS = 1e5;
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
  readonly #waiting = new Map<number, Waiting>();
  readonly #tasks = new Map<number, Task>();
  /** CPU time that processes have in the kernel's account and not in the slots; ns. Negative: they were credited too much. */
  readonly #balances = new Map<number, number>();

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
      task: 0,
      process: 0,
      isKnown: false,
      creditedToNs: 0,
      openNs: 0,
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
    return this.#hasCounters && state.task !== 0 && state.claimedToNs < momentNs;
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
    state.task = 0;
    state.process = 0;
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
      const task = words[word + WAKE.task / 4]!;
      if (kind === RECORD.NEW) this.#tasks.set(task, { faults: 0, switches: 0, migrations: 0, runtimeNs: 0 });
      this.#wait(task, words[word + WAKE.process / 4]!, timeNs);
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
      if (!state.isKnown || state.task === 0 || state.creditedToNs >= edgeNs) continue;
      this.#creditOpen(state, edgeNs);
    }
    for (const waiting of this.#waiting.values()) {
      if (waiting.sinceNs >= edgeNs) continue;
      this.#spread(waiting.process, SUM.runqueueWaitNs, waiting.sinceNs, edgeNs, edgeNs - waiting.sinceNs);
      waiting.sinceNs = edgeNs;
    }
    for (; this.#firstOpen < upTo; this.#firstOpen += 1) {
      const table = this.#open.shift();
      emit({ startNs: this.#firstOpen * this.slotNs, table });
      if (table === undefined) continue;
      table.clear();
      this.#spare.push(table);
    }
    for (const process of this.names.forgetGone()) this.#balances.delete(process);
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
    for (const waiting of this.#waiting.values()) waiting.sinceNs = Math.max(waiting.sinceNs, edgeNs);
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
      state.claimedToNs += shiftNs;
    }
    for (const waiting of this.#waiting.values()) waiting.sinceNs += shiftNs;
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
    const process = words[word + RUN.process / 4]!;
    const flags = words[word + RUN.flags / 4]!;
    const taskId = words[word + RUN.task / 4]!;
    if (taskId !== 0) {
      this.#adopt(state, words, word, timeNs);
      this.#count(words, word, state, timeNs);
      const task = this.#taskOf(taskId, words, word + RUN.faults / 4, timeNs, this.#slotOf(words, word), process);
      const runtimeNs = wideOf(words, word + RUN.runtimeNs / 4);
      const stretchNs = Math.max(timeNs - state.creditedToNs, 0);
      this.#balance(process, Number.isNaN(task.runtimeNs) ? stretchNs : runtimeNs - task.runtimeNs - state.openNs);
      state.openNs = 0;
      task.runtimeNs = runtimeNs;
      this.#credit(process, timeNs - stretchNs, timeNs);
      if ((flags & RUN_FLAGS.isDead) !== 0) {
        this.#tasks.delete(taskId);
        this.#waiting.delete(taskId);
      } else if ((flags & RUN_FLAGS.isRunnable) !== 0) this.#wait(taskId, process, timeNs);
      else this.#waiting.delete(taskId);
    }
    this.#start(state, words, word, timeNs);
  }

  #takeSums(words: Uint32Array, word: number, processor: number, timeNs: number): void {
    const state = this.#processors[processor]!;
    const taskId = words[word + RUN.task / 4]!;
    this.#adopt(state, words, word, timeNs);
    if (taskId === 0) return;
    this.#count(words, word, state, timeNs);
    const isNew = !this.#tasks.has(taskId);
    const task = this.#taskOf(taskId, words, word + RUN.faults / 4, timeNs, this.#slotOf(words, word), state.process);
    // Its runtime is up to a tick old while it runs: it cannot be where counting begins.
    if (isNew) task.runtimeNs = Number.NaN;
    this.#creditOpen(state, timeNs);
  }

  /** Makes `state` be of the task that the record says was running. Where that is news, it is not known since when. */
  #adopt(state: Processor, words: Uint32Array, word: number, timeNs: number): void {
    const task = words[word + RUN.task / 4]!;
    if (state.isKnown && state.task === task) return;
    this.#forget(state);
    const lowSince = words[word + RUN.sinceNs / 4]!;
    const highSince = words[word + RUN.sinceNs / 4 + 1]!;
    const sinceNs = lowSince === 0 && highSince === 0 ? timeNs : this.#time(words, word + RUN.sinceNs / 4);
    state.isKnown = true;
    state.task = task;
    state.process = words[word + RUN.process / 4]!;
    state.creditedToNs = Math.max(sinceNs, this.closedToNs);
    state.claimedToNs = state.creditedToNs;
  }

  /** It is not this task that runs: what it was credited with too much is taken off later, as its account says. */
  #forget(state: Processor): void {
    if (state.task !== 0) this.#balance(state.process, -state.openNs);
    state.openNs = 0;
  }

  /** What comes on the processor. */
  #start(state: Processor, words: Uint32Array, word: number, timeNs: number): void {
    const taskId = words[word + RUN.nextTask / 4]!;
    const process = words[word + RUN.nextProcess / 4]!;
    if (taskId !== 0) {
      const waiting = this.#waiting.get(taskId);
      if (waiting !== undefined) {
        this.#waiting.delete(taskId);
        this.#spread(process, SUM.runqueueWaitNs, waiting.sinceNs, timeNs, timeNs - waiting.sinceNs);
      }
      const task = this.#taskOf(taskId, words, word + RUN.nextFaults / 4, timeNs, timeNs, process);
      const runtimeNs = wideOf(words, word + RUN.nextRuntimeNs / 4);
      if (task.runtimeNs !== runtimeNs) {
        // It ran and nobody told.
        if (!Number.isNaN(task.runtimeNs)) this.#balance(process, runtimeNs - task.runtimeNs);
        task.runtimeNs = runtimeNs;
        this.#credit(process, timeNs, timeNs);
      }
    }
    state.isKnown = true;
    state.task = taskId;
    state.process = process;
    state.creditedToNs = timeNs;
    state.claimedToNs = timeNs;
  }

  /**
   * The task, with its faults and switches up to this record, which begin at `word`. What is new of them is counted; of a
   * task that was never seen before it is not known what is new.
   */
  #taskOf(taskId: number, words: Uint32Array, word: number, timeNs: number, inSlotNs: number, process: number): Task {
    const faults = words[word]!;
    const switches = words[word + 1]!;
    const migrations = words[word + 2]!;
    const task = this.#tasks.get(taskId);
    if (task === undefined) {
      if (this.#tasks.size >= MAX_TASKS) this.#tasks.clear();
      const seen = { faults, switches, migrations, runtimeNs: Number.NaN };
      this.#tasks.set(taskId, seen);
      return seen;
    }
    if (task.faults !== faults) {
      this.#add(process, SUM.pageFaults, inSlotNs, (faults - task.faults) >>> 0);
      task.faults = faults;
    }
    if (task.switches !== switches) {
      this.#add(process, SUM.contextSwitches, timeNs, (switches - task.switches) >>> 0);
      task.switches = switches;
    }
    if (task.migrations !== migrations) {
      this.#add(process, SUM.migrations, timeNs, (migrations - task.migrations) >>> 0);
      task.migrations = migrations;
    }
    return task;
  }

  /** Credits the task that runs with all of the time up to now, as far as is known. */
  #creditOpen(state: Processor, timeNs: number): void {
    const stretchNs = timeNs - state.creditedToNs;
    if (stretchNs <= 0) return;
    this.#spread(state.process, SUM.cpuNs, state.creditedToNs, timeNs, stretchNs);
    state.openNs += stretchNs;
    state.creditedToNs = timeNs;
  }

  /** Credits a process with what it has in the kernel's account, for a stretch that is over. */
  #credit(process: number, fromNs: number, toNs: number): void {
    const balanceNs = this.#balances.get(process) ?? 0;
    if (balanceNs <= 0) return;
    const isMore = balanceNs - (toNs - fromNs) > MAX_SURPLUS_NS;
    const amountNs = isMore ? balanceNs : Math.min(balanceNs, toNs - fromNs);
    const startNs = isMore ? Math.max(Math.min(fromNs, toNs - balanceNs), this.closedToNs) : fromNs;
    this.#spread(process, SUM.cpuNs, startNs, toNs, amountNs);
    this.#balance(process, -amountNs);
  }

  #balance(process: number, changeNs: number): void {
    const balanceNs = Math.max((this.#balances.get(process) ?? 0) + changeNs, -MAX_OWED_NS);
    if (balanceNs === 0) this.#balances.delete(process);
    else this.#balances.set(process, balanceNs);
  }

  /** A moment in the slot that the sums of a record belong to. */
  #slotOf(words: Uint32Array, word: number): number {
    return this.#time(words, word + RUN.slotEndNs / 4) - 1;
  }

  #wait(task: number, process: number, timeNs: number): void {
    // Woken while it was still on the queue: it has waited since before.
    if (!this.#waiting.has(task)) this.#waiting.set(task, { process, sinceNs: timeNs });
  }

  /** The sums of a record: all of them belong to one slot, but for those of the hardware, which nobody looked at meanwhile. */
  #count(words: Uint32Array, word: number, state: Processor, timeNs: number): void {
    const { process } = state;
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

/** 64 bits as a number: sums stay far below 2^53. */
function wideOf(words: Uint32Array, word: number): number {
  return words[word]! + words[word + 1]! * TWO_32;
}

function idOf(words: Uint32Array, word: number): bigint {
  return BigInt(words[word]!) | (BigInt(words[word + 1]!) << 32n);
}

/** A text that a zero byte ends. */
function textOf(bytes: Uint8Array, from: number, limit: number): string {
  const end = bytes.indexOf(0, from);
  // A copy: the decoder would take the memory of the ring for its own, and text outlives it.
  return Buffer.from(bytes.slice(from, end === -1 ? limit : Math.min(end, limit))).toString("utf8");
}

/** The names of a cgroup and those above it, as a path. */
function pathOf(bytes: Uint8Array, at: number): string {
  const names: string[] = [];
  for (let level = 0; level < CGROUP.levels; level += 1) {
    const from = at + level * CGROUP.nameBytes;
    const name = textOf(bytes, from, from + CGROUP.nameBytes);
    if (name === "") return `/${names.join("/")}`;
    names.unshift(name);
  }
  // Deeper than what the kernel was asked for.
  return `.../${names.join("/")}`;
}
