import { TailraceError } from "../errors.ts";
import type { Batch } from "../record/batch.ts";
import type { DataRecord } from "../record/data-record.ts";
import type { Range } from "../record/position.ts";

/**
 * The records of one batch, ending one by one and in any order while its write goes on. Each has a stretch of the origin
 * that ends with it; together the stretches are the batch's ranges:
 *
 * ```
 * ranges    [----------------------------)      filtered records and gaps belong to the record before them,
 * records      r0    r1 r1.1     r2             those in front to the first
 * stretches [--------)[--------)[--------)      events split from one record share theirs: it ends with the last of them
 * ```
 */
export class BatchEnds {
  readonly #batch: Batch;
  /** Record -> index of its stretch; those that have not ended. */
  readonly #open = new Map<DataRecord, number>();
  /** Records of each stretch that have not ended. */
  readonly #left: number[] = [];
  readonly #starts: number[] = [];

  constructor(batch: Batch) {
    this.#batch = batch;
    let before: number | undefined;
    for (const record of batch.records) {
      const { start } = record.range;
      if (start !== before) {
        this.#starts.push(this.#starts.length === 0 ? Number.NEGATIVE_INFINITY : start);
        this.#left.push(0);
      }
      before = start;
      const at = this.#left.length - 1;
      this.#left[at]! += 1;
      this.#open.set(record, at);
    }
  }

  /** Whether the record is of this batch and has not ended. */
  has(record: DataRecord): boolean {
    return this.#open.has(record);
  }

  /**
   * Ends a record. @returns it alone, with the ranges that end with it: none while another event of the same source record
   * has not ended.
   */
  end(record: DataRecord): Batch {
    const at = this.#open.get(record);
    if (at === undefined)
      throw new TailraceError("TR_INTERNAL", `record ${record.id} has ended before, or is of another batch`);
    this.#open.delete(record);
    this.#left[at]! -= 1;
    return this.#batch.part([record], this.#left[at] === 0 ? this.#stretch(at) : []);
  }

  /** What has not ended; the batch itself while nothing has, undefined when all has. */
  rest(): Batch | undefined {
    if (this.#open.size === this.#batch.count) return this.#batch;
    if (this.#open.size === 0) return undefined;
    const ranges: Range[] = [];
    for (const at of new Set(this.#open.values())) {
      for (const range of this.#stretch(at)) {
        const last = ranges.at(-1);
        if (last !== undefined && last.end === range.start) ranges[ranges.length - 1] = { ...last, end: range.end };
        else ranges.push(range);
      }
    }
    return this.#batch.part([...this.#open.keys()], ranges);
  }

  #stretch(at: number): Range[] {
    const from = this.#starts[at]!;
    const to = this.#starts[at + 1] ?? Number.POSITIVE_INFINITY;
    return this.#batch.ranges
      .map(({ start, end }) => ({ start: Math.max(start, from), end: Math.min(end, to) }))
      .filter(({ start, end }) => start < end);
  }
}
