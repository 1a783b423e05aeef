import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { answerOf, LineCutter } from "./answer-lines.ts";

/** The lines that come out of `bytes`, cut where `cuts` say. */
function cut(bytes: Buffer, cuts: readonly number[], maxBytes: number, goesOn = true): string[] {
  const lines: string[] = [];
  const cutter = new LineCutter(
    maxBytes,
    (line) => {
      lines.push(line);
      return line !== "stop";
    },
    () => {
      lines.push("(too long)");
      return goesOn;
    },
  );
  const places = [0, ...cuts.map((at) => at % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (let at = 1; at < places.length; at += 1) cutter.push(bytes.subarray(places[at - 1], places[at]));
  return lines;
}

describe("LineCutter", () => {
  it("gives the same lines however the bytes come, and none longer than allowed", () => {
    const line = fc.string({ unit: fc.constantFrom("a", "ü", "\n", "{"), maxLength: 30 });
    const property = fc.property(line, fc.array(fc.nat(60)), (text, cuts) => {
      const whole = text.split("\n").slice(0, -1);
      const rest = text.split("\n").at(-1)!;
      const expected = whole.map((each) => (Buffer.byteLength(each) > 8 ? "(too long)" : each));
      if (Buffer.byteLength(rest) > 8) expected.push("(too long)");
      expect(cut(Buffer.from(text), cuts, 8)).toEqual(expected);
    });
    fc.assert(property, { numRuns: 300 });
  });

  it("looks at nothing behind a line that ends it", () => {
    expect(cut(Buffer.from("a\nstop\nb\n"), [1, 3, 7], 100)).toEqual(["a", "stop"]);
    expect(cut(Buffer.from("a\nmuch too long\nb\n"), [1, 3, 7], 4, false)).toEqual(["a", "(too long)"]);
  });
});

describe("answerOf", () => {
  it("reads what the contract allows", () => {
    expect(answerOf('{"id":"a","ok":true}')).toEqual({ id: "a", ok: true, events: 0 });
    expect(answerOf('{"id":"a","ok":true,"events":[{},{}]}')).toEqual({ id: "a", ok: true, events: 2 });
    expect(answerOf('{"id":"a","error":"odd","retry":false}')).toEqual({
      id: "a",
      ok: false,
      error: "odd",
      retry: false,
    });
    expect(answerOf('{"id":"a","error":""}')).toEqual({ id: "a", ok: false, error: "", retry: true });
    expect(answerOf('{"id":"a","ok":false,"error":"odd"}')).toMatchObject({ ok: false, error: "odd" });
  });

  it.each([
    ["debug: here", "no JSON"],
    ["7", "no object"],
    ["[]", "no object"],
    ["null", "no object"],
    ['{"ok":true}', '"id"'],
    ['{"id":1,"ok":true}', '"id"'],
    ['{"id":"a"}', 'neither "ok"'],
    ['{"id":"a","ok":"yes"}', 'neither "ok"'],
    ['{"id":"a","ok":true,"error":"odd"}', '"ok" and "error"'],
    ['{"id":"a","ok":true,"events":{}}', "no list"],
    ['{"id":"a","error":"odd","retry":"no"}', "neither true nor false"],
  ])("says why %s is none", (line, why) => {
    expect(answerOf(line)).toContain(why);
  });

  it("shows the beginning of a long line only", () => {
    const told = answerOf("x".repeat(10_000)) as string;
    expect(told.length).toBeLessThan(200);
  });
});
