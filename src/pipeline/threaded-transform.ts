import type { Batch } from "../record/batch.ts";
import type { Transform } from "../stage/contract.ts";

/** A transform that also works in threads of its own, on several batches at once. */
export interface ThreadedTransform extends Transform, AsyncDisposable {
  readonly threads: number;
  /**
   * What becomes of a batch of whole lines, whose memory must last until this resolves. Batches may be given before others
   * are done, and each is answered by itself; `apply` is for those that are no whole lines.
   */
  applyThere(batch: Batch): Promise<Made>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a thread has made of one batch. */
export interface Made {
  /** The events of what is left, a line of JSON each; valid until `release`. */
  readonly json: Buffer;
  /** Of each event: the index of its record in the batch, ascending, and which of several events of that record it is. */
  readonly indexes: Uint32Array;
  readonly splits: Float64Array;
  /** Records of the batch that are refused; no event was made of them. */
  readonly rejected: readonly { readonly index: number; readonly reason: string }[];
  release(): void;
}

export function isThreaded(transform: Transform): transform is ThreadedTransform {
  return "applyThere" in transform;
}
