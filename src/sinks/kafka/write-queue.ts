import type { Batch } from "../../record/index.ts";
import { type Outcome, retry } from "../../stage/index.ts";

/** One write that waits for its transaction. */
export interface Waiting {
  readonly batch: Batch;
  readonly way: string;
  answer(outcome: Outcome): void;
}

/** Source bytes that go together; one write more may pass it. */
const MAX_TOGETHER_BYTES = 4 * 1024 * 1024;

/**
 * Writes that are under way at once go together: what comes while a transaction commits is the next one. So many small
 * batches cost few commits, and a single one waits for nobody.
 */
export class WriteQueue {
  readonly #waiting: Waiting[] = [];
  readonly #writeTogether: (writes: readonly Waiting[]) => Promise<readonly Outcome[]>;
  #isBusy = false;
  /** So many of the next writes go alone: one of them was refused, and not said which. */
  #alone = 0;

  constructor(writeTogether: (writes: readonly Waiting[]) => Promise<readonly Outcome[]>) {
    this.#writeTogether = writeTogether;
  }

  write(batch: Batch, way: string, signal: AbortSignal): Promise<Outcome> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(retry("it was told to stop"));
      this.#waiting.push({ batch, way, answer: resolve });
      if (!this.#isBusy) void this.#work();
    });
  }

  /** The next `count` writes go alone. */
  separate(count: number): void {
    this.#alone = Math.max(this.#alone, count);
  }

  async #work(): Promise<void> {
    this.#isBusy = true;
    // Writes of the same turn of the event loop go together.
    await new Promise((next) => setImmediate(next));
    while (this.#waiting.length > 0) {
      const together = this.#take();
      const outcomes = await this.#writeTogether(together);
      for (const [index, { answer }] of together.entries()) answer(outcomes[index]!);
      await new Promise((next) => setImmediate(next));
    }
    this.#isBusy = false;
  }

  #take(): Waiting[] {
    if (this.#alone > 0) {
      this.#alone -= 1;
      return this.#waiting.splice(0, 1);
    }
    let count = 0;
    for (let bytes = 0; count < this.#waiting.length && bytes < MAX_TOGETHER_BYTES; count += 1)
      bytes += this.#waiting[count]!.batch.byteLength;
    return this.#waiting.splice(0, count);
  }
}
