/** A figure that was looked at again and again. */
export interface Measure {
  readonly name: string;
  readonly unit: string;
  /** What each finished file may cost for good: it is remembered. In units. */
  readonly perFile: number;
  /** What it may move by without saying anything, in units. */
  readonly noise: number;
  readonly points: (readonly [seconds: number, value: number])[];
}

/** How a measure moved over a run, its start left out. */
export interface Growth {
  readonly measure: Measure;
  readonly median: number;
  /** By how much it grew in all, along the line that fits best. */
  readonly grown: number;
  /** What was excused: a share of the median, the noise, and what files may cost. */
  readonly allowed: number;
  readonly isFlat: boolean;
}

/** The first part of a run is left out: caches fill, code is compiled. */
const WARM_UP = 0.3;
const SHARE = 0.05;

/**
 * Whether a measure is flat. The slope is the median of the slopes between all pairs (Theil and Sen), which neither a
 * peak nor a dip moves; what counts is the trend, not how much there is.
 *
 * @param files that were finished within the part that is looked at
 */
export function growthOf(measure: Measure, files: number): Growth {
  const end = measure.points.at(-1)?.[0] ?? 0;
  const points = measure.points.filter(([seconds]) => seconds >= end * WARM_UP);
  const slopes: number[] = [];
  for (const [index, [x, y]] of points.entries())
    for (const [otherX, otherY] of points.slice(index + 1)) if (otherX > x) slopes.push((otherY - y) / (otherX - x));
  const length = (points.at(-1)?.[0] ?? 0) - (points[0]?.[0] ?? 0);
  const grown = median(slopes) * length;
  const level = median(points.map(([, value]) => value));
  const allowed = level * SHARE + measure.noise + measure.perFile * files * (1 - WARM_UP);
  return { measure, median: level, grown, allowed, isFlat: grown <= allowed };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
