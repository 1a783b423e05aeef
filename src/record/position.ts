/** Half-open stretch of one origin, in its own unit (bytes for files, sequence numbers for queues): start <= x < end. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/**
 * What has ended at a sink, of one origin: everything below `prefix`, and `ranges` above it, sorted and disjoint, none
 * touching `prefix` or each other. A set and not a number, since batches end out of order (delivery contract, section 2).
 */
export interface Position {
  readonly prefix: number;
  readonly ranges: readonly Range[];
}

export const START: Position = { prefix: 0, ranges: [] };
