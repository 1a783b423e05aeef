/** What one process did in one slot, as the views need it. */
export interface SlotRow {
  readonly pid: number;
  readonly comm: string;
  readonly cgroup: string;
  readonly cpuNs: number;
  readonly waitNs: number;
  readonly switches: number;
  readonly faults: number;
  readonly syscalls: number;
  /** Read and written. */
  readonly blockBytes: number;
  /** Sent and received. */
  readonly netBytes: number;
}

/** All that was done in one slot. */
export interface Slot {
  /** Milliseconds since the epoch. */
  readonly startMs: number;
  readonly ns: number;
  readonly isComplete: boolean;
  readonly lostEvents: number;
  readonly rows: readonly SlotRow[];
}

/** Who made whom wait in a slot: each process that ran is answerable for its share of the time that the others waited. */
export interface SlotBlame {
  readonly cpuNs: number;
  readonly waitNs: number;
  /** The index of the row that ran longest; -1 where none ran. */
  readonly busiest: number;
  /** Nanoseconds that row `index` made the others wait. */
  noiseOf(index: number): number;
}

export function blame({ rows }: Pick<Slot, "rows">): SlotBlame {
  let cpuNs = 0;
  let waitNs = 0;
  let busiest = -1;
  rows.forEach((row, index) => {
    cpuNs += row.cpuNs;
    waitNs += row.waitNs;
    if (row.cpuNs > (rows[busiest]?.cpuNs ?? 0)) busiest = index;
  });
  return {
    cpuNs,
    waitNs,
    busiest,
    noiseOf(index) {
      const row = rows[index]!;
      return cpuNs === 0 ? 0 : Math.max(0, waitNs - row.waitNs) * (row.cpuNs / cpuNs);
    },
  };
}

/** Those that ran longest, longest first. */
export function ranMost(rows: readonly SlotRow[], except: SlotRow, count: number): readonly SlotRow[] {
  return rows
    .filter((row) => row !== except && row.cpuNs > 0)
    .sort((one, other) => other.cpuNs - one.cpuNs)
    .slice(0, count);
}

/** A process that used this much of a slot had a processor to itself. */
const FULL = 0.95;

/** How long a process has kept a processor to itself without a break, slot by slot. */
export class FullRun {
  #ns = 0;
  #endsMs = 0;

  /** @returns nanoseconds, with the slot that was just added */
  add({ startMs, ns }: Pick<Slot, "startMs" | "ns">, cpuNs: number): number {
    // A slot in which nothing was done has no row: a break, too.
    const follows = Math.abs(startMs - this.#endsMs) < 0.01;
    this.#ns = cpuNs >= ns * FULL ? (follows ? this.#ns : 0) + ns : 0;
    this.#endsMs = startMs + ns / 1e6;
    return this.#ns;
  }
}
