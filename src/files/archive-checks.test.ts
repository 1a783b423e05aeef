import { describe, expect, it } from "vitest";
import type { BytePath } from "../runtime/byte-path.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { ArchiveChecks } from "./archive-checks.ts";

const GZ = "/logs/app.log.1.gz" as BytePath;

describe("ArchiveChecks", () => {
  it("takes no more than a tenth of the time for an archive that grows at every look", async () => {
    const clock = new ManualClock();
    const checks = new ArchiveChecks(clock);
    let spentMs = 0;
    for (let look = 0; look < 1000; look += 1) {
      const check = async () => {
        // It takes ever longer.
        const tookMs = 10 + look;
        spentMs += tookMs;
        await clock.advance(tookMs);
        return false;
      };
      expect(await checks.isWhole(GZ, `size ${look}`, check)).toBe(false);
      await clock.advance(100);
    }
    expect(spentMs).toBeGreaterThan(5000);
    expect(spentMs / clock.monotonic()).toBeLessThanOrEqual(0.11);
  });

  it("does not look again at one that has not changed, and finds one whole in the end", async () => {
    const clock = new ManualClock();
    const checks = new ArchiveChecks(clock);
    let checked = 0;
    const check = (answer: boolean) => async () => {
      checked += 1;
      await clock.advance(10);
      return answer;
    };
    for (let look = 0; look < 3; look += 1) expect(await checks.isWhole(GZ, "half", check(false))).toBe(false);
    expect(checked).toBe(1);
    await clock.advance(100);
    for (let look = 0; look < 3; look += 1) expect(await checks.isWhole(GZ, "all", check(true))).toBe(true);
    expect(checked).toBe(2);
  });

  it("remembers no more than a thousand", async () => {
    const checks = new ArchiveChecks(new ManualClock());
    let checked = 0;
    const check = async () => {
      checked += 1;
      return true;
    };
    for (let index = 0; index < 1500; index += 1) await checks.isWhole(`/logs/${index}.gz` as BytePath, "", check);
    expect(checked).toBe(1500);
    await checks.isWhole("/logs/1499.gz" as BytePath, "", check);
    expect(checked).toBe(1500);
    await checks.isWhole("/logs/0.gz" as BytePath, "", check);
    expect(checked).toBe(1501);
  });

  it("hands on what a check rejects with, and checks again", async () => {
    const checks = new ArchiveChecks(new ManualClock());
    await expect(checks.isWhole(GZ, "1", () => Promise.reject(new Error("EACCES")))).rejects.toThrow("EACCES");
    expect(await checks.isWhole(GZ, "1", async () => true)).toBe(true);
  });
});
