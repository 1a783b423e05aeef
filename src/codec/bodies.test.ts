import { describe, expect, it } from "vitest";
import { linesBatch } from "../testing/memory-stages.ts";
import { encodeBodies } from "./bodies.ts";

const batch = linesBatch("app", "a", 0, ["one", 'quoted "two"', ""]);
const textsOf = (encoding: "json" | "text" | "raw", of = batch) =>
  encodeBodies(of, encoding).map(({ body }) => body.toString());

describe("encodeBodies", () => {
  it("gives one body a record, without a newline or delimiter behind it", () => {
    expect(textsOf("raw")).toEqual(["one", 'quoted "two"', ""]);
    expect(textsOf("text")).toEqual(["one", 'quoted "two"', ""]);
    expect(textsOf("json").map((text) => (JSON.parse(text) as { message: string }).message)).toEqual([
      "one",
      'quoted "two"',
      "",
    ]);
  });

  it("keeps newlines that are inside a message", () => {
    const made = batch.withRecords([batch.records[0]!.with({ message: "two\nlines" }), batch.records[1]!]);
    expect(textsOf("text", made)).toEqual(["two\nlines", 'quoted "two"']);
    expect(textsOf("json", made)[0]).toBe('{"message":"two\\nlines"}');
    expect(encodeBodies(made, "json").map(({ record }) => record)).toEqual(made.records);
  });
});
