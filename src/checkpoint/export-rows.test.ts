import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import type { Change } from "./checkpoint-store.ts";
import { exportRows, importRows } from "./export-rows.ts";
import { MemoryCheckpointStore } from "./memory-store.ts";

const entry = {
  generation: 1,
  fileSystem: "uuid:1",
  inode: "12",
  birthNs: "0",
  fingerprint: { length: 3, hash: "0a" },
  guard: { length: 0, hash: "" },
  guardEnd: 0,
  names: ["/var/log/\u00ff"],
  lastSize: 3,
  lastSeenMs: 1,
  boundaries: [2],
};

const rows: readonly Change[] = [
  { table: "file", source: "app", file: "f", value: entry },
  { table: "position", sink: "out", source: "app", file: "f", value: { prefix: 1, ranges: [{ start: 2, end: 3 }] } },
  { table: "mark", sink: "out", name: "length", value: null },
  { table: "note", name: "ledger", value: { edges: [] } },
];

async function exported(): Promise<string[]> {
  const store = new MemoryCheckpointStore();
  await store.commit(rows);
  return [...exportRows(await store.load())];
}

async function mistakeOf(lines: readonly string[]) {
  try {
    await importRows(lines, { name: "backup.ndjson" });
  } catch (error) {
    if (error instanceof ConfigError) return { code: error.code, ...error.mistakes[0] };
    throw error;
  }
  return undefined;
}

describe("exportRows and importRows", () => {
  it("bring a state from one store into another", async () => {
    const lines = await exported();
    for (const line of lines) expect(line).not.toContain("\n");
    const target = new MemoryCheckpointStore();
    await target.commit(await importRows(lines));
    expect([...exportRows(await target.load())]).toEqual(lines);
  });

  it("take rows written by hand, without first and last line", async () => {
    const line = JSON.stringify(rows[1]);
    expect(await importRows(["", line, "  "])).toEqual([rows[1]]);
  });

  it("refuse an export that was cut short or lost a line", async () => {
    const lines = await exported();
    for (let kept = 1; kept < lines.length; kept += 1) {
      expect(await mistakeOf(lines.slice(0, kept))).toMatchObject({ message: expect.stringContaining("cut off") });
    }
    for (let left = 1; left < lines.length - 1; left += 1) {
      expect(await mistakeOf(lines.filter((_, index) => index !== left))).toMatchObject({
        line: lines.length - 1,
        key: "rows",
      });
    }
  });

  it("refuse the export of a newer version", async () => {
    await expect(importRows(['{"table":"schema","version":99}'])).rejects.toMatchObject({ code: "TR_STATE_NEWER" });
  });

  const position = { table: "position", sink: "s", source: "a", file: "f", value: { prefix: 5, ranges: [] } };
  const cases: readonly [string, unknown, string | undefined, RegExp][] = [
    ["no JSON", "{", undefined, /no JSON/],
    ["no object", [1], undefined, /JSON object/],
    ["no table", { value: 1 }, "table", /missing/],
    ["an unknown table", { ...position, table: "positions" }, "table", /"positions"/],
    ["a missing key", { ...position, sink: undefined }, "sink", /missing/],
    ["a key that is no string", { ...position, file: 7 }, "file", /7; a string/],
    ["a missing value", { ...position, value: undefined }, "value", /missing/],
    ["a negative prefix", { ...position, value: { prefix: -1, ranges: [] } }, "value.prefix", /-1/],
    ["a fraction", { ...position, value: { prefix: 1.5, ranges: [] } }, "value.prefix", /1.5/],
    ["no ranges", { ...position, value: { prefix: 1 } }, "value.ranges", /array/],
    ["a range below the prefix", withRanges([{ start: 5, end: 6 }]), "value.ranges[0].start", /above 5/],
    ["an empty range", withRanges([{ start: 7, end: 7 }]), "value.ranges[0].end", /not above/],
    [
      "ranges out of order",
      withRanges([
        { start: 8, end: 9 },
        { start: 6, end: 7 },
      ]),
      "value.ranges[1].start",
      /above 9/,
    ],
    ["an entry without names", { ...rows[0], value: { ...entry, names: undefined } }, "value.names", /array/],
    ["an inode as a number", { ...rows[0], value: { ...entry, inode: 1 } }, "value.inode", /decimal/],
    [
      "boundaries out of order",
      { ...rows[0], value: { ...entry, boundaries: [2, 2] } },
      "value.boundaries[1]",
      /ascend/,
    ],
  ];

  function withRanges(ranges: unknown) {
    return { ...position, value: { prefix: 5, ranges } };
  }

  for (const [what, row, key, message] of cases) {
    it(`name the file, the line and the field of ${what}`, async () => {
      const text = typeof row === "string" ? row : JSON.stringify(row);
      const mistake = await mistakeOf(["", JSON.stringify(rows[3]), text]);
      expect(mistake).toMatchObject({ code: "TR_USAGE", file: "backup.ndjson", line: 3 });
      expect(mistake?.key).toBe(key);
      expect(mistake?.message).toMatch(message);
    });
  }

  it("refuse the same row twice, naming both lines", async () => {
    const line = JSON.stringify(position);
    expect(await mistakeOf([line, line])).toMatchObject({ line: 2, message: expect.stringContaining("line 1") });
  });
});
