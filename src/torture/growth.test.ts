import { describe, expect, it } from "vitest";
import { SeededRandom } from "../testing/seeded-random.ts";
import { growthOf, type Measure } from "./growth.ts";

describe("growthOf", () => {
  const random = new SeededRandom(4);
  const series = (value: (second: number) => number, perFile = 0): Measure => ({
    name: "heap",
    unit: "MiB",
    perFile,
    noise: 0,
    points: Array.from({ length: 200 }, (_, at) => [at, value(at)] as const),
  });

  it("calls flat what swings, peaks, or settles after a start", () => {
    expect(
      growthOf(
        series(() => 50 + random.int(-20, 20)),
        0,
      ).isFlat,
    ).toBe(true);
    expect(
      growthOf(
        series((at) => (at === 199 ? 500 : 50)),
        0,
      ).isFlat,
    ).toBe(true);
    expect(
      growthOf(
        series((at) => Math.min(at, 40)),
        0,
      ).isFlat,
    ).toBe(true);
  });

  it("finds a slow growth below a large swing", () => {
    const growth = growthOf(
      series((at) => 50 + at * 0.1 + random.int(-8, 8)),
      0,
    );
    expect(growth.isFlat).toBe(false);
    expect(growth.grown).toBeGreaterThan(8);
    expect(growth.grown).toBeLessThan(20);
  });

  it("excuses what each finished file may cost", () => {
    const measure = series((at) => 50 + at * 0.1, 0.02);
    expect(growthOf(measure, 100).isFlat).toBe(false);
    expect(growthOf(measure, 1_000).isFlat).toBe(true);
  });
});
