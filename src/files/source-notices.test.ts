import { describe, expect, it } from "vitest";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { SourceNotices } from "./source-notices.ts";

describe("SourceNotices", () => {
  it("says once a minute how many lines were cut, each of them once", async () => {
    const told: unknown[] = [];
    const clock = new ManualClock();
    const notices = new SourceNotices({ ...silentLogger, warn: (fields) => void told.push(fields) }, clock);
    const counters = { bytes: 0, records: 0, cutLines: 0, holeBytes: 0 };
    notices.cutLines(counters, 100);
    expect(told).toEqual([]);
    counters.cutLines = 3;
    notices.cutLines(counters, 100);
    counters.cutLines = 10;
    notices.cutLines(counters, 100);
    await clock.advance(60_000);
    notices.cutLines(counters, 100);
    await clock.advance(60_000);
    notices.cutLines(counters, 100);
    expect(told).toEqual([
      { lines: 3, max_line_bytes: 100 },
      { lines: 7, max_line_bytes: 100 },
    ]);
  });

  it("says once for all files that none can be entered into the store", () => {
    const told: unknown[] = [];
    const notices = new SourceNotices({ ...silentLogger, warn: (fields) => void told.push(fields) }, new ManualClock());
    for (const file of ["/a", "/b", "/c"]) notices.unsaved(file, new Error("ENOSPC"));
    expect(told).toEqual([{ file: "/a", error: "ENOSPC" }]);
  });
});
