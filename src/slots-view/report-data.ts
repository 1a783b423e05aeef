import type { AsyncBuffer, FileMetaData } from "hyparquet";
import { ConfigError, errnoOf } from "../errors.ts";
import { blame, FullRun, ranMost, type Slot, type SlotRow } from "./time-slot.ts";

/** Points on the time axis of a plot; a screen shows hardly more. */
const BINS = 600;
const WORST_SLOTS = 40;
/** Processes that are kept apart while a file is read; beyond it, the half that used least becomes one. */
const MAX_PROCESSES = 4096;

/** What the page shows of a file. */
export interface ReportData {
  readonly startMs: number;
  readonly endMs: number;
  readonly binMs: number;
  readonly slotMs: number;
  readonly rows: number;
  readonly slots: number;
  readonly incompleteSlots: number;
  readonly lostEvents: number;
  /** By CPU time, most first. */
  readonly processes: readonly ProcessReport[];
  /** Short-lived and idle ones that were too many to keep apart. */
  readonly others: ProcessReport | undefined;
  readonly worst: readonly {
    readonly startMs: number;
    readonly row: SlotRow;
    readonly ran: readonly SlotRow[];
    readonly isComplete: boolean;
  }[];
}

export interface ProcessReport {
  readonly pid: number;
  readonly comm: string;
  readonly cgroup: string;
  cpuNs: number;
  waitNs: number;
  /** That others waited while it ran. */
  noiseNs: number;
  worstWaitNs: number;
  longestRunNs: number;
  switches: number;
  faults: number;
  syscalls: number;
  blockBytes: number;
  netBytes: number;
  /** Nanoseconds in each bin. */
  readonly cpuByBin: Float64Array;
  readonly waitByBin: Float64Array;
}

/** Columns that are read; the last five may be missing. */
const NEEDED = ["slot_start", "slot_ns", "pid", "comm", "cpu_ns", "runqueue_wait_ns"] as const;
const MORE = [
  "cgroup",
  "context_switches",
  "page_faults",
  "syscalls",
  "block_bytes",
  "net_sent_bytes",
  "net_received_bytes",
  "complete",
  "lost_events",
] as const;
type ColumnName = (typeof NEEDED)[number] | (typeof MORE)[number];

/** Every unit of time as nanoseconds: other programs write copies in microseconds. */
const PARSERS = {
  timestampFromMilliseconds: (ms: bigint) => ms * 1_000_000n,
  timestampFromMicroseconds: (us: bigint) => us * 1000n,
  timestampFromNanoseconds: (ns: bigint) => ns,
};

/**
 * Reads a Parquet file of time slots, one row group at a time.
 * @param progress is told the fraction of rows that are read
 * @throws ConfigError if it is no such file, or if a package is missing
 */
export async function readReport(
  path: string,
  file: AsyncBuffer,
  progress: (fraction: number) => void,
): Promise<ReportData> {
  const [reading, { compressors }] = await Promise.all([library("hyparquet"), library("hyparquet-compressors")]);
  const { parquetMetadataAsync, parquetScan } = reading;
  const metadata = await parquetMetadataAsync(file, { parsers: PARSERS }).catch((error: unknown) => {
    throw noReport(`${path} is no Parquet file that can be read: ${error instanceof Error ? error.message : error}`);
  });
  const present = new Set(metadata.schema.map(({ name }) => name));
  const missing = NEEDED.filter((name) => !present.has(name));
  if (missing.length > 0)
    throw noReport(`${path} holds no time slots: the columns ${missing.join(", ")} are not in it`);
  if (metadata.num_rows === 0n) throw noReport(`${path} holds no time slot`);
  const columns = [...NEEDED, ...MORE].filter((name) => present.has(name));
  const scan = await parquetScan({ file, metadata, columns, compressors, parsers: PARSERS });
  const read = (column: ColumnName, rowStart: number, rowEnd: number) =>
    present.has(column) ? scan.readColumn({ column, rowStart, rowEnd }) : Promise.resolve(undefined);
  const range = rangeIn(metadata) ?? (await rangeByReading(metadata, read));
  const report = new Report(range);
  let rowStart = 0;
  for (const { num_rows: count } of metadata.row_groups) {
    const rowEnd = rowStart + Number(count);
    const values = new Map<ColumnName, ArrayLike<unknown> | undefined>();
    for (const column of columns) values.set(column, await read(column, rowStart, rowEnd));
    report.add(values, Number(count));
    rowStart = rowEnd;
    progress(rowStart / Number(metadata.num_rows));
  }
  return report.finish();
}

async function library<Name extends "hyparquet" | "hyparquet-compressors">(
  name: Name,
): Promise<Name extends "hyparquet" ? typeof import("hyparquet") : typeof import("hyparquet-compressors")> {
  try {
    return (await (name === "hyparquet" ? import("hyparquet") : import("hyparquet-compressors"))) as never;
  } catch (error) {
    if (errnoOf(error) !== "ERR_MODULE_NOT_FOUND") throw error;
    throw noReport(`this needs a package that is not installed: npm install ${name}`);
  }
}

const noReport = (message: string) => new ConfigError([{ message }], "TR_USAGE");

interface TimeRange {
  readonly startNs: bigint;
  /** Of the last slot's start. */
  readonly lastNs: bigint;
}

/** From the statistics in the footer. */
function rangeIn({ row_groups: groups }: FileMetaData): TimeRange | undefined {
  let range: TimeRange | undefined;
  for (const { columns } of groups) {
    const chunk = columns.find(({ meta_data: data }) => data?.path_in_schema[0] === "slot_start");
    const { min_value: least, max_value: most } = chunk?.meta_data?.statistics ?? {};
    if (typeof least !== "bigint" || typeof most !== "bigint") return undefined;
    range = {
      startNs: range === undefined || least < range.startNs ? least : range.startNs,
      lastNs: range === undefined || most > range.lastNs ? most : range.lastNs,
    };
  }
  return range;
}

async function rangeByReading(
  { row_groups: groups }: FileMetaData,
  read: (column: ColumnName, rowStart: number, rowEnd: number) => Promise<ArrayLike<unknown> | undefined>,
): Promise<TimeRange> {
  let startNs: bigint | undefined;
  let lastNs = 0n;
  let rowStart = 0;
  for (const { num_rows: count } of groups) {
    const starts = (await read("slot_start", rowStart, rowStart + Number(count)))!;
    for (let row = 0; row < starts.length; row += 1) {
      const ns = starts[row] as bigint;
      if (startNs === undefined || ns < startNs) startNs = ns;
      if (ns > lastNs) lastNs = ns;
    }
    rowStart += Number(count);
  }
  return { startNs: startNs ?? 0n, lastNs };
}

class Report {
  readonly #startNs: bigint;
  readonly #startMs: number;
  readonly #lastNs: bigint;
  #binMs = 1;
  #slotNs = 0;
  #rows = 0;
  #slots = 0;
  #incompleteSlots = 0;
  #lostEvents = 0;
  #processes = new Map<string, Kept>();
  #others: Kept | undefined;
  #worst: ReportData["worst"][number][] = [];
  #open: { ns: bigint; isComplete: boolean; lostEvents: number; rows: SlotRow[] } | undefined;

  constructor({ startNs, lastNs }: TimeRange) {
    this.#startNs = startNs;
    this.#startMs = Number(startNs / 1000n) / 1000;
    this.#lastNs = lastNs;
  }

  add(values: ReadonlyMap<ColumnName, ArrayLike<unknown> | undefined>, count: number): void {
    const column = (name: ColumnName) => {
      const data = values.get(name);
      return (row: number) => Number(data?.[row] ?? 0);
    };
    const starts = values.get("slot_start")!;
    const names = values.get("comm")!;
    const cgroups = values.get("cgroup");
    const complete = values.get("complete");
    const [pid, cpu, wait] = [column("pid"), column("cpu_ns"), column("runqueue_wait_ns")];
    const [switches, faults, syscalls] = [column("context_switches"), column("page_faults"), column("syscalls")];
    const [block, sent, received] = [column("block_bytes"), column("net_sent_bytes"), column("net_received_bytes")];
    const lost = column("lost_events");
    if (this.#slotNs === 0) {
      this.#slotNs = column("slot_ns")(0) || 1_000_000;
      const spanMs = Number(this.#lastNs - this.#startNs) / 1e6 + this.#slotNs / 1e6;
      // As many whole slots in each, or plots would show the difference.
      const slotMs = this.#slotNs / 1e6;
      this.#binMs = slotMs * Math.max(1, Math.ceil(spanMs / slotMs / BINS));
    }
    for (let row = 0; row < count; row += 1) {
      const ns = starts[row] as bigint;
      if (this.#open?.ns !== ns) {
        this.#close();
        this.#open = { ns, isComplete: complete?.[row] !== false, lostEvents: lost(row), rows: [] };
      }
      this.#open!.rows.push({
        pid: pid(row),
        comm: String(names[row] ?? ""),
        cgroup: String(cgroups?.[row] ?? ""),
        cpuNs: cpu(row),
        waitNs: wait(row),
        switches: switches(row),
        faults: faults(row),
        syscalls: syscalls(row),
        blockBytes: block(row),
        netBytes: sent(row) + received(row),
      });
    }
    this.#rows += count;
  }

  finish(): ReportData {
    this.#close();
    const processes = [...this.#processes.values()].map(({ report }) => report);
    processes.sort((one, other) => other.cpuNs - one.cpuNs);
    return {
      startMs: this.#startMs,
      endMs: Number(this.#lastNs / 1000n) / 1000 + this.#slotNs / 1e6,
      binMs: this.#binMs,
      slotMs: this.#slotNs / 1e6,
      rows: this.#rows,
      slots: this.#slots,
      incompleteSlots: this.#incompleteSlots,
      lostEvents: this.#lostEvents,
      processes,
      others: this.#others?.report,
      worst: this.#worst,
    };
  }

  /** A slot is read when the first row of the next one is. */
  #close(): void {
    if (this.#open === undefined) return;
    const { ns, isComplete, lostEvents, rows } = this.#open;
    const sinceMs = Number(ns - this.#startNs) / 1e6;
    const slot: Slot = { startMs: this.#startMs + sinceMs, ns: this.#slotNs, isComplete, lostEvents, rows };
    this.#slots += 1;
    if (!isComplete) this.#incompleteSlots += 1;
    this.#lostEvents += lostEvents;
    const { noiseOf } = blame(slot);
    const bin = Math.min(BINS - 1, Math.floor(sinceMs / this.#binMs));
    rows.forEach((row, index) => {
      const kept = this.#of(row);
      addTo(kept.report, row, noiseOf(index), bin);
      kept.report.longestRunNs = Math.max(kept.report.longestRunNs, kept.run.add(slot, row.cpuNs));
      if (row.waitNs > 0) this.#consider(slot, row);
    });
    this.#open = undefined;
  }

  #of(row: SlotRow): Kept {
    const key = `${row.pid} ${row.comm}`;
    let kept = this.#processes.get(key);
    if (kept === undefined) {
      if (this.#processes.size >= MAX_PROCESSES) this.#foldLeast();
      kept = newProcess(row.pid, row.comm, row.cgroup);
      this.#processes.set(key, kept);
    }
    return kept;
  }

  #foldLeast(): void {
    const byCpu = [...this.#processes].sort(([, one], [, other]) => one.report.cpuNs - other.report.cpuNs);
    this.#others ??= newProcess(0, "others", "");
    for (const [key, { report }] of byCpu.slice(0, MAX_PROCESSES / 2)) {
      fold(this.#others.report, report);
      this.#processes.delete(key);
    }
  }

  #consider(slot: Slot, row: SlotRow): void {
    const least = this.#worst[WORST_SLOTS - 1];
    if (least !== undefined && row.waitNs <= least.row.waitNs) return;
    const { startMs, isComplete, rows } = slot;
    this.#worst.push({ startMs, row, ran: ranMost(rows, row, 3), isComplete });
    this.#worst.sort((one, other) => other.row.waitNs - one.row.waitNs);
    this.#worst.length = Math.min(this.#worst.length, WORST_SLOTS);
  }
}

interface Kept {
  readonly report: ProcessReport;
  readonly run: FullRun;
}

function newProcess(pid: number, comm: string, cgroup: string): Kept {
  const zeros = { cpuNs: 0, waitNs: 0, noiseNs: 0, worstWaitNs: 0, longestRunNs: 0 };
  const counts = { switches: 0, faults: 0, syscalls: 0, blockBytes: 0, netBytes: 0 };
  const bins = { cpuByBin: new Float64Array(BINS), waitByBin: new Float64Array(BINS) };
  return { report: { pid, comm, cgroup, ...zeros, ...counts, ...bins }, run: new FullRun() };
}

function addTo(report: ProcessReport, row: SlotRow, noiseNs: number, bin: number): void {
  report.cpuNs += row.cpuNs;
  report.waitNs += row.waitNs;
  report.noiseNs += noiseNs;
  report.worstWaitNs = Math.max(report.worstWaitNs, row.waitNs);
  report.switches += row.switches;
  report.faults += row.faults;
  report.syscalls += row.syscalls;
  report.blockBytes += row.blockBytes;
  report.netBytes += row.netBytes;
  report.cpuByBin[bin]! += row.cpuNs;
  report.waitByBin[bin]! += row.waitNs;
}

function fold(into: ProcessReport, from: ProcessReport): void {
  for (const sum of ["cpuNs", "waitNs", "noiseNs", "switches", "faults", "syscalls", "blockBytes", "netBytes"] as const)
    into[sum] += from[sum];
  for (const peak of ["worstWaitNs", "longestRunNs"] as const) into[peak] = Math.max(into[peak], from[peak]);
  from.cpuByBin.forEach((ns, bin) => {
    into.cpuByBin[bin]! += ns;
  });
  from.waitByBin.forEach((ns, bin) => {
    into.waitByBin[bin]! += ns;
  });
}
