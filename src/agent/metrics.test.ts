import { describe, expect, it } from "vitest";
import { ChannelRegistry } from "../channel/index.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import { DurationHistogram } from "../telemetry/duration-histogram.ts";
import { memoryPlan } from "../testing/memory-plan.ts";
import { collectMetrics } from "./metrics.ts";

function lagRows(files: readonly { readonly path: string; readonly lagBytes: number; readonly phase?: string }[]) {
  const source = { status: () => ({ files: files.length, lagBytes: 0 }), files: () => files };
  const pipeline = { sources: [{ name: "app", bytes: 0, records: 0, source }], transforms: [], sinks: [] };
  return collectMetrics({
    channels: new ChannelRegistry(),
    plan: memoryPlan({ sources: [], sinks: [] }),
    pipeline: pipeline as unknown as Pipeline,
    commitSeconds: new DurationHistogram(),
    eventLoopLagSeconds: 0,
    version: "test",
  }).tailrace_file_lag_bytes.map(({ labels, value }) => [labels["file"], value]);
}

describe("tailrace_file_lag_bytes", () => {
  it("has a row for each path that is read, and none for what is only remembered", () => {
    const gone = Array.from({ length: 3000 }, (_, at) => ({ path: `/gone-${at}`, lagBytes: 0, phase: "finished" }));
    const read = [
      { path: "/a", lagBytes: 1, phase: "live" },
      { path: "/a", lagBytes: 5, phase: "rotated" },
      { path: "/b", lagBytes: 0 },
    ];
    expect(lagRows([...gone, ...read])).toEqual([
      ["/a", 6],
      ["/b", 0],
    ]);
    expect(lagRows(gone)).toEqual([["", 0]]);
  });
});
