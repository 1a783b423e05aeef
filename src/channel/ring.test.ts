import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Ring } from "./ring.ts";

describe("Ring", () => {
  it("gives back in order whatever was pushed, across growth and wrapping", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constant("push"), fc.nat(5))), fc.boolean(), (steps, isWeighed) => {
        const ring = new Ring<number>(64, isWeighed);
        const model: number[] = [];
        let next = 0;
        for (const step of steps) {
          if (step === "push") {
            if (model.length === 64) continue;
            if (isWeighed) ring.pushWeighed(next, next % 7, next % 3);
            else ring.push(next);
            model.push(next);
            next += 1;
          } else {
            const count = Math.min(step as number, model.length);
            const taken: number[] = [];
            taken.push(...ring.shiftMany(count));
            expect(taken).toEqual(model.splice(0, count));
          }
          expect(ring.length).toBe(model.length);
          expect(ring.bytes).toBe(isWeighed ? model.reduce((sum, value) => sum + (value % 7), 0) : 0);
          expect(ring.records).toBe(isWeighed ? model.reduce((sum, value) => sum + (value % 3), 0) : model.length);
        }
        while (model.length > 0) expect(ring.shift()).toBe(model.shift());
        expect(ring.length).toBe(0);
      }),
    );
  });

  it("keeps more values than it had slots at first", () => {
    const ring = new Ring<number>(1000, true);
    for (let value = 0; value < 1000; value += 1) ring.pushWeighed(value, 2, 1);
    expect(ring.bytes).toBe(2000);
    for (let value = 0; value < 1000; value += 1) expect(ring.shift()).toBe(value);
    expect(ring.bytes).toBe(0);
  });
});
