import { mkdtempSync, rmSync, statSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { keepReserve, RESERVE_BYTES, releaseReserve } from "./reserve-file.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-reserve-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("keepReserve", () => {
  const file = () => statSync(join(folder, "reserve"));

  it("allocates 16 MiB for real, for the owner only", async () => {
    expect(RESERVE_BYTES).toBe(16 * 1024 * 1024);
    expect(await keepReserve(folder)).toBe(true);
    expect(file().size).toBe(RESERVE_BYTES);
    expect(file().blocks * 512).toBeGreaterThanOrEqual(RESERVE_BYTES);
    expect(file().mode & 0o777).toBe(0o600);
  });

  it("leaves a whole reserve alone and makes one anew that is short or sparse", async () => {
    const bytes = 8192;
    await keepReserve(folder, { bytes });
    const first = file();
    await keepReserve(folder, { bytes });
    expect(file().mtimeMs).toBe(first.mtimeMs);
    truncateSync(join(folder, "reserve"), 4096);
    await keepReserve(folder, { bytes });
    expect(file().size).toBe(bytes);
    truncateSync(join(folder, "reserve"), 0);
    truncateSync(join(folder, "reserve"), bytes);
    await keepReserve(folder, { bytes });
    expect(file().blocks * 512).toBeGreaterThanOrEqual(bytes);
  });

  it("is given up by releaseReserve, which may be called twice", async () => {
    await keepReserve(folder, { bytes: 4096 });
    await releaseReserve(folder);
    expect(() => file()).toThrow(/ENOENT/);
    await releaseReserve(folder);
  });
});
