/** What is summed up of a process in a slot, in this order. */
export const SUMS = [
  "cpuNs",
  "runqueueWaitNs",
  "contextSwitches",
  "migrations",
  "pageFaults",
  "syscalls",
  "blockBytes",
  "netSentBytes",
  "netReceivedBytes",
  "cycles",
  "instructions",
  "cacheMisses",
] as const;

export type Sum = (typeof SUMS)[number];

/** Index of each sum in a row. */
export const SUM = Object.fromEntries(SUMS.map((name, index) => [name, index])) as { readonly [name in Sum]: number };

export const SUM_COUNT = SUMS.length;

const FIRST_ROWS = 16;

/** The sums of one slot: a row for each process that did anything in it, in the order of its first deed. */
export class SlotTable {
  readonly #rowOf = new Map<number, number>();
  readonly #processes: number[] = [];
  #values = new Float64Array(FIRST_ROWS * SUM_COUNT);
  // Most additions are to the process of the one before.
  #lastProcess = -1;
  #lastRow = 0;

  get rows(): number {
    return this.#processes.length;
  }

  /** The process of a row. */
  process(row: number): number {
    return this.#processes[row]!;
  }

  value(row: number, sum: number): number {
    return this.#values[row * SUM_COUNT + sum]!;
  }

  /** Adds to a sum of a process. */
  add(process: number, sum: number, amount: number): void {
    let row = process === this.#lastProcess ? this.#lastRow : this.#rowOf.get(process);
    if (row === undefined) {
      row = this.#processes.length;
      this.#rowOf.set(process, row);
      this.#processes.push(process);
      if ((row + 1) * SUM_COUNT > this.#values.length) this.#grow();
    }
    this.#lastProcess = process;
    this.#lastRow = row;
    this.#values[row * SUM_COUNT + sum]! += amount;
  }

  /** Empty again, for another slot. */
  clear(): void {
    this.#values.fill(0, 0, this.rows * SUM_COUNT);
    this.#rowOf.clear();
    this.#processes.length = 0;
    this.#lastProcess = -1;
  }

  #grow(): void {
    const larger = new Float64Array(this.#values.length * 2);
    larger.set(this.#values);
    this.#values = larger;
  }
}
