import { describe, expect, it } from "vitest";
import type { Origin } from "../record/origin.ts";
import { RecentEndings } from "./recent-endings.ts";

const origin = (key: string, kind: Origin["kind"] = "replayable"): Origin => ({
  source: "in",
  key,
  kind,
  recordIdPrefix: key,
  file: key,
});

describe("RecentEndings", () => {
  it("keeps the ranges of a file as one, however many batches passed while nothing was committed", () => {
    const recent = new RecentEndings();
    for (let at = 0; at < 10_000; at += 1) {
      for (const key of ["a", "b"])
        recent.add({ origin: origin(key), ranges: [{ start: at * 10, end: at * 10 + 10 }], isDoubtful: false });
    }
    expect(recent.size).toBe(2);
    expect([...recent].map(({ origin: { key }, ranges }) => [key, ranges])).toEqual([
      ["a", [{ start: 0, end: 100_000 }]],
      ["b", [{ start: 0, end: 100_000 }]],
    ]);
  });

  it("keeps apart what is in doubt, and what lies apart", () => {
    const recent = new RecentEndings();
    recent.add({ origin: origin("a"), ranges: [{ start: 10, end: 20 }], isDoubtful: false });
    recent.add({ origin: origin("a"), ranges: [{ start: 20, end: 30 }], isDoubtful: true });
    recent.add({ origin: origin("a"), ranges: [{ start: 30, end: 40 }], isDoubtful: false });
    expect([...recent].map(({ ranges, isDoubtful }) => ({ ranges, isDoubtful }))).toEqual([
      { ranges: [{ start: 10, end: 20 }, { start: 30, end: 40 }], isDoubtful: false }, // biome-ignore format: one a line
      { ranges: [{ start: 20, end: 30 }], isDoubtful: true },
    ]);
  });

  it("keeps every ending that somebody upstream waits for", () => {
    const recent = new RecentEndings();
    expect(recent.isEmpty).toBe(true);
    const asked = origin("letter", "acknowledged");
    for (let times = 0; times < 2; times += 1)
      recent.add({ origin: asked, ranges: [{ start: 0, end: 5 }], isDoubtful: false });
    expect(recent.isEmpty).toBe(false);
    expect([...recent]).toHaveLength(2);
  });
});
