/** Upper bounds of the buckets in seconds: 1-2-5 steps from 10 microseconds to 100 seconds; above is one bucket more. */
export const SEND_DURATION_BOUNDS_SECONDS: readonly number[] = [
  0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
  20, 50, 100,
];

/** How long sends took, at one instant. `count` equals the messages sent; a send that found room took no time. */
export interface SendDurations {
  readonly boundsSeconds: readonly number[];
  /** Sends per bucket (not cumulative), one more entry than bounds: the last is what took longer. */
  readonly counts: readonly number[];
  readonly sumSeconds: number;
  readonly count: number;
  /** Those of `count` that found room at once; they stand in the first bucket. */
  readonly atOnce: number;
  /** Estimates in seconds, by straight lines inside a bucket. */
  readonly percentiles: {
    readonly p50: number;
    readonly p90: number;
    readonly p95: number;
    readonly p99: number;
    readonly p999: number;
  };
}

/**
 * Plain fields that collect how long sends had to wait. Only sends that wait are measured: the others are told apart by
 * the channel's own count, so that a send that finds room pays nothing for it.
 */
export class SendDurationRecorder {
  /** Made at the first wait: most channels never make a sender wait. */
  #waits: Float64Array | undefined;
  #waited = 0;
  #sumMs = 0;

  /** A send entered after `ms` milliseconds of waiting. */
  add(ms: number): void {
    this.#waits ??= new Float64Array(BUCKETS);
    const bucket = bucketOf(ms / 1000);
    this.#waits[bucket] = this.#waits[bucket]! + 1;
    this.#waited += 1;
    this.#sumMs += ms;
  }

  /** Sends that had to wait and then entered, and how long all of them waited together. */
  get waited(): number {
    return this.#waited;
  }

  get waitedMs(): number {
    return this.#sumMs;
  }

  /** `sent`: all messages sent so far, waited for or not. */
  snapshot(sent: number): SendDurations {
    const waits = Array.from(this.#waits ?? new Float64Array(BUCKETS));
    return describe(waits, sent - this.#waited, sent, this.#sumMs / 1000);
  }
}

/** Both together, as if they were one channel. */
export function mergeDurations(one: SendDurations, other: SendDurations): SendDurations {
  const atOnce = one.atOnce + other.atOnce;
  const waits = one.counts.map((count, bucket) => count + other.counts[bucket]!);
  waits[0] = waits[0]! - atOnce;
  return describe(waits, atOnce, one.count + other.count, one.sumSeconds + other.sumSeconds);
}

const BUCKETS = SEND_DURATION_BOUNDS_SECONDS.length + 1;

function describe(waits: readonly number[], atOnce: number, count: number, sumSeconds: number): SendDurations {
  const percentile = (rank: number) => estimate(waits, atOnce, count, rank);
  return {
    boundsSeconds: SEND_DURATION_BOUNDS_SECONDS,
    counts: waits.with(0, waits[0]! + atOnce),
    sumSeconds,
    count,
    atOnce,
    percentiles: {
      p50: percentile(0.5),
      p90: percentile(0.9),
      p95: percentile(0.95),
      p99: percentile(0.99),
      p999: percentile(0.999),
    },
  };
}

function bucketOf(seconds: number): number {
  const bounds = SEND_DURATION_BOUNDS_SECONDS;
  let bucket = 0;
  while (bucket < bounds.length && seconds > bounds[bucket]!) bucket += 1;
  return bucket;
}

/** Seconds below which a share `rank` of all sends stayed; the `atOnce` first of them took none. */
function estimate(waits: readonly number[], atOnce: number, sent: number, rank: number): number {
  const bounds = SEND_DURATION_BOUNDS_SECONDS;
  let left = rank * sent - atOnce;
  if (left <= 0) return 0;
  for (let bucket = 0; bucket < bounds.length; bucket += 1) {
    const inBucket = waits[bucket]!;
    const lower = bucket === 0 ? 0 : bounds[bucket - 1]!;
    if (left <= inBucket) return lower + ((bounds[bucket]! - lower) * left) / inBucket;
    left -= inBucket;
  }
  return bounds[bounds.length - 1]!;
}
