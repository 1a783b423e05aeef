import { z } from "zod";
import { defineTransform } from "../stage/index.ts";
import { compileCondition } from "./condition.ts";

/**
 * Keeps the records whose event meets a condition; the others end as `filtered`, which moves the position like every
 * other ending. The same record always gets the same answer, so a replay filters as the first run did. No record is ever
 * rejected: a field that is missing or of another type makes a comparison false (`!=`: true).
 */
export const filter = defineTransform({
  type: "filter",
  summary: "Keeps the records that meet a condition.",
  options: z.strictObject({
    condition: z
      .string()
      .superRefine((text, context) => {
        const { mistake } = compileCondition(text);
        if (mistake !== undefined) context.addIssue({ code: "custom", message: mistake });
      })
      .describe(
        "What to keep: dotted fields, literals, `== != < <= > >= =~`, `and or not`, `exists(x)`, parentheses. Comparisons with a missing field are false, only `!=` is true.",
      ),
  }),
  async open(options) {
    const compiled = compileCondition(options.condition);
    if (compiled.mistake !== undefined) throw new Error(`the options were not checked: ${compiled.mistake}`);
    const { matches } = compiled;
    return {
      apply: (records) => ({ kept: records.filter((record) => matches(record.event)) }),
    };
  },
});
