import type { Batch } from "../record/batch.ts";

/** Sees each batch as it leaves a component, in the middle of the pipeline: it keeps nothing and waits for nothing. */
export type Tap = (batch: Batch) => void;

/** Nobody looks while `tap` is undefined, and it costs nothing then. */
export interface Tappable {
  tap: Tap | undefined;
}
