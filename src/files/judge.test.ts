import { describe, expect, it } from "vitest";
import { contentMark, EMPTY_MARK } from "./fingerprint.ts";
import { judge, type KnownContent } from "./judge.ts";

function contentOf(bytes: Buffer) {
  return {
    read: async (into: Buffer, intoOffset: number, length: number, offset: number) =>
      offset >= bytes.length ? 0 : bytes.copy(into, intoOffset, offset, Math.min(bytes.length, offset + length)),
  };
}

const header = Buffer.alloc(1200, "h");
const one = Buffer.concat([header, Buffer.from("one ".repeat(200))]);
const other = Buffer.concat([header, Buffer.from("two ".repeat(300))]);

function known(bytes: Buffer, end: number, given = end): KnownContent {
  const mark = end === 0 ? EMPTY_MARK : contentMark(bytes.subarray(Math.max(0, end - 256), end));
  return { evidence: { fingerprint: contentMark(bytes.subarray(0, 1024)), guard: { end, mark } }, given };
}

const verdict = (bytes: Buffer, of: KnownContent) => judge(contentOf(bytes), bytes.length, of);

describe("judge", () => {
  it("knows content by its first bytes and those before the furthest position", async () => {
    expect(await verdict(one, known(one, 1800))).toBe("same");
    expect(await verdict(Buffer.concat([one, Buffer.from("and more")]), known(one, 1800))).toBe("same");
  });

  it("says of equal first bytes alone that they prove nothing", async () => {
    expect(await verdict(other, known(one, 0))).toBe("alike");
    expect(await verdict(other, known(one, 1800))).toBe("other");
  });

  it("says of what ends before it can tell that it is shorter", async () => {
    expect(await verdict(one.subarray(0, 500), known(one, 1800))).toBe("shorter");
    expect(await verdict(one.subarray(0, 1700), known(one, 1800))).toBe("shorter");
  });

  it("wants all that was given out, also where the guard ends before", async () => {
    expect(await verdict(one.subarray(0, 1700), known(one, 1500, 1800))).toBe("shorter");
    expect(await judge(contentOf(one.subarray(0, 1700)), undefined, known(one, 1500, 1800))).toBe("shorter");
    expect(await judge(contentOf(one), undefined, known(one, 1500, 1800))).toBe("same");
  });
});
