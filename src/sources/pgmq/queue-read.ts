import type { Origin } from "../../record/origin.ts";
import type { Range } from "../../record/position.ts";

/**
 * The messages of one read. They travel together and end one by one: each read is an origin of its own, so that sinks may
 * work on several reads at once and a slow message holds up no other.
 */
export class QueueRead implements Origin {
  readonly kind = "acknowledged";
  readonly file = undefined;
  readonly source: string;
  readonly key: string;
  readonly recordIdPrefix: string;
  /** Ascending. */
  readonly ids: readonly number[];
  /** By index of `ids`: ways on which the message has ended. */
  readonly #ended: Uint16Array;
  #ways = 1;
  readonly #onDone: (id: number) => void;

  /** @param onDone called once for each message, when it has ended at every sink and that is committed */
  constructor(
    names: Pick<Origin, "source" | "key" | "recordIdPrefix">,
    ids: readonly number[],
    onDone: (id: number) => void,
  ) {
    this.source = names.source;
    this.key = names.key;
    this.recordIdPrefix = names.recordIdPrefix;
    this.ids = ids;
    this.#ended = new Uint16Array(ids.length);
    this.#onDone = onDone;
  }

  readonly onForwarded = (ways: number): void => {
    this.#ways = ways;
  };

  readonly onSettled = (ranges: readonly Range[]): void => {
    for (const { start, end } of ranges) {
      for (let index = this.#firstFrom(start); index < this.ids.length && this.ids[index]! < end; index += 1) {
        this.#ended[index]! += 1;
        if (this.#ended[index] === this.#ways) this.#onDone(this.ids[index]!);
      }
    }
  };

  #firstFrom(start: number): number {
    let low = 0;
    let high = this.ids.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.ids[middle]! < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
