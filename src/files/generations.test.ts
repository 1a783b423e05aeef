import { beforeEach, describe, expect, it, vi } from "vitest";
import { SimBench } from "./sim-bench.test-kit.ts";

vi.mock("node:zlib", async () => (await import("../testing/sim-zlib.ts")).syncZlib());

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const LOG = "/logs/app.log";
const everything = { include: ["/logs/**"] };

/** logrotate's shift of the plain names, then the rename of the file itself. */
function rotate(): void {
  const { programs } = bench;
  for (let number = 9; number > 0; number -= 1) {
    for (const ending of ["", ".gz"]) {
      const name = `${LOG}.${number}${ending}`;
      if (programs.exists(name)) programs.rename(name, `${LOG}.${number + 1}${ending}`);
    }
  }
  programs.rename(LOG, `${LOG}.1`);
}

describe("generations of a path", () => {
  it("that all match are read in the order of the rotation after a downtime", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    expect(await bench.read(everything)).toEqual(["1"]);
    programs.append(LOG, "2\n");
    for (const line of ["3\n", "4\n", "5\n"]) {
      rotate();
      await bench.pass(10);
      programs.append(LOG, line);
    }
    expect(await bench.read(everything)).toEqual(["2", "3", "4", "5"]);
  });

  it("with dates and seconds in their names are read in their order", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    await bench.read();
    for (const [suffix, line] of [
      ["20260131-1769817600", "2\n"],
      ["20260131-1769817660", "3\n"],
    ] as const) {
      programs.rename(LOG, `${LOG}-${suffix}`);
      await bench.pass(10);
      programs.append(LOG, line);
    }
    expect(await bench.read()).toEqual(["2", "3"]);
    expect(bench.named("gap")).toEqual([]);
  });

  it("that a run has found, but died before it noted them, are found again", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    await bench.read();
    programs.unlink(LOG);
    programs.append(LOG, "2\n");
    rotate();
    programs.append(LOG, "");
    const killed = await bench.start({}, { settles: false });
    await bench.pass(1);
    await killed.kill();
    await bench.pass(2000);
    expect(await bench.read()).toEqual(["2"]);
  });

  it("that a file with a known inode number holds instead of what it held is read", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n2\n");
    const run = await bench.start();
    await bench.pass(300);
    programs.truncate(LOG);
    programs.append(LOG, "3\n");
    rotate();
    programs.append(LOG, "4\n");
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual(["1", "2", "3", "4"]);
  });

  it("are read with one descriptor too, each waiting for the one before it", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    programs.append("/logs/other.log", "a\n");
    const options = { ...everything, maxOpenFiles: 1 };
    const run = await bench.start(options);
    await bench.pass(300);
    for (const line of ["2\n", "3\n", "4\n"]) {
      rotate();
      programs.append(LOG, line);
      await bench.pass(10);
    }
    programs.append("/logs/other.log", "b\n");
    await bench.pass(10_000);
    await run.stop();
    expect(run.lines.filter((line) => line < "a")).toEqual(["1", "2", "3", "4"]);
    expect(run.lines).toContain("b");
  });

  it("none of whose bytes were given out hide no younger one that begins like them", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    rotate();
    programs.append(LOG, "4");
    await bench.pass(300);
    programs.unlink(LOG);
    await bench.pass(2000);
    programs.append(LOG, "42\n");
    rotate();
    await bench.pass(3000);
    await run.stop();
    expect(run.lines).toContain("42");
  });
});

describe("a copy made to truncate", () => {
  it("gives what its original had not been read of before the truncation", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    rotate();
    programs.append(LOG, "half");
    await bench.pass(300);
    programs.append(LOG, " a line\n");
    rotate();
    programs.copy(`${LOG}.1`, LOG);
    programs.rename(LOG, "/logs/copy");
    programs.rename(`${LOG}.1`, LOG);
    programs.rename("/logs/copy", `${LOG}.1`);
    programs.truncate(LOG);
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual(["1", "half a line"]);
  });

  it("of a file that could not be opened yet is read in its place, where all names match", async () => {
    const { programs } = bench;
    const run = await bench.start(everything);
    run.files.failCall("open", "EIO", { times: 8 });
    programs.append(LOG, "1\n");
    await bench.pass(200);
    programs.copy(LOG, `${LOG}.1`);
    await bench.pass(300);
    programs.truncate(LOG);
    await bench.pass(20_000);
    await run.stop();
    expect(run.lines).toEqual(["1"]);
  });

  it("and renamed right after the truncation is read once, where all names match", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n2\n");
    const run = await bench.start(everything);
    await bench.pass(2000);
    programs.copy(LOG, `${LOG}.1`);
    programs.truncate(LOG);
    rotate();
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual(["1", "2"]);
  });

  it("on the inode number of another family's empty file is none of that family", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    programs.append("/logs/b.log", "");
    const run = await bench.start(everything);
    await bench.pass(300);
    programs.unlink("/logs/b.log");
    programs.copy(LOG, `${LOG}.1`);
    await bench.pass(200);
    programs.truncate(LOG);
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual(["1"]);
  });

  it("is taken up also where the commit that notes it failed", async () => {
    const { programs, positions } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    const save = positions.save.bind(positions);
    positions.save = async () => {
      positions.save = save;
      throw new Error("TR_COMMIT_FAILED");
    };
    programs.copy(LOG, `${LOG}.1`);
    programs.append("/logs/new.log", "a\n");
    await bench.pass(2000);
    programs.truncate(LOG);
    programs.append(LOG, "2\n");
    await bench.pass(2000);
    await run.stop();
    expect([...run.lines].sort()).toEqual(["1", "2", "a"]);
  });
});

describe("an archive", () => {
  it("of a finished file is not read again where a new copy has its inode number", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    rotate();
    programs.append(LOG, "2\n");
    await bench.pass(2000);
    programs.gzip(`${LOG}.1`);
    programs.rename(`${LOG}.1.gz`, `${LOG}.2.gz`);
    programs.copy(LOG, `${LOG}.1`);
    await bench.pass(500);
    programs.truncate(LOG);
    await bench.pass(2000);
    await run.stop();
    expect(run.lines).toEqual(["1", "2"]);
  });

  it("on the inode number of an empty rotated file is none of it", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    rotate();
    programs.append(LOG, "");
    await bench.pass(2000);
    programs.unlink(LOG);
    programs.gzip(`${LOG}.1`);
    await bench.pass(3000);
    await run.stop();
    expect(run.lines).toEqual(["1"]);
    expect(bench.named("file_unreadable")).toEqual([]);
  });

  it.each([
    ["the live name only", {}],
    ["every name", everything],
  ])("holds bytes that came late, and they are read: globs that match %s", async (_, options) => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const before = await bench.start(options);
    await bench.pass(300);
    rotate();
    programs.append(LOG, "2\n");
    await bench.pass(3000);
    await before.stop();
    expect(before.lines).toEqual(["1", "2"]);
    programs.append(`${LOG}.1`, "late\n");
    programs.gzip(`${LOG}.1`);
    expect(await bench.read(options)).toEqual(["late"]);
    expect(await bench.read(options)).toEqual([]);
  });

  it("on the inode number of an older archive is read where it holds something unread", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    rotate();
    programs.append(LOG, "2\n");
    await bench.pass(3000);
    await run.stop();
    programs.append(LOG, "3\n");
    rotate();
    programs.unlink(`${LOG}.2`);
    programs.gzip(`${LOG}.1`);
    expect(await bench.read()).toEqual(["3"]);
  });
});

describe("late bytes", () => {
  it("of a finished file are read after a downtime in which its name was shifted", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    rotate();
    programs.append(LOG, "2\n");
    await bench.pass(2000);
    await run.stop();
    programs.append(`${LOG}.1`, "late\n");
    rotate();
    expect(await bench.read()).toEqual(["late"]);
  });
});
