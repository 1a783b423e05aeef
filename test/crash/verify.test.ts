import { describe, expect, it } from "vitest";
import { verify } from "./verify.ts";

const written = new Map([
  ["a", ["a 1 x", "a 2 x", "a 3 x"]],
  ["b", ["b 1 y"]],
]);
const problems = (arrived: string[], allowRepeats = false) => verify(written, arrived, { allowRepeats }).problems;

describe("verify", () => {
  it("finds nothing where each line came once, in order within its file", () => {
    expect(problems(["a 1 x", "b 1 y", "a 2 x", "a 3 x"])).toEqual([]);
  });

  it("names what is missing, doubled, out of order or foreign", () => {
    expect(problems(["a 1 x", "b 1 y"])).toEqual(["missing: a 2 to 3 of 3"]);
    expect(problems(["a 1 x", "a 2 x", "a 1 x", "a 3 x", "b 1 y"])).toEqual(["duplicate: a 1, again at output line 3"]);
    expect(problems(["a 2 x", "a 1 x", "a 3 x", "b 1 y"])).toEqual([
      "out of order: a 1 comes after 2, at output line 2",
    ]);
    expect(problems(["a 1 x", "a 2", "a 2 x", "a 3 x", "b 1 y"])).toEqual(['output line 2 was never written: "a 2"']);
  });

  it("asks nothing of the place of late lines, but that they come", () => {
    const late = new Set(["a 1 x"]);
    expect(verify(written, ["a 2 x", "a 1 x", "a 3 x", "b 1 y"], { allowRepeats: false, late }).problems).toEqual([]);
    expect(verify(written, ["a 2 x", "a 3 x", "b 1 y"], { allowRepeats: false, late }).problems).toHaveLength(1);
  });

  it("counts repeats where they are allowed, and still wants the first comings in order", () => {
    const verdict = verify(written, ["a 1 x", "a 2 x", "a 1 x", "a 2 x", "a 3 x", "b 1 y"], { allowRepeats: true });
    expect(verdict).toMatchObject({ problems: [], duplicates: 2 });
    expect(problems(["a 1 x", "a 3 x", "a 2 x", "b 1 y"], true)).toHaveLength(1);
  });
});
