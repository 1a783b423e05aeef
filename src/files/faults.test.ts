import { beforeEach, describe, expect, it } from "vitest";
import type { BytePath } from "../runtime/byte-path.ts";
import type { SimCall } from "../testing/sim-file-system.ts";
import { SimBench } from "./sim-bench.test-kit.ts";

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const LOG = "/logs/app.log";

/** What this room asks of the file system; `statSync` is both the scan's and the search's. */
const CALLS: readonly SimCall[] = ["open", "fstat", "read", "statSync", "readdir", "watchFolder", "close"];
const ERRORS = ["EIO", "EMFILE", "ENFILE", "EACCES", "ESTALE", "ENOSPC"];

describe("a failing file call", () => {
  it.each(CALLS.flatMap((call) => ERRORS.map((code) => [call, code] as const)))(
    "%s with %s, now and then, loses and repeats nothing through a rotation",
    async (call, code) => {
      const { programs } = bench;
      programs.append(LOG, "1\n");
      const run = await bench.start();
      for (const after of [0, 3, 7, 15, 31]) run.files.failCall(call, code, { after, times: 2 });
      await bench.pass(1000);
      programs.append(LOG, "2\n");
      await bench.pass(1000);
      programs.rename(LOG, `${LOG}.1`);
      programs.append(LOG, "3\n");
      await bench.pass(30_000);
      run.files.mend();
      await bench.pass(60_000);
      programs.append(LOG, "4\n");
      await bench.pass(60_000);
      await run.stop();
      expect(run.lines).toEqual(["1", "2", "3", "4"]);
      // The simulation keeps a descriptor whose close failed; Linux does not.
      if (call !== "close") expect(run.files.openCount).toBe(0);
      expect(bench.named("gap")).toEqual([]);
    },
  );

  it.each(CALLS.flatMap((call) => ["EIO", "EMFILE", "ESTALE"].map((code) => [call, code] as const)))(
    "%s with %s at a start after generations were missed loses and repeats nothing",
    async (call, code) => {
      const { programs } = bench;
      programs.append(LOG, "1\n");
      await bench.read();
      programs.append(LOG, "2\n");
      for (const [number, line] of [
        [2, "3\n"],
        [1, "4\n"],
      ] as const) {
        programs.rename(LOG, `${LOG}.${number}`);
        await bench.pass(10);
        programs.append(LOG, line);
      }
      const run = await bench.start();
      for (const after of [0, 2, 5, 9]) run.files.failCall(call, code, { after, times: 1 });
      await bench.pass(60_000);
      await run.stop();
      expect([...run.lines].sort()).toEqual(["2", "3", "4"]);
      if (call !== "close") expect(run.files.openCount).toBe(0);
    },
  );

  it("of one file keeps the others going, and is told once", async () => {
    const { programs } = bench;
    const run = await bench.start();
    run.files.failCall("open", "EACCES", { times: 1000, path: LOG as BytePath });
    programs.append(LOG, "1\n");
    programs.append("/logs/b.log", "a\n");
    await bench.pass(5000);
    programs.append("/logs/b.log", "b\n");
    await bench.pass(1000);
    expect(run.lines).not.toContain("1");
    expect(run.lines.slice(-2)).toEqual(["a", "b"]);
    expect(bench.named("file_unreadable")).toHaveLength(1);
    run.files.mend();
    await bench.pass(60_000);
    expect(run.lines).toContain("1");
    expect(bench.named("file_readable")).toHaveLength(1);
    await run.stop();
  });

  it("of a whole folder keeps the positions, and reading goes on when it is back", async () => {
    const { programs } = bench;
    programs.mkdirs("/logs/sub");
    const writer = programs.openWriter("/logs/sub/a.log");
    writer.write("1\n");
    const run = await bench.start({ include: ["/logs/**/*.log"] });
    await bench.pass(500);
    programs.deny("/logs/sub");
    writer.write("2\n");
    await bench.pass(20_000);
    programs.deny("/logs/sub", false);
    await bench.pass(60_000);
    await run.stop();
    expect(run.lines).toEqual(["1", "2"]);
    expect(bench.named("gap")).toEqual([]);
  });

  it("of reads that come back short, down to one byte, changes nothing", async () => {
    const lines = Array.from({ length: 200 }, (_, index) => `line ${index}`);
    bench.programs.append(LOG, `${lines.join("\n")}\n`);
    const run = await bench.start({}, { files: { shortReads: 0.9 } });
    await bench.pass(5000);
    await run.stop();
    expect(run.lines).toEqual(lines);
  });
});

describe("a clock", () => {
  it("whose wall time jumps back, or ahead, changes nothing", async () => {
    const { programs, clock } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(500);
    for (const [jumpMs, line] of [
      [-86_400_000, "2\n"],
      [2 * 86_400_000, "3\n"],
      [-3_600_000, "4\n"],
    ] as const) {
      clock.shiftWall(jumpMs);
      programs.append(LOG, line);
      await bench.pass(1000);
    }
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "5\n");
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual(["1", "2", "3", "4", "5"]);
    clock.shiftWall(-7 * 86_400_000);
    programs.append(LOG, "6\n");
    expect(await bench.read()).toEqual(["6"]);
  });
});

describe("many quiet files", () => {
  it("cost no descriptor each, and what is appended to any is read", async () => {
    const count = 10_000;
    for (let index = 0; index < count; index += 1) bench.programs.append(`/logs/${index}.log`, "1\n");
    const run = await bench.start({ maxOpenFiles: 20 });
    await bench.clock.runUntil(() => run.lines.length >= count, { what: "all lines", limitMs: 600_000 });
    await bench.pass(70_000);
    expect(run.manager.openFiles).toBe(0);
    expect(run.files.openCount).toBe(0);
    bench.programs.append("/logs/4711.log", "2\n");
    await bench.pass(3000);
    expect(run.lines.at(-1)).toBe("2");
    expect(run.lines).toHaveLength(count + 1);
    await run.stop();
  });
});
