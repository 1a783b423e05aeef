import { CHART_STYLE, escaped, lineChart } from "./line-chart.ts";
import { describeFaults } from "./story.ts";
import type { Ingredient } from "./subject.ts";
import type { TrialResult } from "./trial.ts";

const WORDS: { readonly [ingredient in Ingredient]: string } = {
  rename_create: "renamed, created anew",
  rename_compress: "renamed and compressed at once",
  rename_compress_older: "renamed, compressed one rotation later",
  copytruncate: "copied and truncated",
  copytruncate_compress: "copied, truncated and compressed",
  truncate: "truncated in place and written again",
  delete_create: "deleted, created anew",
  editor_save: "saved by an editor",
  switch_symlink: "symlink led elsewhere",
  kills: "kill -9",
  stops: "SIGSTOP",
  moods: "bad moods of the receiver",
  links: "hard links made",
  alias: "symlinks to live logs moved",
  disk: "full disk",
  clock: "clock jumps",
};

interface ReportRow {
  readonly name: string;
  readonly value: string;
}

/** The report of a run, as rows; the text and the page say the same. */
function rowsOf(result: TrialResult, skipped: readonly string[]): ReportRow[] {
  const { verdict, ledger, seconds, seed, starts, peakMiB, settledMs, done } = result;
  const told = result.events.filter(({ event }) => event === "gap").length;
  const repeats = result.events.filter(({ event }) => event === "repeat").length;
  return [
    { name: "agent", value: result.subject.name },
    { name: "seed", value: String(seed) },
    {
      name: "duration",
      value: `${seconds.toFixed(0)} s, ${(settledMs / 1000).toFixed(1)} s of it until the last line was there`,
    },
    {
      name: "lines written",
      value: `${count(ledger.lines)} in ${count(ledger.generations)} generations of ${ledger.families.length} logs`,
    },
    ...verdict.figures.map(({ sink, isExact, arrived, lost, twice, outOfOrder, foreign, told: excused }) => ({
      name: `sink ${sink}`,
      value:
        `${count(arrived)} arrived, ${count(lost)} lost, ${count(twice)} twice` +
        (isExact ? `, ${count(outOfOrder)} out of order, ${count(foreign)} torn` : " (at least once is promised)") +
        (excused > 0 ? `; ${count(excused)} destroyed out of reach` : ""),
    })),
    ...[...done].sort(([, a], [, b]) => b - a).map(([what, times]) => ({ name: WORDS[what], value: count(times) })),
    { name: "starts of the agent", value: count(starts) },
    ...(peakMiB > 0 ? [{ name: "most memory of the agent", value: `${peakMiB.toFixed(0)} MiB` }] : []),
    ...(result.subject.tellsGaps ? [{ name: "its events", value: `${told} gap, ${repeats} repeat` }] : []),
    ...skipped.map((what) => ({ name: "SKIPPED", value: what })),
    ...result.subject.notes.map((note) => ({ name: "settings", value: note })),
  ];
}

function headline(result: TrialResult): string {
  const { figures } = result.verdict;
  const sum = (of: (each: (typeof figures)[number]) => number) => figures.reduce((total, each) => total + of(each), 0);
  const lost = sum(({ lost: each }) => each);
  const twice = sum(({ isExact, twice: each }) => (isExact ? each : 0));
  const promised = figures.some(({ isExact }) => isExact) ? `${count(twice)} twice where once is promised` : "";
  const verdict = [`${count(lost)} lost`, promised].filter((part) => part !== "").join(", ");
  return `${result.isRight ? "RIGHT" : "WRONG"}: ${verdict}`;
}

/** The whole report as text. */
export function textReport(result: TrialResult, skipped: readonly string[], folder: string): string {
  const rows = rowsOf(result, skipped);
  const width = Math.max(...rows.map(({ name }) => name.length));
  const lines = [headline(result), "", ...rows.map(({ name, value }) => `${name.padEnd(width)}  ${value}`)];
  if (!result.isRight) lines.push("", describeFaults(result, folder));
  return `${lines.join("\n")}\n`;
}

/** The whole report as one page that needs nothing beside it. */
export function htmlReport(result: TrialResult, skipped: readonly string[], folder: string): string {
  const { samples, subject, happenings } = result;
  const startMs = happenings[0]?.atMs ?? 0;
  const marks = happenings.filter(({ what }) => what.startsWith("kill -9")).map(({ atMs }) => (atMs - startMs) / 1000);
  const chart = lineChart({
    title: "Lines written and arrived; strokes are kills",
    unit: "lines",
    marks,
    series: [
      { name: "written", points: samples.map(({ seconds, written }) => [seconds, written] as const) },
      ...subject.sinks.map(({ name }, index) => ({
        name,
        points: samples.map(({ seconds, arrived }) => [seconds, arrived[index] ?? 0] as const),
      })),
    ],
  });
  const behind = lineChart({
    title: "Lines on their way",
    unit: "lines",
    marks,
    series: subject.sinks.map(({ name }, index) => ({
      name,
      points: samples.map(
        ({ seconds, written, arrived }) => [seconds, Math.max(0, written - (arrived[index] ?? 0))] as const,
      ),
    })),
  });
  const rows = rowsOf(result, skipped).map(
    ({ name, value }) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`,
  );
  const faults = result.isRight ? "" : `<h2>What went wrong</h2><pre>${escaped(describeFaults(result, folder))}</pre>`;
  return page(
    `Torture of ${subject.name}, seed ${result.seed}`,
    `<p class="${result.isRight ? "right" : "wrong"}">${escaped(headline(result))}</p>
<table>${rows.join("\n")}</table>
${chart}${behind}${faults}`,
  );
}

/** One page around a body. */
export function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title>
<style>body{font:15px/1.45 system-ui,sans-serif;color:#222;max-width:780px;margin:2em auto;padding:0 1em}
h1{font-size:1.35em}h2{font-size:1.1em}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.18em .6em .18em 0;border-bottom:1px solid #eee}th{font-weight:500;color:#555;width:15em}
.right,.wrong{font-size:1.2em;font-weight:600;padding:.4em .6em;border-radius:.3em}.right{background:#dcfce7;color:#14532d}.wrong{background:#fee2e2;color:#7f1d1d}
pre{font-size:12px;overflow-x:auto;background:#f6f6f6;padding:.6em}
${CHART_STYLE}</style></head>
<body><h1>${escaped(title)}</h1>
${body}
</body></html>
`;
}

function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}
