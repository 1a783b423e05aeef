import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { pathFromText } from "../../runtime/byte-path.ts";
import { nodeFileSystem } from "../../runtime/node-file-system.ts";
import { SchemaGuess } from "./columns.ts";
import type { JournalEvent } from "./journal.ts";
import { loadParquetLibrary, ParquetFile } from "./parquet-file.ts";
import { rowsOf } from "./read-back.test-kit.ts";
import { RowGroup } from "./row-group.ts";

const folder = mkdtempSync(join(tmpdir(), "tailrace-round-trip-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

async function writtenAndRead(
  events: readonly JournalEvent[],
  groupRows: number,
  compression: "snappy" | "zstd" | "none",
) {
  const guess = new SchemaGuess();
  guess.observe(events);
  const schema = guess.schema();
  files += 1;
  const path = join(folder, `${files}.parquet`);
  const handle = await nodeFileSystem.open(pathFromText(path), "create", 0o600);
  const file = new ParquetFile(handle, schema, await loadParquetLibrary("pq", compression), "test");
  for (let first = 0; first < events.length; first += groupRows) {
    const group = new RowGroup(schema);
    for (const event of events.slice(first, first + groupRows)) group.add(event);
    await file.write(group);
  }
  await file.finish();
  await handle.close();
  return rowsOf(readFileSync(path));
}

/** As the reader gives it, by what JSON would say: integers as numbers, times as text. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Date) return value.toISOString();
  return value;
}

// (A column __proto__ is written; this reader cannot make an object of it.)
const names = fc.constantFrom("a", "b.c", "ü", "", "event", "constructor", "A");
const values = fc.oneof(
  fc.jsonValue({ stringUnit: "binary" }),
  fc.integer(),
  fc.constantFrom("x", "y", true, 0, -0, 1e300, 2 ** 53, -(2 ** 53)),
);
const events = fc.array(fc.dictionary(names, values, { noNullPrototype: true }), { minLength: 1, maxLength: 40 });

describe("a Parquet file", () => {
  it("gives back every value of every event, in their order", async () => {
    await fc.assert(
      fc.asyncProperty(
        events,
        fc.integer({ min: 1, max: 50 }),
        fc.constantFrom("snappy", "zstd", "none"),
        async (given, groupRows, compression) => {
          // As they come out of a journal.
          const parsed = JSON.parse(JSON.stringify(given)) as JournalEvent[];
          const rows = await writtenAndRead(parsed, groupRows, compression);
          expect(rows).toHaveLength(parsed.length);
          parsed.forEach((event, index) => {
            for (const [name, value] of Object.entries(event)) {
              expect(plain(Object.getOwnPropertyDescriptor(rows[index], name)?.value) ?? null, name).toEqual(value);
            }
          });
        },
      ),
      { numRuns: 150 },
    );
  });
});
