import { describe, expect, it } from "vitest";
import { columns, table } from "./table.ts";

describe("table", () => {
  it("makes columns as wide as what is in them, numbers right-aligned", () => {
    const rows = [
      ["a", 7],
      ["longer", 1234],
    ];
    expect(table(["name", "n"], rows)).toBe("name       n\na          7\nlonger  1234\n");
    expect(table(["name", "n"], [])).toBe("name  n\n");
  });

  it("takes as many rows as there are", () => {
    const rows = Array.from({ length: 200_000 }, (_, index) => [index]);
    expect(table(["n"], rows)).toMatch(/\n199999\n$/);
  });

  it("goes on with the columns that the first rows made", () => {
    const line = columns(["name", "n"], [["first", 10]]);
    expect([line(["a", 7]), line(["longer", 7])]).toEqual(["a       7\n", "longer   7\n"]);
  });
});
