import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LmdbEnvironment } from "./lmdb-environment.ts";
import { type StatePaths, statePaths } from "./state-directory.ts";
import { inspectPages, readShape } from "./store-pages.ts";
import { pagesNeeded, StoreRoom } from "./store-room.ts";

let folder: string;
let paths: StatePaths;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-room-"));
  paths = statePaths(folder);
  mkdirSync(paths.storeDir);
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function shapeNow() {
  const descriptor = openSync(paths.data, "r");
  try {
    return readShape(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Rows of all sizes, in transactions of one to many, that also overwrite and remove each other. */
const transaction = fc
  .tuple(fc.nat(2), fc.array(fc.tuple(fc.nat(200), fc.nat(6), fc.boolean()), { minLength: 1, maxLength: 40 }))
  .map(([repeat, rows]) => {
    const writes = new Map<string, string | undefined>();
    for (let round = 0; round <= repeat * 5; round += 1) {
      for (const [name, size, isRemoval] of rows) {
        const key = `["note","${(name * 37 + round * 101) % 1000}${"k".repeat(size === 6 ? 900 : 0)}"]`;
        writes.set(key, isRemoval ? undefined : "v".repeat(4 ** size));
      }
    }
    return writes;
  });

describe("StoreRoom", () => {
  it("has allocated whatever a transaction writes, and the pages stay sound", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(transaction, { minLength: 1, maxLength: 12 }), async (transactions) => {
        rmSync(paths.data, { force: true });
        rmSync(paths.lock, { force: true });
        const environment = await LmdbEnvironment.open(folder, paths, { isReadOnly: false });
        try {
          for (const rows of transactions) {
            const before = shapeNow();
            await environment.write(rows);
            const after = shapeNow();
            // The row of the file's size is written beside the others.
            const needed = pagesNeeded(
              before,
              [...rows.values()].map((value) => value?.length ?? 0),
            );
            expect(after.lastPage - before.lastPage).toBeLessThanOrEqual(needed);
            expect((after.lastPage + 1) * after.pageBytes).toBeLessThanOrEqual(statSync(paths.data).size);
            expect(inspectPages(paths.data).damage).toBeUndefined();
          }
        } finally {
          await environment.close();
        }
      }),
      { numRuns: 15 },
    );
  });

  it("makes no hole, and fills those of a copy without changing a byte", async () => {
    const environment = await LmdbEnvironment.open(folder, paths, { isReadOnly: false });
    await environment.write(new Map([['["note","a"]', "1"]]));
    await environment.close();
    const { size, blocks } = statSync(paths.data);
    expect(blocks * 512).toBeGreaterThanOrEqual(size);
    truncateSync(paths.data, size * 2);
    const before = readFileSync(paths.data);
    const room = await StoreRoom.open(paths.data);
    await room.close();
    expect(statSync(paths.data).blocks * 512).toBeGreaterThanOrEqual(size * 2);
    expect(readFileSync(paths.data).equals(before)).toBe(true);
  });
});
