import type { Output } from "./output.ts";
import type { Part } from "./record-routing.ts";

interface Append {
  readonly output: Output;
  readonly buffers: Buffer[];
  byteLength: number;
}

/** What one batch brings to its outputs: all of it counts, or nothing. */
export class BatchAppends {
  readonly #appends: Append[] = [];

  has(output: Output): boolean {
    return this.#appends.some((append) => append.output === output);
  }

  add(output: Output, { buffers, byteLength }: Part): void {
    // Two names may be one file, by a link within the folder: what goes there goes in one piece.
    const append = this.#appends.find((other) => other.output === output);
    if (append === undefined) this.#appends.push({ output, buffers: [...buffers], byteLength });
    else {
      append.buffers.push(...buffers);
      append.byteLength += byteLength;
    }
  }

  /** Rejects as the file system does, with everything cut off again; `now` is the wall clock. */
  async write(now: () => number): Promise<void> {
    const results = await Promise.allSettled(
      this.#appends.map(({ output, buffers, byteLength }) => output.append(buffers, byteLength)),
    );
    const failure = results.find((result) => result.status === "rejected");
    if (failure !== undefined) {
      await Promise.all(this.#appends.map(({ output }) => output.cutTo(output.length)));
      throw failure.reason;
    }
    const nowMs = now();
    for (const { output, byteLength } of this.#appends) output.accept(byteLength, nowMs);
  }
}
