import { describe, expect, it } from "vitest";
import { Arrivals } from "./arrivals.ts";

/** Counts references. */
class CountedMemory {
  readonly byteLength = 1;
  references = 1;
  retain(): void {
    this.references += 1;
  }
  release(): void {
    this.references -= 1;
  }
}

function arrive(arrivals: Arrivals, sequence: number, consumerSequence: number, deliveries = 1, isAlone = false) {
  const body = Buffer.from("x");
  const arrival = { sequence, consumerSequence, deliveries, reply: `r${sequence}`, subject: "s", body };
  return arrivals.add(arrival, body, new CountedMemory(), isAlone);
}

const rangesOf = (arrivals: Arrivals) =>
  arrivals.takeAll().map(({ ranges }) => ranges.map(({ start, end }) => [start, end]));

describe("Arrivals", () => {
  it("claim the numbers between two first deliveries in a row: they match nothing", () => {
    const arrivals = new Arrivals(0);
    arrive(arrivals, 3, 1);
    arrive(arrivals, 7, 2);
    expect(rangesOf(arrivals)).toEqual([[[0, 8]]]);
    expect(arrivals.lastHole).toBe(0);
  });

  it("leave numbers open that may be another agent's, and say that there are such", () => {
    const arrivals = new Arrivals(0);
    arrive(arrivals, 1, 1);
    arrive(arrivals, 3, 3);
    arrive(arrivals, 4, 4);
    expect(rangesOf(arrivals)).toEqual([
      [
        [0, 2],
        [3, 5],
      ],
    ]);
    expect(arrivals.lastHole).toBe(3);
  });

  it("claim nothing around a message that is delivered again", () => {
    const arrivals = new Arrivals(10);
    arrive(arrivals, 10, 21, 2);
    arrive(arrivals, 12, 22, 2);
    expect(rangesOf(arrivals)).toEqual([
      [
        [10, 11],
        [12, 13],
      ],
    ]);
  });

  it("begin a new batch where the order of the stream is broken, and around one that must be alone", () => {
    const arrivals = new Arrivals(0);
    arrive(arrivals, 5, 1);
    arrive(arrivals, 2, 2, 2);
    arrive(arrivals, 6, 3, 9, true);
    arrive(arrivals, 7, 4);
    expect(arrivals.takeAll().map(({ messages }) => messages.map(({ number }) => number))).toEqual([
      [5],
      [2],
      [6],
      [7],
    ]);
  });
});
