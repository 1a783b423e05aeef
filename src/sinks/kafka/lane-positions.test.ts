import { describe, expect, it } from "vitest";
import { LanePositions } from "./lane-positions.ts";

const lane = { source: "app", file: "a", way: "" };

describe("LanePositions", () => {
  it("say what was there and what is added, and note nothing before it is written", () => {
    const positions = new LanePositions();
    positions.restore({ claim: undefined, stale: [], lanes: [{ lane, value: { prefix: 10, ranges: [] } }] });
    expect(positions.with(lane, [{ start: 10, end: 20 }])).toEqual({ prefix: 20, ranges: [] });
    expect(positions.positions[0]!.value).toEqual({ prefix: 10, ranges: [] });
    positions.add(lane, [{ start: 10, end: 20 }]);
    expect(positions.positions[0]!.value).toEqual({ prefix: 20, ranges: [] });
  });

  it("are cut down to what our own store does not know, once they have many holes", () => {
    const positions = new LanePositions();
    for (let hole = 0; hole < 70; hole += 1) positions.add(lane, [{ start: hole * 10 + 5, end: hole * 10 + 9 }]);
    positions.beginBarrier();
    // Written while the barrier is under way: the store does not have it yet.
    positions.add(lane, [{ start: 1000, end: 1001 }]);
    positions.committed();
    expect(positions.positions[0]!.value).toEqual({ prefix: 0, ranges: [{ start: 1000, end: 1001 }] });
  });

  it("forget a file that nothing came from between two commits", () => {
    const positions = new LanePositions();
    positions.add(lane, [{ start: 0, end: 1 }]);
    for (let commits = 0; commits < 2; commits += 1) {
      positions.beginBarrier();
      positions.committed();
    }
    expect(positions.positions).toEqual([]);
  });
});
