/**
 * Claim: of what npm has, hyparquet-writer is the writer for this sink: parquet-wasm writes faster, but only what is in
 * Arrow's form, and making that costs more than is won.
 *
 *     npm install --no-save parquet-wasm apache-arrow   # optional; without it only hyparquet-writer is measured
 *     node bench/parquet/writers.mjs [rows=1000000]
 *
 * Rows are time slots: 19 columns, a third of them nearly constant, texts of a hundred processes. Both get the same row
 * groups of 100,000, SNAPPY, dictionaries and statistics; memory is the process's peak, a child for each.
 */
import { spawnSync } from "node:child_process";

const ROWS = Number(process.argv[2] ?? 1_000_000);
const GROUP = 100_000;
const NUMBERS = [
  "slot_ns",
  "pid",
  "cpu_ns",
  "runqueue_wait_ns",
  "context_switches",
  "migrations",
  "page_faults",
  "syscalls",
  "block_bytes",
  "net_sent_bytes",
  "net_received_bytes",
  "lost_events",
];
const NULLS = ["cycles", "instructions", "cache_misses"];

/** Columns of one row group, as the sink holds them: numbers, texts, nanoseconds. */
function group(first) {
  const series = (index, most) => ((first + index) * 7919 + 104_729) % most;
  const rows = Array.from({ length: GROUP }, (_, index) => index);
  const most = {
    slot_ns: 1,
    pid: 100,
    cpu_ns: 1_000_001,
    runqueue_wait_ns: 999_983,
    syscalls: 50,
    context_switches: 9,
    page_faults: 3,
  };
  return {
    slot_start: rows.map((index) => 1_763_720_000_000_000_000n + BigInt((first + index) >> 4) * 1_000_000n),
    ...Object.fromEntries(NUMBERS.map((name) => [name, rows.map((index) => series(index, most[name] ?? 1))])),
    ...Object.fromEntries(NULLS.map((name) => [name, rows.map(() => null)])),
    comm: rows.map((index) => `process-${series(index, 100)}`),
    cgroup: rows.map((index) => `/system.slice/unit${series(index, 30)}.service`),
    complete: rows.map((index) => index % 10 !== 0),
  };
}

async function hyparquet() {
  const { ByteWriter, ParquetWriter } = await import("hyparquet-writer");
  const first = group(0);
  const element = (name) => {
    if (name === "slot_start")
      return {
        name,
        type: "INT64",
        repetition_type: "OPTIONAL",
        logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "NANOS" },
      };
    if (name === "comm" || name === "cgroup")
      return { name, type: "BYTE_ARRAY", repetition_type: "OPTIONAL", converted_type: "UTF8" };
    return { name, type: name === "complete" ? "BOOLEAN" : "INT64", repetition_type: "OPTIONAL" };
  };
  const names = Object.keys(first);
  const bytes = new ByteWriter();
  const writer = new ParquetWriter({
    writer: bytes,
    schema: [{ name: "schema", num_children: names.length }, ...names.map(element)],
  });
  return {
    write(columns) {
      const big = (values) => values.map((value) => (value === null ? null : BigInt(value)));
      for (const name of names) {
        const data = NUMBERS.includes(name) || NULLS.includes(name) ? big(columns[name]) : columns[name];
        writer.write({
          columnData: [{ name, data, ...(name === "slot_start" ? { encoding: "DELTA_BINARY_PACKED" } : {}) }],
          rowGroupSize: GROUP,
        });
        bytes.index = 0;
      }
    },
    end() {
      writer.finish();
      return bytes.offset;
    },
  };
}

async function wasm() {
  const arrow = await import("apache-arrow");
  const parquet = await import("parquet-wasm");
  const properties = () =>
    new parquet.WriterPropertiesBuilder().setCompression(parquet.Compression.SNAPPY).setMaxRowGroupSize(GROUP).build();
  const vector = (name, values) => {
    if (name === "slot_start")
      return arrow.makeVector({
        type: new arrow.TimestampNanosecond("UTC"),
        data: BigInt64Array.from(values),
        length: values.length,
        nullCount: 0,
      });
    if (name === "comm" || name === "cgroup")
      return arrow.vectorFromArray(values, new arrow.Dictionary(new arrow.Utf8(), new arrow.Int32()));
    if (name === "complete") return arrow.vectorFromArray(values, new arrow.Bool());
    return arrow.vectorFromArray(
      values.map((value) => (value === null ? null : BigInt(value))),
      new arrow.Int64(),
    );
  };
  let written = 0;
  let building = 0;
  return {
    write(columns) {
      const begun = performance.now();
      const table = new arrow.Table(
        Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, vector(name, values)])),
      );
      const stream = arrow.tableToIPC(table, "stream");
      building += performance.now() - begun;
      // A file for each group: its streaming writer wants a browser's stream.
      written += parquet.writeParquet(parquet.Table.fromIPCStream(stream), properties()).length;
    },
    end: () => written,
    note: () => `, of which ${(building / 1000).toFixed(2)} s in Arrow`,
  };
}

const writers = { "hyparquet-writer": hyparquet, "parquet-wasm": wasm };

const own = process.env.TAILRACE_BENCH_WRITER;
if (own === undefined) {
  for (const name of Object.keys(writers)) {
    const { status, stdout } = spawnSync(process.execPath, [new URL(import.meta.url).pathname, String(ROWS)], {
      env: { ...process.env, TAILRACE_BENCH_WRITER: name },
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    console.log(status === 0 ? stdout.trim() : `${name}: not installed`);
  }
} else {
  const writer = await writers[own]();
  let ms = 0;
  let longest = 0;
  for (let first = 0; first < ROWS; first += GROUP) {
    const columns = group(first);
    const begun = performance.now();
    writer.write(columns);
    const took = performance.now() - begun;
    ms += took;
    longest = Math.max(longest, took);
  }
  const bytes = writer.end();
  console.log(
    `${own}: ${(ms / 1000).toFixed(2)} s${writer.note?.() ?? ""}; ${((ms * 1e3) / ROWS).toFixed(2)} us/row, ${(bytes / ROWS).toFixed(1)} B/row, longest group ${longest.toFixed(0)} ms, peak ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB`,
  );
}
