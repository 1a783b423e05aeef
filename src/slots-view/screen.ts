import type { Board, BoardRow, SortKey, WorstSlot } from "./board.ts";

/** What paints a text; without colours it comes back as it is. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  green(text: string): string;
  cyan(text: string): string;
  inverse(text: string): string;
}

export interface ScreenOptions {
  readonly columns: number;
  readonly rows: number;
  readonly sortBy: SortKey;
  readonly slotMs: number;
  readonly nowMs: number;
  readonly paint: Paint;
}

const SPARKS = " ▁▂▃▄▅▆▇█";
const NAME_COLUMNS = 16;
const LEAST_SPARK = 12;
/** The bucket that is being filled is not shown. */
const BUCKETS_SHOWN = 47;
/** The process's number and its CPU. */
const LEAST_COLUMNS = 2;

interface BoardColumn {
  readonly heading: string;
  readonly width: number;
  readonly sort?: SortKey;
  readonly text: (row: BoardRow) => string;
}

const perMs = (ns: number): string => (ns / 1e6).toFixed(ns >= 1e9 ? 0 : ns >= 1e8 ? 1 : 2);
const whole = (count: number): string => shortened(Math.round(count));

const COLUMNS: readonly BoardColumn[] = [
  { heading: "PID", width: 8, text: ({ pid }) => String(pid) },
  { heading: "CPU %", width: 7, sort: "cpuNs", text: ({ rates }) => (rates.cpuNs / 1e7).toFixed(1) },
  { heading: "WAIT ms/s", width: 10, sort: "waitNs", text: ({ rates }) => perMs(rates.waitNs) },
  { heading: "WORST ms", width: 9, text: ({ rates }) => perMs(rates.worstWaitNs) },
  { heading: "NOISE ms/s", width: 11, sort: "noiseNs", text: ({ rates }) => perMs(rates.noiseNs) },
  { heading: "RUN ms", width: 7, text: ({ rates }) => whole(rates.longestRunNs / 1e6) },
  { heading: "SWITCH/s", width: 9, text: ({ rates }) => whole(rates.switches) },
  { heading: "SYSCALL/s", width: 10, text: ({ rates }) => whole(rates.syscalls) },
  { heading: "FAULT/s", width: 8, text: ({ rates }) => whole(rates.faults) },
];

/**
 * The screen as lines, no more than it has rows, none wider than it has columns:
 *
 *     header: clock, totals, what is missing
 *     a line for each process: its last second, and a sparkline of its last 12
 *     the worst slots of the last minute: who waited how long within one slot, and who ran meanwhile
 */
export function screenLines(board: Board, options: ScreenOptions): string[] {
  const { rows, paint, columns } = options;
  const worstCount = rows < 16 ? 0 : Math.min(8, Math.floor((rows - 8) / 3));
  const worst = board.worst(worstCount);
  const worstLines = worstCount === 0 ? 0 : worstCount + 2;
  const processes = board.rows(options.sortBy, Math.max(1, rows - 4 - worstLines));
  const layout = layoutFor(columns);
  const lines = [...header(board, options), heading(options, layout)];
  for (const row of processes) lines.push(processLine(row, layout, options));
  while (lines.length < rows - 1 - worstLines) lines.push("");
  if (worstCount > 0) {
    lines.push(
      "",
      paint.bold(cut(`WORST SLOTS of the last minute: waiting for a processor within ${options.slotMs} ms`, columns)),
    );
    for (const slot of worst) lines.push(worstLine(slot, options));
  }
  return lines.slice(0, rows - 1);
}

interface Layout {
  readonly shown: readonly BoardColumn[];
  /** Characters that are left for the sparkline. */
  readonly spark: number;
}

/** As many columns as leave room for a sparkline: its shape says more than one more number. */
function layoutFor(columns: number): Layout {
  const shown: BoardColumn[] = [];
  let left = columns - NAME_COLUMNS - 3;
  for (const column of COLUMNS) {
    if (left - column.width < LEAST_SPARK && shown.length >= LEAST_COLUMNS) break;
    shown.push(column);
    left -= column.width;
  }
  return { shown, spark: Math.max(0, left) };
}

function header(board: Board, { slotMs, nowMs, sortBy, paint, columns }: ScreenOptions): string[] {
  const { processes, slotsPerSecond, cpuNs, waitNs, lostEvents, incompleteSlots } = board.totals();
  const clock = new Date(nowMs).toISOString().slice(11, 19);
  const first = [
    `tailrace slots of ${slotMs} ms`,
    `${clock} UTC`,
    `${processes} processes`,
    `${whole(slotsPerSecond)} slots/s`,
    `CPU ${(cpuNs / 1e7).toFixed(0)} %`,
    `waiting ${perMs(waitNs)} ms/s`,
  ].join(" · ");
  const complete =
    lostEvents === 0 && incompleteSlots === 0
      ? paint.green("nothing is missing")
      : paint.red(
          cut(`${whole(incompleteSlots)} slots are incomplete, ${whole(lostEvents)} events were lost`, columns - 60),
        );
  const keys = (["cpuNs", "waitNs", "noiseNs"] as const)
    .map((key) => (key === sortBy ? paint.inverse(KEYS[key]) : KEYS[key]))
    .join(" ");
  return [paint.bold(cut(first, columns)), `${complete}   sort by ${keys}   quit: q`];
}

const KEYS: { readonly [key in SortKey]: string } = { cpuNs: "c:CPU", waitNs: "w:wait", noiseNs: "n:noise" };

function heading({ sortBy, paint, columns }: ScreenOptions, { shown, spark }: Layout): string {
  const titles = shown.map(({ heading: title, width, sort }) =>
    (sort === sortBy ? `>${title}` : title).padStart(width),
  );
  const last = spark < 10 ? "" : `  LAST ${(Math.min(spark, BUCKETS_SHOWN) / 4).toFixed(0)} s`;
  return paint.cyan(cut(`${"PROCESS".padEnd(NAME_COLUMNS)}${titles.join("")}${last}`, columns));
}

function processLine(row: BoardRow, { shown, spark }: Layout, { paint, columns }: ScreenOptions): string {
  const name = printable(row.comm)
    .slice(0, NAME_COLUMNS - 1)
    .padEnd(NAME_COLUMNS);
  const cells = shown.map(({ width, text }) => text(row).padStart(width)).join("");
  const history = row.history
    .slice(-spark)
    .map((share) => SPARKS[share <= 0 ? 0 : Math.min(8, Math.max(1, Math.ceil(share * 8)))])
    .join("");
  const line = cut(`${name}${cells}  `, columns);
  // More than a tenth of a second of waiting in each second is what one looks for.
  const painted = row.rates.waitNs >= 1e8 ? paint.yellow(line) : line;
  return spark === 0 ? painted : `${painted}${paint.green(history)}`;
}

function worstLine({ startMs, row, ran }: WorstSlot, { paint, columns }: ScreenOptions): string {
  const time = new Date(startMs).toISOString().slice(11, 23);
  const others = ran.map((other) => `${printable(other.comm)}[${other.pid}] ${perMs(other.cpuNs)} ms`).join(", ");
  const text = `${time}  ${printable(row.comm)}[${row.pid}] waited ${perMs(row.waitNs)} ms${others === "" ? "" : ` while ran: ${others}`}`;
  const line = cut(text, columns);
  return row.waitNs >= 1e6 ? paint.yellow(line) : line;
}

/** The same for who reads lines and no screen: one for each of the first processes. */
export function plainLines(board: Board, nowMs: number, sortBy: SortKey, count: number): string[] {
  const time = new Date(nowMs).toISOString().slice(11, 19);
  return board.rows(sortBy, count).map(({ comm, pid, rates }) => {
    const facts = [
      `cpu=${(rates.cpuNs / 1e7).toFixed(1)}%`,
      `wait=${perMs(rates.waitNs)}ms/s`,
      `worst=${perMs(rates.worstWaitNs)}ms`,
      `noise=${perMs(rates.noiseNs)}ms/s`,
      `run=${whole(rates.longestRunNs / 1e6)}ms`,
      `switches=${whole(rates.switches)}/s`,
      `syscalls=${whole(rates.syscalls)}/s`,
      `faults=${whole(rates.faults)}/s`,
    ];
    return `${time} ${printable(comm)}[${pid}] ${facts.join(" ")}`;
  });
}

/** A process may call itself anything, a control sequence of the terminal too. */
function printable(name: string): string {
  return name.replace(/[^\x20-\x7e\u00a0-\uffff]/gu, "?") || "?";
}

function cut(text: string, columns: number): string {
  return text.length <= columns ? text : text.slice(0, Math.max(0, columns));
}

/** 12345 as 12.3k. */
function shortened(count: number): string {
  if (count < 10_000) return String(count);
  return count < 999_950 ? `${(count / 1000).toFixed(1)}k` : `${(count / 1e6).toFixed(1)}M`;
}
