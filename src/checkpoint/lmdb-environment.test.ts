import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { LmdbEnvironment } from "./lmdb-environment.ts";
import { statePaths } from "./state-directory.ts";

describe("LmdbEnvironment", () => {
  it("gives pages of at most so many rows, and of no more once they have 4 MiB", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-lmdb-"));
    const paths = statePaths(folder);
    mkdirSync(paths.storeDir, { recursive: true });
    const environment = await LmdbEnvironment.open(paths.storeDir, paths, { isReadOnly: false });
    const value = "x".repeat(1024 * 1024);
    for (let row = 0; row < 10; row += 1) await environment.write(new Map([[`row/${row}`, value]]));
    const keys = async (from: string, limit: number) =>
      (await environment.page(from, "row0", limit)).map(([key]) => key);
    expect(await keys("row/", 3)).toEqual(["row/0", "row/1", "row/2"]);
    expect(await keys("row/", 200)).toEqual(["row/0", "row/1", "row/2", "row/3"]);
    expect(await keys("row/8", 200)).toEqual(["row/8", "row/9"]);
    expect(await keys("row/9\0", 200)).toEqual([]);
    await environment.close();
    rmSync(folder, { recursive: true });
  });
});
