import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatPlace, parsePlace, placePrefix, type RecordPlace } from "./record-header.ts";

const format = (place: RecordPlace) => formatPlace(placePrefix(place), place);

describe("the header of a published record", () => {
  it("says what it was given, whatever names sources, files and ways have", () => {
    const name = fc.string({ unit: "grapheme", maxLength: 12 });
    fc.assert(
      fc.property(
        name,
        name,
        name,
        fc.nat(),
        fc.nat(),
        fc.nat(9),
        fc.boolean(),
        (source, file, way, start, length, split, isLast) => {
          const place = {
            sink: "0123abcd",
            epoch: 7,
            run: "9f",
            lane: { source, file, way },
            range: { start, end: start + length },
            split,
            isLast,
          };
          const text = format(place);
          expect(text).toMatch(/^[\x21-\x7e ]+$/);
          expect(parsePlace(text)).toEqual(place);
        },
      ),
      { numRuns: 30 },
    );
  });

  it("is not seen in what others write", () => {
    for (const text of [
      "",
      "2 a 1.b c d e 1-2 0",
      "1 a 1.b c d e 1-2",
      "1 a 1.b c d e 1-2 0 more",
      "1 a x c d e 1-2 0",
    ])
      expect(parsePlace(text)).toBeUndefined();
  });
});
