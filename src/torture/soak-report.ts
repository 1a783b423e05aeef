import { growthOf } from "./growth.ts";
import { escaped, lineChart } from "./line-chart.ts";
import { page } from "./report.ts";
import type { SoakCount, SoakResult } from "./soak.ts";
import { describeFaults } from "./story.ts";

interface SoakReport {
  readonly text: string;
  readonly html: string;
  readonly isRight: boolean;
}

/** What a soak gave, as text and as a page with pictures. */
export function soakReport(result: SoakResult, folder: string): SoakReport {
  const { trial, measures, counts } = result;
  const count = (what: SoakCount) => counts.get(what) ?? 0;
  const files = count("rotations") + count("names");
  const growths = measures.map((measure) => growthOf(measure, files));
  const grew = growths.filter(({ isFlat }) => !isFlat);
  const isRight = trial.isRight && grew.length === 0;
  const [exact, atLeastOnce] = trial.verdict.figures;
  const headline =
    `${isRight ? "RIGHT" : "WRONG"}: ${exact!.lost + atLeastOnce!.lost} lost, ${exact!.twice} twice, ` +
    (grew.length === 0 ? "nothing grew" : `${grew.map(({ measure }) => measure.name).join(", ")} grew`);
  const rows: (readonly [string, string])[] = [
    ["seed", String(trial.seed)],
    ["duration", `${trial.seconds.toFixed(0)} s`],
    ["lines", `${trial.ledger.lines} in ${trial.ledger.generations} generations and names`],
    ...trial.verdict.figures.map(
      ({ sink, arrived, lost, twice, outOfOrder, foreign }) =>
        [
          `sink ${sink}`,
          `${arrived} arrived, ${lost} lost, ${twice} twice, ${outOfOrder} out of order, ${foreign} torn`,
        ] as const,
    ),
    ...[...counts].map(([what, times]) => [what, String(times)] as const),
    ...growths.map(({ measure, median, grown, allowed, isFlat }) => {
      const each = (what: SoakCount) => `${perOne(grown / Math.max(1, count(what)))} a ${what.slice(0, -1)}`;
      const by = (["rotations", "names", "reloads", "scrapes"] as const).map(each).join(", ");
      const said = isFlat ? "flat" : `GREW BY ${rounded(grown)} (${rounded(allowed)} is excused): ${by}`;
      const level = `median ${rounded(median)}${measure.unit === "" ? "" : ` ${measure.unit}`}`;
      return [measure.name, `${level}, ${said}`] as const;
    }),
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const faults = trial.isRight ? "" : describeFaults(trial, folder);
  const text = `${[headline, "", ...rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`), faults].join("\n")}\n`;
  const charts = measures.map(({ name, unit, points }) =>
    lineChart({ title: name, unit: unit === "" ? "number" : unit, series: [{ name: "", points }] }),
  );
  const html = page(
    `Soak of tailrace, seed ${trial.seed}`,
    `<p class="${isRight ? "right" : "wrong"}">${escaped(headline)}</p>
<table>${rows.map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`).join("\n")}</table>
${charts.join("\n")}
${faults === "" ? "" : `<h2>What went wrong</h2><pre>${escaped(faults)}</pre>`}`,
  );
  return { text, html, isRight };
}

function rounded(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function perOne(value: number): string {
  return String(Number(value.toPrecision(2)));
}
