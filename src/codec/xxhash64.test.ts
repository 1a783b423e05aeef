import { describe, expect, it } from "vitest";
import { XxHash64 } from "./xxhash64.ts";

function hashOf(...parts: Uint8Array[]): string {
  const hash = new XxHash64();
  for (const part of parts) hash.update(part);
  return hash.digest().toString(16).padStart(16, "0");
}

describe("XxHash64", () => {
  it("gives the published values", () => {
    expect(hashOf()).toBe("ef46db3751d8e999");
    expect(hashOf(Buffer.from("a"))).toBe("d24ec4f1a98c6e5b");
    expect(hashOf(Buffer.from("abc"))).toBe("44bc2cf5ad770999");
    expect(hashOf(Buffer.from("Nobody inspects the spammish repetition"))).toBe("fbcea83c8a378bf1");
  });

  it("gives the same value however the bytes are split", () => {
    const bytes = Buffer.from(Array.from({ length: 300 }, (_, index) => (index * 7) % 251));
    for (let length = 0; length <= bytes.length; length += 1) {
      const whole = hashOf(bytes.subarray(0, length));
      for (const cut of [1, 31, 32, 33, 64, 100]) {
        expect(hashOf(bytes.subarray(0, Math.min(cut, length)), bytes.subarray(Math.min(cut, length), length))).toBe(
          whole,
        );
      }
    }
  });
});
