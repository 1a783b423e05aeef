import { describe, expect, it } from "vitest";
import type { StageContext } from "../stage/index.ts";
import { contractBatch } from "../testing/transform-contract.ts";
import { filter } from "./filter.ts";

describe("filter", () => {
  it("keeps the records that meet the condition, as they are", async () => {
    const transform = await filter.open(filter.options.parse({ condition: "message =~ '^[ac]$'" }), {} as StageContext);
    const { records } = contractBatch(["a", "b", "c"]);
    const result = await transform.apply(records);
    expect(result.kept).toEqual([records[0], records[2]]);
    expect(result.rejected ?? []).toEqual([]);
  });

  it("reports a mistake in the condition when the configuration is checked, with a caret", () => {
    const checked = filter.options.safeParse({ condition: "level = 'x'" });
    expect(checked.error?.issues[0]).toMatchObject({
      path: ["condition"],
      message: "column 7: = is written == here\n  level = 'x'\n        ^",
    });
  });
});
