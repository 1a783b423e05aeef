import { describe, expect, it } from "vitest";
import { type ContentReader, contentMark, readStretch, tellingMark } from "./fingerprint.ts";

/** Content that gives at most `most` bytes a read. */
function contentOf(bytes: Buffer, most = 7): ContentReader {
  return {
    read: async (into, intoOffset, length, offset) =>
      offset >= bytes.length
        ? 0
        : bytes.copy(into, intoOffset, offset, Math.min(bytes.length, offset + Math.min(length, most))),
  };
}

const bytes = Buffer.from(Array.from({ length: 3000 }, (_, index) => (index * 31 + (index >> 8)) % 256));

describe("contentMark", () => {
  it("holds the length and a hash of 128 bits", () => {
    const mark = contentMark(Buffer.from("abc"));
    expect(mark).toEqual({ length: 3, hash: "ba7816bf8f01cfea414140de5dae2223" });
    expect(contentMark(Buffer.from("abd")).hash).not.toBe(mark.hash);
  });
});

describe("tellingMark", () => {
  it("of bytes that nobody wrote tells nothing", () => {
    expect(tellingMark(Buffer.alloc(256)).length).toBe(0);
    expect(tellingMark(Buffer.alloc(0)).length).toBe(0);
    const last = Buffer.alloc(256);
    last[255] = 1;
    expect(tellingMark(last)).toEqual(contentMark(last));
  });
});

describe("readStretch", () => {
  it("reads what is asked for in as many reads as it takes, and less where the content ends", async () => {
    const handle = contentOf(bytes);
    expect(await readStretch(handle, 0, 1024)).toEqual(bytes.subarray(0, 1024));
    expect(await readStretch(handle, 2900, 200)).toEqual(bytes.subarray(2900));
    expect(await readStretch(handle, 4000, 10)).toHaveLength(0);
    expect(await readStretch(handle, 5, -3)).toHaveLength(0);
  });
});
