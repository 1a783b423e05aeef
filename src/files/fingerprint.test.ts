import { describe, expect, it } from "vitest";
import {
  type ContentReader,
  contentMark,
  FINGERPRINT_BYTES,
  GUARD_BYTES,
  marksMatch,
  readFingerprint,
  readGuard,
} from "./fingerprint.ts";

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

async function entryAt(position: number, size = position) {
  const handle = contentOf(bytes);
  return {
    fingerprint: await readFingerprint(handle, size),
    guard: await readGuard(handle, position),
    guardEnd: position,
  };
}

describe("contentMark", () => {
  it("holds the length and a hash of 128 bits", () => {
    const mark = contentMark(Buffer.from("abc"));
    expect(mark).toEqual({ length: 3, hash: "ba7816bf8f01cfea414140de5dae2223" });
    expect(contentMark(Buffer.from("abd")).hash).not.toBe(mark.hash);
  });
});

describe("readFingerprint", () => {
  it("takes the first bytes, at most as many as asked, as the file had, and as there are", async () => {
    const handle = contentOf(bytes);
    expect(await readFingerprint(handle, 3000)).toEqual(contentMark(bytes.subarray(0, FINGERPRINT_BYTES)));
    expect(await readFingerprint(handle, 10)).toEqual(contentMark(bytes.subarray(0, 10)));
    expect(await readFingerprint(handle, 3000, 20)).toEqual(contentMark(bytes.subarray(0, 20)));
    expect((await readFingerprint(contentOf(bytes.subarray(0, 5)), 3000)).length).toBe(5);
    expect((await readFingerprint(handle, 0)).length).toBe(0);
  });
});

describe("readGuard", () => {
  it("takes the bytes that end at the position", async () => {
    const handle = contentOf(bytes);
    expect(await readGuard(handle, 2000)).toEqual(contentMark(bytes.subarray(2000 - GUARD_BYTES, 2000)));
    expect(await readGuard(handle, 100)).toEqual(contentMark(bytes.subarray(0, 100)));
    expect((await readGuard(handle, 0)).length).toBe(0);
  });
});

describe("marksMatch", () => {
  it("matches the same content, also when it has grown", async () => {
    for (const position of [0, 1, 255, 256, 257, 1024, 2999]) {
      const entry = await entryAt(position, Math.max(1, position));
      expect(await marksMatch(contentOf(bytes), entry)).toBe("match");
      if (position > 0) expect(await marksMatch(contentOf(bytes.subarray(0, position)), entry)).toBe("match");
    }
  });

  it("tells a byte that differs in the fingerprint or in the guard, and does not look between", async () => {
    const entry = await entryAt(2500);
    for (const [at, answer] of [
      [0, "mismatch"],
      [1023, "mismatch"],
      [1500, "match"],
      [2244, "mismatch"],
      [2499, "mismatch"],
      [2500, "match"],
    ] as const) {
      const changed = Buffer.from(bytes);
      changed[at] = changed[at]! ^ 1;
      expect(await marksMatch(contentOf(changed), entry), `byte ${at}`).toBe(answer);
    }
  });

  it("says shorter where the content ends before what was marked", async () => {
    const entry = await entryAt(2500);
    for (const size of [0, 500, 1023, 1024, 2300, 2499]) {
      expect(await marksMatch(contentOf(bytes.subarray(0, size)), entry), `${size} bytes`).toBe("shorter");
    }
  });

  it("says mismatch for other first bytes, however short the rest is", async () => {
    expect(await marksMatch(contentOf(Buffer.alloc(1100)), await entryAt(2500))).toBe("mismatch");
  });

  it("never matches an empty fingerprint by content", async () => {
    expect(await marksMatch(contentOf(Buffer.alloc(0)), await entryAt(0))).toBe("mismatch");
    expect(await marksMatch(contentOf(bytes), await entryAt(0))).toBe("mismatch");
  });
});
