import { SettledSet } from "../../checkpoint/settled-set.ts";
import type { Position, Range } from "../../record/index.ts";
import type { Kept, LaneName } from "./positions-topic.ts";

interface Lane {
  readonly name: LaneName;
  /** What the target holds and the topic says, or is to say. */
  set: SettledSet;
  /** Of that: written since the last barrier, and between that and its commit. */
  since: Range[];
  inBarrier: Range[];
}

/** Holes (of batches that were filtered as a whole) from which on a set is cut down to what our own store does not know. */
const MAX_HOLES = 64;

/**
 * What the positions topic says of each lane. A value replaces the one before, so it must say everything that our own
 * store may not know yet; what the store has committed it need not say.
 */
export class LanePositions {
  readonly #lanes = new Map<string, Lane>();

  /** Starts from what the topic says. */
  restore(kept: Kept): void {
    const before = new Map(this.#lanes);
    this.#lanes.clear();
    for (const { lane, value } of kept.lanes) {
      const known = before.get(keyOf(lane));
      this.#lanes.set(keyOf(lane), {
        name: lane,
        set: new SettledSet(value),
        since: known?.since ?? [],
        inBarrier: known?.inBarrier ?? [],
      });
    }
  }

  /** The value of a lane once `ranges` are written too; nothing is noted. */
  with(name: LaneName, ranges: readonly Range[]): Position {
    const set = new SettledSet(this.#lanes.get(keyOf(name))?.set.snapshot());
    for (const range of ranges) set.add(range);
    return set.snapshot();
  }

  /** They are written. */
  add(name: LaneName, ranges: readonly Range[]): void {
    let lane = this.#lanes.get(keyOf(name));
    if (lane === undefined) {
      lane = { name, set: new SettledSet(), since: [], inBarrier: [] };
      this.#lanes.set(keyOf(name), lane);
    }
    for (const range of ranges) lane.set.add(range);
    lane.since.push(...ranges);
  }

  beginBarrier(): void {
    for (const lane of this.#lanes.values()) {
      lane.inBarrier.push(...lane.since);
      lane.since = [];
    }
  }

  /** What was written before the barrier stands in our own store. */
  committed(): void {
    for (const [key, lane] of this.#lanes) {
      const isIdle = lane.inBarrier.length === 0 && lane.since.length === 0;
      lane.inBarrier = [];
      // Of files that nothing comes from any more the topic keeps its last word, and we nothing.
      if (isIdle) this.#lanes.delete(key);
      else if (lane.set.rangeCount > MAX_HOLES) {
        lane.set = new SettledSet();
        for (const range of lane.since) lane.set.add(range);
      }
    }
  }

  get positions(): { source: string; file: string; way: string; value: Position }[] {
    return [...this.#lanes.values()].map(({ name, set }) => ({ ...name, value: set.snapshot() }));
  }
}

const keyOf = ({ source, file, way }: LaneName): string => `${source}\0${file}\0${way}`;
