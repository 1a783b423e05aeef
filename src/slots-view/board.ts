import { blame, FullRun, ranMost, type Slot, type SlotRow } from "./time-slot.ts";

/** One character of a sparkline. */
const BUCKET_MS = 250;
/** 12 seconds are on the screen. */
const BUCKETS = 48;
/** What rates are taken over: the last whole second. */
const RATE_BUCKETS = 1000 / BUCKET_MS;
const WORST_SLOTS = 20;
const WORST_MS = 60_000;

/** What is summed up in each bucket, in this order. */
const SUMS = ["cpuNs", "waitNs", "noiseNs", "switches", "faults", "syscalls", "blockBytes", "netBytes"] as const;
/** Of these the greatest in the bucket. */
const PEAKS = ["worstWaitNs", "longestRunNs"] as const;
type Measure = (typeof SUMS)[number] | (typeof PEAKS)[number];
const MEASURES: readonly Measure[] = [...SUMS, ...PEAKS];

/** What a process did in the last second, each per second (peaks: the greatest). */
type Rates = { readonly [measure in Measure]: number };

export interface BoardRow {
  readonly pid: number;
  readonly comm: string;
  readonly rates: Rates;
  /** CPU in each of the last buckets, oldest first, as a part of one processor. */
  readonly history: readonly number[];
}

/** A slot in which a process waited long for a processor. */
export interface WorstSlot {
  readonly startMs: number;
  readonly row: SlotRow;
  /** Who ran meanwhile. */
  readonly ran: readonly SlotRow[];
}

export interface BoardTotals {
  readonly processes: number;
  readonly slotsPerSecond: number;
  readonly cpuNs: number;
  readonly waitNs: number;
  readonly lostEvents: number;
  readonly incompleteSlots: number;
}

/** What the live view shows: the last seconds of each process, and the worst slots of the last minute. */
export class Board {
  readonly #processes = new Map<string, ProcessBuckets>();
  #worst: WorstSlot[] = [];
  /** The newest bucket that anything fell into. */
  #bucket = 0;
  #slots = 0;
  #slotsBefore = 0;
  #slotsPerSecond = 0;
  #second = 0;
  #lostEvents = 0;
  #incompleteSlots = 0;

  add(slot: Slot): void {
    const bucket = Math.floor(slot.startMs / BUCKET_MS);
    if (bucket > this.#bucket) this.#advance(bucket);
    this.#slots += 1;
    // The slot's total stands in each of its rows, and counts once.
    this.#lostEvents += slot.lostEvents;
    if (!slot.isComplete) this.#incompleteSlots += 1;
    const { noiseOf } = blame(slot);
    slot.rows.forEach((row, index) => {
      const key = `${row.pid} ${row.comm}`;
      let process = this.#processes.get(key);
      if (process === undefined) {
        process = new ProcessBuckets(row.pid, row.comm);
        this.#processes.set(key, process);
      }
      process.add(bucket, slot, row, noiseOf(index));
      if (row.waitNs > 0) this.#consider(slot, row);
    });
  }

  /** The processes of the last second, by what is asked for, most first. */
  rows(by: Measure, count: number): readonly BoardRow[] {
    const last = this.#bucket - 1;
    return [...this.#processes.values()]
      .map((process) => ({ process, value: process.rate(by, last) }))
      .filter(({ value, process }) => value > 0 || process.rate("cpuNs", last) > 0)
      .sort((one, other) => other.value - one.value || one.process.pid - other.process.pid)
      .slice(0, count)
      .map(({ process }) => process.row(last));
  }

  /** The slots of the last minute in which somebody waited longest, longest first. */
  worst(count: number): readonly WorstSlot[] {
    return this.#worst.slice(0, count);
  }

  totals(): BoardTotals {
    let processes = 0;
    let cpuNs = 0;
    let waitNs = 0;
    for (const process of this.#processes.values()) {
      const cpu = process.rate("cpuNs", this.#bucket - 1);
      const wait = process.rate("waitNs", this.#bucket - 1);
      if (cpu > 0 || wait > 0) processes += 1;
      cpuNs += cpu;
      waitNs += wait;
    }
    return {
      processes,
      slotsPerSecond: this.#slotsPerSecond,
      cpuNs,
      waitNs,
      lostEvents: this.#lostEvents,
      incompleteSlots: this.#incompleteSlots,
    };
  }

  #advance(bucket: number): void {
    this.#bucket = bucket;
    const second = Math.floor(bucket / RATE_BUCKETS);
    if (second > this.#second) {
      this.#slotsPerSecond = this.#slots - this.#slotsBefore;
      this.#slotsBefore = this.#slots;
      this.#second = second;
    }
    for (const [key, process] of this.#processes) {
      if (process.lastBucket < bucket - BUCKETS) this.#processes.delete(key);
    }
  }

  #consider(slot: Slot, row: SlotRow): void {
    const least = this.#worst.at(-1);
    if (this.#worst.length >= WORST_SLOTS && least !== undefined && row.waitNs <= least.row.waitNs) {
      // Old ones make room, even for a lesser one.
      if (!this.#worst.some(({ startMs }) => startMs < slot.startMs - WORST_MS)) return;
    }
    const fresh = { startMs: slot.startMs, row, ran: ranMost(slot.rows, row, 3) };
    this.#worst = [...this.#worst.filter(({ startMs }) => startMs >= slot.startMs - WORST_MS), fresh]
      .sort((one, other) => other.row.waitNs - one.row.waitNs)
      .slice(0, WORST_SLOTS);
  }
}

/** The last buckets of one process; a bucket is cleared when its place is used again. */
class ProcessBuckets {
  readonly pid: number;
  readonly comm: string;
  lastBucket = 0;
  readonly #bucketAt = new Float64Array(BUCKETS);
  readonly #values = new Float64Array(BUCKETS * MEASURES.length);
  readonly #run = new FullRun();

  constructor(pid: number, comm: string) {
    this.pid = pid;
    this.comm = comm;
  }

  add(bucket: number, slot: Slot, row: SlotRow, noiseNs: number): void {
    const place = bucket % BUCKETS;
    const at = place * MEASURES.length;
    if (this.#bucketAt[place] !== bucket) {
      this.#values.fill(0, at, at + MEASURES.length);
      this.#bucketAt[place] = bucket;
    }
    this.lastBucket = bucket;
    const all: Rates = { ...row, noiseNs, worstWaitNs: row.waitNs, longestRunNs: this.#run.add(slot, row.cpuNs) };
    SUMS.forEach((measure, index) => {
      this.#values[at + index]! += all[measure];
    });
    PEAKS.forEach((measure, index) => {
      const peak = at + SUMS.length + index;
      this.#values[peak] = Math.max(this.#values[peak]!, all[measure]);
    });
  }

  rate(measure: Measure, last: number): number {
    const index = MEASURES.indexOf(measure);
    let rate = 0;
    for (let bucket = last - RATE_BUCKETS + 1; bucket <= last; bucket += 1) {
      const value = this.#value(bucket, index);
      rate = index < SUMS.length ? rate + value : Math.max(rate, value);
    }
    return rate;
  }

  row(last: number): BoardRow {
    const rates = Object.fromEntries(MEASURES.map((measure) => [measure, this.rate(measure, last)])) as Rates;
    const history = Array.from(
      { length: BUCKETS - 1 },
      (_, index) => this.#value(last - BUCKETS + 2 + index, 0) / (BUCKET_MS * 1e6),
    );
    return { pid: this.pid, comm: this.comm, rates, history };
  }

  #value(bucket: number, index: number): number {
    if (bucket < 0) return 0;
    const place = bucket % BUCKETS;
    return this.#bucketAt[place] === bucket ? this.#values[place * MEASURES.length + index]! : 0;
  }
}

export type SortKey = "cpuNs" | "waitNs" | "noiseNs";
