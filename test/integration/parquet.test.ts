import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Batch, Messages } from "../../src/record/index.ts";
import { parquetSink } from "../../src/sinks/parquet.ts";
import { sinkContext } from "../../src/testing/sink-context.ts";
import { duckdb, hasDuckdb } from "../duckdb.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-parquet-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const origin = { source: "s", key: "k", kind: "replayable", recordIdPrefix: "p", file: undefined } as const;

/** Events as a source of messages brings them. */
function batchOf(events: readonly { readonly [field: string]: unknown }[], first = 0): Batch {
  const messages = events.map((fields, index) => ({ number: first + index, body: Buffer.from("{}"), fields }));
  const range = { start: first, end: first + events.length };
  return Batch.ofMessages(origin, new Messages(messages, { readAtMs: 0, host: "h" }), range, events.length * 100);
}

async function write(events: readonly object[], options: object = {}, perBatch = 1000): Promise<string[]> {
  const path = join(folder, "out.parquet");
  const sink = await parquetSink.open(parquetSink.options.parse({ path, ...options }), sinkContext());
  for (let first = 0; first < events.length; first += perBatch) {
    const batch = batchOf(events.slice(first, first + perBatch) as { [field: string]: unknown }[], first);
    expect(await sink.write(batch, { signal: new AbortController().signal })).toEqual({ kind: "delivered" });
    await sink.prepare!();
    await sink.committed!();
  }
  await sink[Symbol.asyncDispose]();
  return readdirSync(folder).sort();
}

const query = (what: string, order = "") => duckdb(`SELECT ${what} FROM '${folder}/out.parquet' ${order}`);

/** Numbers that repeat, and do not; a fixed series. */
const series = (index: number, most: number) => (index * 7919 + 104729) % most;

const COMMANDS = ["postgres", "node", "kworker/0:1", "ünïcode \u{1f600}", ""];

function timeSlot(index: number): { [field: string]: unknown } {
  const ns = 1_763_720_000_000_000_000n + BigInt(index >> 3) * 1_000_000n;
  const seconds = new Date(Number(ns / 1_000_000n)).toISOString().slice(0, 19);
  return {
    slot_start: `${seconds}.${String(ns % 1_000_000_000n).padStart(9, "0")}Z`,
    slot_ns: 1_000_000,
    pid: 1000 + series(index, 40),
    comm: COMMANDS[index % COMMANDS.length],
    cgroup: `/system.slice/unit${series(index, 7)}.service`,
    cpu_ns: series(index, 1_000_001),
    runqueue_wait_ns: index % 3 === 0 ? 0 : Number.MAX_SAFE_INTEGER - index,
    context_switches: series(index, 9),
    migrations: 0,
    page_faults: series(index, 3),
    syscalls: series(index, 50),
    block_bytes: 4096 * series(index, 5),
    net_sent_bytes: series(index, 65_536),
    net_received_bytes: 0,
    cycles: null,
    instructions: null,
    cache_misses: null,
    complete: index % 10 !== 0,
    lost_events: index % 10 === 0 ? 17 : 0,
  };
}

describe.skipIf(!hasDuckdb())("parquet sink, read back by DuckDB", () => {
  it.each(["snappy", "zstd", "none"] as const)(
    "holds every value of time slots, in their order and types (%s)",
    async (compression) => {
      const slots = Array.from({ length: 5000 }, (_, index) => timeSlot(index));
      expect(await write(slots, { compression, row_group_records: 1500 })).toEqual(["out.parquet"]);
      const names = Object.keys(slots[0]!);
      const types = duckdb(
        `SELECT column_name, column_type FROM (DESCRIBE SELECT ${names.join()} FROM '${folder}/out.parquet')`,
      );
      expect(types.map((row) => [row["column_name"], row["column_type"]])).toEqual(
        names.map((name) => [
          name,
          name === "slot_start"
            ? "TIMESTAMP WITH TIME ZONE"
            : name === "complete"
              ? "BOOLEAN"
              : name === "comm" || name === "cgroup"
                ? "VARCHAR"
                : "BIGINT",
        ]),
      );
      const rows = query("* EXCLUDE (source, host, timestamp) REPLACE (epoch_ns(slot_start) AS slot_start)");
      const expected = slots.map((slot) => {
        const nanoseconds = BigInt(Date.parse(String(slot["slot_start"]))) * 1_000_000n;
        return Object.fromEntries(
          Object.entries({ ...slot, slot_start: nanoseconds }).map(([name, value]) => [
            name,
            value === null ? null : String(value),
          ]),
        );
      });
      expect(rows).toEqual(expected);
      const [group] = duckdb(
        `SELECT count(DISTINCT row_group_id) AS groups, max(row_group_num_rows) AS most, any_value(compression) AS codec FROM parquet_metadata('${folder}/out.parquet')`,
      );
      expect(group).toEqual({
        groups: "4",
        most: "1500",
        codec: compression === "none" ? "UNCOMPRESSED" : compression.toUpperCase(),
      });
    },
  );

  it("has statistics by which readers leave out row groups, and dictionaries for names", async () => {
    await write(
      Array.from({ length: 3000 }, (_, index) => timeSlot(index)),
      { row_group_records: 1000 },
    );
    const chunks = duckdb(
      `SELECT path_in_schema AS name, encodings, stats_min_value AS least, stats_max_value AS most FROM parquet_metadata('${folder}/out.parquet') WHERE row_group_id = 1`,
    );
    const chunk = (name: string) => chunks.find((one) => one["name"] === name)!;
    expect(chunk("comm")["encodings"]).toContain("RLE_DICTIONARY");
    expect([chunk("syscalls")["least"], chunk("syscalls")["most"]]).toEqual(["0", "49"]);
  });

  it("gives each field the type that all its values have, and JSON where they have none in common", async () => {
    const events = [
      { n: 1, f: 1, b: true, t: "x", mixed: 200, nested: { a: [1, "ü"] }, late: null },
      { n: -(2 ** 53) + 1, f: 0.1, b: false, t: "", mixed: "ok", nested: [1], late: null },
      { n: null, f: 1e300, b: null, t: null, mixed: null, nested: null, other: "seen once" },
      { late: 2 ** 53 },
    ];
    // Batches of one: what the first says is wrong of the later ones.
    await write(events, {}, 1);
    const described = duckdb(
      `SELECT column_name, column_type FROM (DESCRIBE SELECT * EXCLUDE (source, host, timestamp) FROM '${folder}/out.parquet')`,
    );
    expect(Object.fromEntries(described.map((row) => [row["column_name"], row["column_type"]]))).toEqual({
      n: "BIGINT",
      f: "DOUBLE",
      b: "BOOLEAN",
      t: "VARCHAR",
      mixed: "JSON",
      nested: "JSON",
      late: "DOUBLE",
      other: "VARCHAR",
    });
    expect(query("* EXCLUDE (source, host, timestamp)")).toEqual([
      { n: "1", f: "1.0", b: "true", t: "x", mixed: "200", nested: '{"a":[1,"ü"]}', late: null, other: null },
      { n: "-9007199254740991", f: "0.1", b: "false", t: "", mixed: '"ok"', nested: "[1]", late: null, other: null },
      { n: null, f: "1e+300", b: null, t: null, mixed: null, nested: null, late: null, other: "seen once" },
      { n: null, f: null, b: null, t: null, mixed: null, nested: null, late: "9007199254740992.0", other: null },
    ]);
  });

  it("keeps to the columns that are written down; what has none, or does not fit, is in the column event", async () => {
    const columns = { status: "int64", at: "timestamp", zip: "string", ratio: "double", detail: "json" };
    const events = [
      { status: 200, at: "2026-11-21T12:00:00.123456789+02:00", zip: "01234", ratio: 1, detail: { a: 1 }, more: [1] },
      { status: "404", at: "yesterday", zip: 1234, ratio: "0.5", detail: 7 },
      { status: "4O4", at: 5, zip: { a: 1 }, ratio: "0.50", detail: null },
    ];
    await write(events, { columns });
    const rows = query(
      `* REPLACE (epoch_ns("at") AS "at", json_merge_patch(event, '{"source":null,"host":null,"timestamp":null}') AS event)`,
    );
    // DuckDB shows times of a zone in microseconds; the file has the nanoseconds (src/sinks/parquet.test.ts).
    const at = String(BigInt(Date.UTC(2026, 10, 21, 10)) * 1_000_000n + 123_456_000n);
    expect(rows).toEqual([
      { status: "200", at, zip: "01234", ratio: "1.0", detail: '{"a":1}', event: '{"more":[1]}' },
      { status: "404", at: null, zip: "1234", ratio: "0.5", detail: "7", event: '{"at":"yesterday"}' },
      {
        status: null,
        at: null,
        zip: null,
        ratio: null,
        detail: null,
        event: '{"status":"4O4","at":5,"zip":{"a":1},"ratio":"0.50"}',
      },
    ]);
  });

  it("holds texts that repeat and texts that do not, over row groups that end by their size", async () => {
    const events = Array.from({ length: 6000 }, (_, index) => ({
      unique: `${"x".repeat(index % 50)} ${index} ü`,
      repeated: index < 3000 ? `level ${index % 3}` : index % 2 === 0 ? null : `once ${index}`,
    }));
    await write(events, { row_group_bytes: 65_536 });
    expect(query('"unique", repeated')).toEqual(events);
    const [groups] = duckdb(`SELECT count(DISTINCT row_group_id) AS n FROM parquet_metadata('${folder}/out.parquet')`);
    expect(Number(groups!["n"])).toBeGreaterThan(3);
  });

  it("has up to a thousand columns, and further fields in the column event", async () => {
    const wide = Object.fromEntries(Array.from({ length: 1100 }, (_, index) => [`f${index}`, index]));
    await write([wide]);
    const [row] = query("*");
    expect(Object.keys(row!)).toHaveLength(1001);
    expect(JSON.parse(row!["event"]!)).toEqual(Object.fromEntries(Object.entries(wide).slice(997)));
  });
});
