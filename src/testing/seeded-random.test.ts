import { describe, expect, it } from "vitest";
import { SeededRandom } from "./seeded-random.ts";

describe("SeededRandom", () => {
  it("gives the same numbers for the same seed, and others for another", () => {
    const draw = (seed: number) => {
      const random = new SeededRandom(seed);
      return [random.next(), random.hex(8), random.int(1, 6), random.shuffle([1, 2, 3, 4, 5])];
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });

  it("spreads evenly over [0, 1), also for neighbouring seeds", () => {
    const buckets = new Array<number>(10).fill(0);
    for (let seed = 0; seed < 1000; seed += 1) {
      const random = new SeededRandom(seed);
      for (let draw = 0; draw < 10; draw += 1) buckets[Math.floor(random.next() * 10)]! += 1;
    }
    for (const count of buckets) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it("draws whole numbers with both ends, and picks by weight", () => {
    const random = new SeededRandom(1);
    const seen = new Set<number>();
    const picked = { often: 0, seldom: 0, never: 0 };
    for (let draw = 0; draw < 1000; draw += 1) {
      seen.add(random.int(1, 3));
      picked[random.weighted({ often: 9, seldom: 1, never: 0 })] += 1;
    }
    expect([...seen].sort()).toEqual([1, 2, 3]);
    expect(picked.never).toBe(0);
    expect(picked.often).toBeGreaterThan(picked.seldom * 4);
  });

  it("shuffles without losing anything, and hexes exactly the bytes asked for", () => {
    const random = new SeededRandom(3);
    expect(random.shuffle([1, 2, 3, 4]).sort()).toEqual([1, 2, 3, 4]);
    expect(random.hex(5)).toMatch(/^[0-9a-f]{10}$/);
    expect(() => random.pick([])).toThrow(RangeError);
  });
});
