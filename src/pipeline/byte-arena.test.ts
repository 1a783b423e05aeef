import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteArena } from "./byte-arena.ts";

describe("ByteArena", () => {
  it("keeps every piece as it was until it is released, in any order", () => {
    const step = fc.record({ bytes: fc.integer({ min: 0, max: 400_000 }), release: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const arena = new ByteArena(2 * 1024 * 1024);
        const kept: { readonly fill: number; readonly piece: ReturnType<ByteArena["keep"]> }[] = [];
        for (const [index, { bytes, release }] of steps.entries()) {
          kept.push({ fill: index % 251, piece: arena.keep(Buffer.alloc(bytes, index % 251)) });
          if (release % 2 === 0) kept.splice(release % kept.length, 1)[0]!.piece.release();
          for (const { fill, piece } of kept) expect(piece.bytes.every((byte) => byte === fill)).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });

  it("uses a chunk again once nothing in it is needed", () => {
    const arena = new ByteArena(1024 * 1024);
    const seen = new Set<ArrayBufferLike>();
    for (let round = 0; round < 100; round += 1) {
      const piece = arena.keep(Buffer.alloc(300_000));
      seen.add(piece.bytes.buffer);
      piece.release();
    }
    expect(seen.size).toBeLessThanOrEqual(2);
  });

  it("has a place of its own for a piece that is larger than a chunk", () => {
    const arena = new ByteArena(1024 * 1024);
    const small = arena.keep(Buffer.from("small"));
    const large = arena.keep(Buffer.alloc(3 * 1024 * 1024, 7));
    expect(large.bytes.length).toBe(3 * 1024 * 1024);
    expect(small.bytes.toString()).toBe("small");
    large.release();
    small.release();
  });
});
