import type { Batch, Memory } from "../record/batch.ts";
import { untilWoken } from "../runtime/until-woken.ts";

/**
 * What an event costs beside its bytes, and how often its bytes stand in memory: measured with `json` before a sink that
 * takes nothing (362 bytes an event for lines of 14 bytes, 635 for lines of 105).
 */
const EVENT_BYTES = 400;
const TIMES_ITS_BYTES = 3;

/**
 * Events that one transform may have made and that nobody has taken yet, in estimated bytes. The in-flight budget counts
 * the bytes that sources read, but an event is an object of many times its bytes (product contract, P4).
 */
const MAX_MADE_BYTES = 16 * 1024 * 1024;

/** The memory of the events that one transform has made: taken before it works, given back when their batch is. */
export class MadeEvents {
  #bytes = 0;
  #wakers: (() => void)[] = [];

  /** Estimated bytes of events that are in flight. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Resolves when there is room for what `batch` will become, or `abort` aborts; a batch larger than all goes alone.
   * `onWait` is called where it must wait: who holds events back until a commit is to make it now.
   */
  async room(batch: Batch, abort: AbortSignal, onWait: () => void): Promise<void> {
    const needed = estimate(batch.count, batch.byteLength);
    while (this.#bytes > 0 && this.#bytes + needed > MAX_MADE_BYTES && !abort.aborted) {
      onWait();
      await untilWoken(abort, (wake) => this.#wakers.push(wake));
    }
  }

  /** Charges for `events` events made of `batch`, until the memory that it returns is given back. Takes over one reference. */
  charge(batch: Batch, events: number): Memory {
    const bytes = estimate(Math.max(events, batch.count), batch.byteLength);
    this.#bytes += bytes;
    const { memory } = batch;
    let references = 1;
    return {
      byteLength: memory.byteLength,
      retain: () => {
        references += 1;
      },
      release: () => {
        references -= 1;
        if (references > 0) return;
        this.#bytes -= bytes;
        for (const wake of this.#wakers.splice(0)) wake();
        memory.release();
      },
    };
  }
}

function estimate(events: number, bytes: number): number {
  return events * EVENT_BYTES + bytes * TIMES_ITS_BYTES;
}
