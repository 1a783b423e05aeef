import type { Receiver } from "../channel/index.ts";
import { Batch } from "../record/batch.ts";
import { isCovered, type Lane, withoutCovered } from "./lane.ts";
import type { Routed } from "./route.ts";

/**
 * The input of a sink, one batch after the other; and, for a sink that wants it, what waits behind a batch and came from
 * the same origin by the same way, together with it:
 *
 *     A1 A2 A3 B1 A4 ...  --first-->  A1  --withWaiting-->  A1 A2 A3  (B1 is the next first)
 *
 * One request then carries them all, so that order, retry and bisection are what they are for a single batch.
 */
export class Gathering {
  readonly #input: Receiver<Routed>;
  readonly #maxBytes: number;
  /** Taken from the input, and of another origin than what it was taken for. */
  #next: Routed | undefined;

  constructor(input: Receiver<Routed>, maxBytes: number) {
    this.#input = input;
    this.#maxBytes = maxBytes;
  }

  /** Nothing waits. */
  get isEmpty(): boolean {
    return this.#next === undefined && this.#input.counters().messages === 0;
  }

  /** The next batch that its lane has not ended yet; undefined at the end, or when `signal` aborts. */
  async first(signal: AbortSignal): Promise<Routed | undefined> {
    while (!signal.aborted) {
      const routed = this.#next ?? (await this.#input.recv({ signal }));
      this.#next = undefined;
      if (routed === undefined) return undefined;
      if (!isCovered(laneOf(routed), routed.batch)) return routed;
      routed.batch.memory.release();
    }
    return undefined;
  }

  /** What is to be written of it, with what waits right behind it. */
  withWaiting(first: Routed): Batch {
    const lane = laneOf(first);
    const batches: [Batch, ...Batch[]] = [withoutCovered(first.batch, lane)];
    for (let bytes = first.batch.byteLength; bytes < this.#maxBytes; ) {
      const routed = this.#input.tryRecv();
      if (routed === undefined) break;
      const { batch } = routed;
      bytes += batch.byteLength;
      if (laneOf(routed) !== lane || batch.origin !== first.batch.origin || bytes > this.#maxBytes) {
        this.#next = routed;
        break;
      }
      if (isCovered(lane, batch)) batch.memory.release();
      else batches.push(withoutCovered(batch, lane));
    }
    return Batch.together(batches);
  }

  /** Gives back what nobody will take. */
  abandon(): void {
    this.#next?.batch.memory.release();
    this.#next = undefined;
  }
}

const laneOf = ({ route }: Routed): Lane => route.lanes[0]!;
