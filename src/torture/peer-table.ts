import type { TrialResult } from "./trial.ts";

/** Agents that were put through the same, one a row. */
export function peerTable(results: readonly TrialResult[]): {
  readonly heading: string[];
  readonly rows: (string | number)[][];
} {
  const heading = ["agent", "sink", "lines", "rotations", "kills", "lost", "twice", "until all was there", "peak MiB"];
  const rows = results.flatMap(({ subject, verdict, ledger, done, settledMs, peakMiB }) =>
    verdict.figures.map(({ sink, isExact, lost, twice, told }) => [
      subject.name,
      isExact ? `${sink} (exactly once)` : `${sink} (at least once)`,
      ledger.lines,
      (done.get("rename_create") ?? 0) + (done.get("copytruncate") ?? 0),
      done.get("kills") ?? 0,
      lost + told,
      twice,
      `${(settledMs / 1000).toFixed(1)} s`,
      Math.round(peakMiB),
    ]),
  );
  return { heading, rows };
}
