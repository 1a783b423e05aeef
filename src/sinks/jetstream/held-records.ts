import { SettledSet } from "../../checkpoint/settled-set.ts";
import type { DataRecord, Position } from "../../record/index.ts";
import type { LaneName, RecordPlace } from "./record-header.ts";

/**
 * Records that the stream holds although the pipeline has not been told so: of a write that got only a part of them
 * through, or read back from the stream. They are not published again.
 */
export class HeldRecords {
  readonly #lanes = new Map<string, { readonly name: LaneName; readonly held: HeldLane }>();

  lane(name: LaneName): HeldLane {
    const key = `${name.source}\0${name.file}\0${name.way}`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { name, held: new HeldLane() };
      this.#lanes.set(key, lane);
    }
    return lane.held;
  }

  /** A write went through: what was held of it, the pipeline knows now. */
  forgetBelow(name: LaneName, end: number): void {
    if (this.lane(name).end <= end) this.#lanes.delete(`${name.source}\0${name.file}\0${name.way}`);
  }

  clear(): void {
    this.#lanes.clear();
  }

  positions(): { source: string; file: string; way: string; value: Position }[] {
    return [...this.#lanes.values()].map(({ name, held }) => ({ ...name, value: held.position }));
  }
}

class HeldLane {
  readonly #set = new SettledSet();
  /** Events of one source record of which more are to come: where that ends, and which of them are there. */
  #unfinished: { readonly end: number; readonly splits: Set<number> } | undefined;

  /** The stream holds this one; called in the order in which they lie there. */
  add({ range, split, isLast }: Pick<RecordPlace, "range" | "split" | "isLast">): void {
    if (isLast) {
      this.#set.add(range);
      this.#unfinished = undefined;
      return;
    }
    if (this.#unfinished?.end !== range.end) this.#unfinished = { end: range.end, splits: new Set() };
    this.#unfinished.splits.add(split);
  }

  /** Whether it need not be published. */
  has(record: DataRecord): boolean {
    const { range, split } = record;
    // A record of no bytes leaves no trace in a set.
    if (range.start < range.end && this.#set.covers(range)) return true;
    return this.#unfinished?.end === range.end && this.#unfinished.splits.has(split);
  }

  get end(): number {
    return Math.max(this.#set.end, this.#unfinished?.end ?? 0);
  }

  get position(): Position {
    return this.#set.snapshot();
  }
}
