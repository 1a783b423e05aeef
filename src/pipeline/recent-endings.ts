import { SettledSet } from "../checkpoint/settled-set.ts";
import type { Origin } from "../record/origin.ts";
import type { Range } from "../record/position.ts";

export interface RecentEnding {
  readonly origin: Origin;
  readonly ranges: readonly Range[];
  /** It was written into a target whose barrier may yet fail. */
  readonly isDoubtful: boolean;
}

/**
 * What ended and is not committed. Endings of one origin become one set of ranges, so that a long wait for a commit costs
 * memory by the gaps in its files and not by the batches that passed; those that somebody is told of one by one
 * (acknowledged origins) are kept one by one.
 */
export class RecentEndings {
  readonly #sets = new Map<
    string,
    { readonly origin: Origin; readonly isDoubtful: boolean; readonly set: SettledSet }
  >();
  readonly #single: RecentEnding[] = [];

  add(ending: RecentEnding): void {
    const { origin, ranges, isDoubtful } = ending;
    if (origin.kind === "acknowledged") {
      this.#single.push(ending);
      return;
    }
    const key = `${isDoubtful ? "doubtful" : "certain"}\0${origin.key}`;
    let united = this.#sets.get(key);
    if (united === undefined) {
      united = { origin, isDoubtful, set: new SettledSet() };
      this.#sets.set(key, united);
    }
    for (const range of ranges) united.set.add(range);
  }

  get isEmpty(): boolean {
    return this.#sets.size === 0 && this.#single.length === 0;
  }

  /** Ranges that are kept, over all origins. */
  get size(): number {
    let size = this.#single.length;
    for (const { set } of this.#sets.values()) size += set.rangeCount + (set.prefix > 0 ? 1 : 0);
    return size;
  }

  *[Symbol.iterator](): Generator<RecentEnding, undefined, undefined> {
    for (const { origin, isDoubtful, set } of this.#sets.values()) {
      const prefix = set.prefix > 0 ? [{ start: 0, end: set.prefix }] : [];
      yield { origin, isDoubtful, ranges: [...prefix, ...set.ranges] };
    }
    yield* this.#single;
    return undefined;
  }
}
