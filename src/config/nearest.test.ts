import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { editDistance, nearest, suggestion } from "./nearest.ts";

describe("editDistance", () => {
  it("counts inserting, deleting, replacing and swapping neighbours as one each", () => {
    expect(editDistance("path", "pth")).toBe(1);
    expect(editDistance("path", "paths")).toBe(1);
    expect(editDistance("path", "pith")).toBe(1);
    expect(editDistance("path", "paht")).toBe(1);
    expect(editDistance("path", "Path")).toBe(0.5);
    expect(editDistance("", "abc")).toBe(3);
  });

  it("is symmetric, zero only for equal words, and at most the longer length", () => {
    const word = fc.string({ maxLength: 8 });
    fc.assert(
      fc.property(word, word, (a, b) => {
        const distance = editDistance(a, b);
        expect(distance).toBe(editDistance(b, a));
        expect(distance === 0).toBe(a === b);
        expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
      }),
    );
  });
});

describe("suggestion", () => {
  it("always names the nearest, and says when it is a likely one", () => {
    expect(nearest("inclde", ["exclude", "include"])).toEqual({ word: "include", isLikely: true });
    expect(suggestion("zzzz", ["api", "sinks"])).toBe("the nearest is `api`; there is api, sinks");
    expect(suggestion("x", [])).toBe("there is none to choose from");
  });
});
