import type { ProcessReport, ReportData } from "./report-data.ts";
import { PAGE_SCRIPT } from "./report-script.ts";
import { PAGE_STYLE } from "./report-style.ts";

/** Bands of the CPU plot that have a colour; the rest is one band. */
const BANDS = 10;
const HEAT_ROWS = 24;
const TABLE_ROWS = 200;

/**
 * The page: all in one file, nothing is fetched, and the tables are there without scripts. Names come from processes, so
 * all of them are escaped.
 */
export function reportPage(data: ReportData, source: { readonly file: string; readonly bytes: number }): string {
  const title = `Time slots: ${source.file}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${PAGE_STYLE}</style>
</head>
<body>
<header>
<h1>Time slots <span>${escaped(source.file)}</span></h1>
<p>${utc(data.startMs)} to ${utc(data.endMs)} UTC · ${seconds(data.endMs - data.startMs)} in slots of ${data.slotMs} ms</p>
${tiles(data)}
${missing(data)}
</header>
<main>
<section>
<h2>CPU by process</h2>
<p class="hint">Processors in use, each process a band. Point at the plot to see who ran.</p>
<canvas id="cpu" role="img" aria-label="CPU time of each process over time"></canvas>
<ul class="legend" id="legend"></ul>
</section>
<section>
<h2>Waiting for a processor</h2>
<p class="hint">How long the threads of a process were ready to run and had to wait, in each second; darker or brighter is longer.</p>
<canvas id="heat" role="img" aria-label="Heat map of run-queue wait by process and time"></canvas>
<div class="scale"><span id="scale-low"></span><canvas id="scale"></canvas><span id="scale-high"></span></div>
</section>
<section>
<h2>Worst slots</h2>
<p class="hint">The longest waits within a single slot of ${data.slotMs} ms, and who ran meanwhile. More than the slot's length means that several threads waited.</p>
${worstTable(data)}
</section>
<section>
<h2>Processes</h2>
<p class="hint">Noise is the time that others waited while it ran. The longest run is the time that it kept a processor to itself without a break. Click a heading to sort.</p>
${processTable(data)}
</section>
</main>
<div id="tip" hidden></div>
<script type="application/json" id="data">${inScript(plotData(data))}</script>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

function tiles(data: ReportData): string {
  const spanNs = (data.endMs - data.startMs) * 1e6;
  const all = [...data.processes, ...(data.others === undefined ? [] : [data.others])];
  const sum = (of: (process: ProcessReport) => number) => all.reduce((total, process) => total + of(process), 0);
  const facts: [string, string][] = [
    ["processes", formatCount(data.processes.length) + (data.others === undefined ? "" : "+")],
    ["slots", formatCount(data.slots)],
    ["rows", formatCount(data.rows)],
    ["processors in use", (sum(({ cpuNs }) => cpuNs) / spanNs).toFixed(2)],
    ["waiting on average", (sum(({ waitNs }) => waitNs) / spanNs).toFixed(2)],
    ["worst wait in a slot", `${ms(data.worst[0]?.row.waitNs ?? 0)} ms`],
  ];
  return `<dl class="tiles">${facts.map(([name, value]) => `<div><dd>${value}</dd><dt>${name}</dt></div>`).join("")}</dl>`;
}

function missing({ slots, incompleteSlots, lostEvents }: ReportData): string {
  if (incompleteSlots === 0 && lostEvents === 0) return `<p class="good">Every slot is complete.</p>`;
  const share = ((incompleteSlots / slots) * 100).toFixed(incompleteSlots / slots < 0.1 ? 2 : 0);
  return `<p class="bad">${formatCount(incompleteSlots)} of ${formatCount(slots)} slots (${share} %) are incomplete, ${formatCount(lostEvents)} events of the kernel were lost: what they show is too little.</p>`;
}

function worstTable({ worst }: ReportData): string {
  if (worst.length === 0) return "<p>Nobody waited.</p>";
  const rows = worst.map(({ startMs, row, ran, isComplete }) => {
    const others = ran.map((other) => `${processName(other)} <b>${ms(other.cpuNs)}</b>`).join(", ");
    const mark = isComplete ? "" : ` <span class="tag">incomplete</span>`;
    return `<tr><td>${clock(startMs)}${mark}</td><td>${processName(row)}</td><td class="n">${ms(row.waitNs)}</td><td class="n">${ms(row.cpuNs)}</td><td>${others || "nobody"}</td></tr>`;
  });
  return `<div class="wide"><table><thead><tr><th>UTC</th><th>process</th><th class="n">waited, ms</th><th class="n">ran, ms</th><th>who ran meanwhile, ms</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>`;
}

const COLUMNS: readonly {
  readonly heading: string;
  readonly of: (process: ProcessReport, spanNs: number) => number;
  readonly digits: number;
}[] = [
  { heading: "CPU, s", of: ({ cpuNs }) => cpuNs / 1e9, digits: 3 },
  { heading: "CPU, %", of: ({ cpuNs }, spanNs) => (cpuNs / spanNs) * 100, digits: 2 },
  { heading: "waited, ms", of: ({ waitNs }) => waitNs / 1e6, digits: 1 },
  { heading: "worst, ms", of: ({ worstWaitNs }) => worstWaitNs / 1e6, digits: 3 },
  { heading: "noise, ms", of: ({ noiseNs }) => noiseNs / 1e6, digits: 1 },
  { heading: "longest run, ms", of: ({ longestRunNs }) => longestRunNs / 1e6, digits: 0 },
  { heading: "switches", of: ({ switches }) => switches, digits: 0 },
  { heading: "system calls", of: ({ syscalls }) => syscalls, digits: 0 },
  { heading: "page faults", of: ({ faults }) => faults, digits: 0 },
  { heading: "block, KiB", of: ({ blockBytes }) => blockBytes / 1024, digits: 0 },
  { heading: "network, KiB", of: ({ netBytes }) => netBytes / 1024, digits: 0 },
];

function processTable(data: ReportData): string {
  const spanNs = (data.endMs - data.startMs) * 1e6;
  const heads = COLUMNS.map(({ heading }) => `<th class="n">${heading}</th>`).join("");
  const rows = data.processes.slice(0, TABLE_ROWS).map((process) => {
    const cells = COLUMNS.map(({ of, digits }) => {
      const value = of(process, spanNs);
      return `<td class="n" data-v="${value}">${grouped(value, digits)}</td>`;
    });
    return `<tr><td>${processName(process)}</td>${cells.join("")}<td class="dim">${escaped(process.cgroup)}</td></tr>`;
  });
  const left = data.processes.length - rows.length;
  const more = left > 0 ? `<p class="hint">${formatCount(left)} more used less.</p>` : "";
  return `<div class="wide"><table id="processes"><thead><tr><th>process</th>${heads}<th>cgroup</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>${more}`;
}

/** What the plots are drawn from: processors in use, and processors waited for, in each bin. */
function plotData({ startMs, binMs, endMs, processes, others }: ReportData): object {
  const bins = Math.min(600, Math.max(1, Math.ceil((endMs - startMs) / binMs - 1e-6)));
  const share = (byBin: Float64Array) =>
    Array.from(byBin.subarray(0, bins), (ns) => Number((ns / (binMs * 1e6)).toPrecision(3)));
  const rest = [...processes.slice(BANDS), ...(others === undefined ? [] : [others])];
  const restByBin = new Float64Array(bins);
  for (const { cpuByBin } of rest) for (let bin = 0; bin < bins; bin += 1) restByBin[bin]! += cpuByBin[bin]!;
  const bands = processes.slice(0, BANDS).map(({ comm, pid, cpuByBin }) => ({ name: comm, pid, cpu: share(cpuByBin) }));
  if (rest.length > 0) bands.push({ name: `${rest.length} others`, pid: 0, cpu: share(restByBin) });
  const waiting = [...processes]
    .filter(({ waitNs }) => waitNs > 0)
    .sort((one, other) => other.waitNs - one.waitNs)
    .slice(0, HEAT_ROWS)
    .map(({ comm, pid, waitByBin }) => ({ name: comm, pid, wait: share(waitByBin) }));
  return { startMs, binMs, bins, bands, waiting };
}

/** JSON that no text in it can break out of its element. */
const inScript = (value: object): string => JSON.stringify(value).replace(/</g, "\\u003c");

const processName = ({ comm, pid }: { comm: string; pid: number }) =>
  `${escaped(comm) || "?"} <span class="dim">${pid}</span>`;

const ENTITIES: { readonly [character: string]: string } = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

const escaped = (text: string): string => text.replace(/[&<>"']/g, (character) => ENTITIES[character]!);

const ms = (ns: number): string => (ns / 1e6).toFixed(3);

function grouped(value: number, digits: number): string {
  const [whole = "0", fraction] = value.toFixed(digits).split(".");
  return fraction === undefined ? formatCount(Number(whole)) : `${formatCount(Number(whole))}.${fraction}`;
}

const utc = (atMs: number): string => new Date(atMs).toISOString().slice(0, 23).replace("T", " ");
const clock = (atMs: number): string => new Date(atMs).toISOString().slice(11, 23);

function seconds(durationMs: number): string {
  if (durationMs < 120_000) return `${(durationMs / 1000).toFixed(3)} s`;
  const minutes = Math.floor(durationMs / 60_000);
  return minutes < 120 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

/** 1234567 as 1,234,567. */
const formatCount = (count: number): string => String(count).replace(/\B(?=(\d{3})+$)/g, ",");
