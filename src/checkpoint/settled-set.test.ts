import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Position, Range } from "../record/position.ts";
import { intersectPositions, SettledSet, unitePositions } from "./settled-set.ts";

const SPACE = 24;

const range = fc.tuple(fc.nat(SPACE - 1), fc.nat(SPACE - 1)).map(
  ([a, b]): Range => ({
    start: Math.min(a, b),
    end: Math.max(a, b),
  }),
);
const ranges = fc.array(range, { maxLength: 12 });
const position = ranges.map((list) => setOf(list).snapshot());

/** The model: one boolean for each offset. */
function naive(list: readonly Range[]): boolean[] {
  const ended = new Array<boolean>(SPACE).fill(false);
  for (const { start, end } of list) ended.fill(true, start, end);
  return ended;
}

function flagsOf({ prefix, ranges }: Position): boolean[] {
  return naive([{ start: 0, end: prefix }, ...ranges]);
}

function setOf(list: readonly Range[]): SettledSet {
  const set = new SettledSet(undefined, { maxRanges: 2 });
  for (const each of list) set.add(each);
  return set;
}

function expectCanonical({ prefix, ranges }: Position): void {
  let last = prefix;
  for (const { start, end } of ranges) {
    expect(start).toBeGreaterThan(last);
    expect(end).toBeGreaterThan(start);
    last = end;
  }
}

describe("SettledSet", () => {
  it("equals the naive set, whatever the order of endings, and stays sorted, disjoint and apart", () => {
    fc.assert(
      fc.property(ranges, (list) => {
        const snapshot = setOf(list).snapshot();
        expect(flagsOf(snapshot)).toEqual(naive(list));
        expectCanonical(snapshot);
      }),
    );
  });

  it("gives the same set for every order of the same endings", () => {
    fc.assert(
      fc.property(
        ranges.chain((list) => fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length }))),
        ([list, shuffled]) => {
          expect(setOf(shuffled).snapshot()).toEqual(setOf(list).snapshot());
        },
      ),
    );
  });

  it("moves the prefix only over what has ended, and never back", () => {
    fc.assert(
      fc.property(ranges, (list) => {
        const set = new SettledSet();
        const added: Range[] = [];
        let before = 0;
        for (const each of list) {
          set.add(each);
          added.push(each);
          const ended = naive(added);
          const firstGap = ended.indexOf(false);
          expect(set.prefix).toBe(firstGap < 0 ? SPACE : firstGap);
          expect(set.prefix).toBeGreaterThanOrEqual(before);
          before = set.prefix;
        }
      }),
    );
  });

  it("covers exactly the ranges whose every offset has ended", () => {
    fc.assert(
      fc.property(ranges, range, (list, asked) => {
        const ended = naive(list).slice(asked.start, asked.end);
        expect(setOf(list).covers(asked)).toBe(ended.every(Boolean));
        expect(setOf(list).coversAll([asked, ...list])).toBe(ended.every(Boolean));
      }),
    );
  });

  it("says that an offset is after it exactly when nothing from there on has ended", () => {
    fc.assert(
      fc.property(ranges, fc.nat(SPACE - 1), (list, offset) => {
        expect(setOf(list).isAfter(offset)).toBe(!naive(list).slice(offset).some(Boolean));
      }),
    );
  });

  it("is made again from its snapshot", () => {
    fc.assert(
      fc.property(position, (snapshot) => {
        expect(new SettledSet(snapshot).snapshot()).toEqual(snapshot);
      }),
    );
  });

  it("leaves a snapshot alone when more ends", () => {
    const set = setOf([{ start: 4, end: 6 }]);
    const snapshot = set.snapshot();
    set.add({ start: 0, end: 5 });
    expect(snapshot).toEqual({ prefix: 0, ranges: [{ start: 4, end: 6 }] });
    expect(set.snapshot()).toEqual({ prefix: 6, ranges: [] });
  });

  it("is full at its limit of ranges, still takes what is in flight, and has room again once a gap closes", () => {
    const set = setOf([{ start: 2, end: 3 }]);
    expect(set.isFull).toBe(false);
    set.add({ start: 4, end: 5 });
    expect(set.isFull).toBe(true);
    set.add({ start: 6, end: 7 });
    expect(set.rangeCount).toBe(3);
    set.add({ start: 0, end: 2 });
    set.add({ start: 3, end: 4 });
    expect(set.isFull).toBe(false);
    expect(set.snapshot()).toEqual({ prefix: 5, ranges: [{ start: 6, end: 7 }] });
  });

  it("has room for 256 ranges unless told otherwise", () => {
    const set = new SettledSet();
    for (let index = 1; index <= 255; index += 1) set.add({ start: index * 2, end: index * 2 + 1 });
    expect(set.isFull).toBe(false);
    set.add({ start: 600, end: 601 });
    expect(set.isFull).toBe(true);
  });

  it("refuses what is no range and is unchanged by it", () => {
    const set = setOf([{ start: 0, end: 4 }]);
    for (const bad of [
      { start: 5, end: 4 },
      { start: -1, end: 4 },
      { start: 0.5, end: 4 },
      { start: 0, end: Number.NaN },
      { start: 0, end: Number.POSITIVE_INFINITY },
      { start: 0, end: 2 ** 53 },
    ]) {
      expect(() => set.add(bad)).toThrow(RangeError);
      expect(() => set.covers(bad)).toThrow(RangeError);
    }
    expect(set.snapshot()).toEqual({ prefix: 4, ranges: [] });
  });

  it("takes files of many petabytes", () => {
    const set = new SettledSet({ prefix: 2 ** 52, ranges: [] });
    set.add({ start: 2 ** 52, end: 2 ** 52 + 1 });
    expect(set.prefix).toBe(2 ** 52 + 1);
  });
});

describe("unitePositions and intersectPositions", () => {
  it("equal the union and the intersection of the naive sets", () => {
    fc.assert(
      fc.property(fc.array(position, { minLength: 1, maxLength: 4 }), (positions) => {
        const flags = positions.map(flagsOf);
        const union = unitePositions(positions);
        const intersection = intersectPositions(positions);
        expect(flagsOf(union)).toEqual(flags[0]!.map((_, offset) => flags.some((each) => each[offset])));
        expect(flagsOf(intersection)).toEqual(flags[0]!.map((_, offset) => flags.every((each) => each[offset])));
        expectCanonical(union);
        expectCanonical(intersection);
      }),
    );
  });

  it("are empty for no positions, so that nothing is skipped by mistake", () => {
    expect(unitePositions([])).toEqual({ prefix: 0, ranges: [] });
    expect(intersectPositions([])).toEqual({ prefix: 0, ranges: [] });
  });
});
