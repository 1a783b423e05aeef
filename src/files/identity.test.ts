import { beforeEach, describe, expect, it, vi } from "vitest";
import { SimBench } from "./sim-bench.test-kit.ts";

vi.mock("node:zlib", async () => (await import("../testing/sim-zlib.ts")).syncZlib());

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const LOG = "/logs/app.log";
/** More than a fingerprint: what each generation begins with. */
const HEADER = `${"#".repeat(1100)}\n`;

function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix} ${index}`);
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

describe("an inode number out of the store", () => {
  it("that was given to a generation of another log, which nobody saw, does not hide that", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    programs.append("/logs/x.log", "x\n");
    await bench.read();
    programs.unlink("/logs/x.log");
    programs.rename(LOG, `${LOG}.2`);
    // The simulated disk hands out a freed number at once.
    programs.append(LOG, "2\n");
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "3\n");
    expect(await bench.read()).toEqual(["2", "3"]);
  });

  it("that was given to one neither where the file that had it was finished and gone", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    programs.append("/logs/x.log", "x\n");
    const run = await bench.start();
    await bench.pass(500);
    programs.unlink("/logs/x.log");
    await bench.pass(3000);
    await run.stop();
    programs.rename(LOG, `${LOG}.2`);
    programs.append(LOG, "2\n");
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "3\n");
    expect(await bench.read()).toEqual(["2", "3"]);
  });

  it("proves nothing of a file that begins as the known one did", async () => {
    const { programs } = bench;
    programs.append(LOG, HEADER + text(numbered("a", 20)));
    await bench.read();
    programs.truncate(LOG);
    programs.append(LOG, HEADER + text(numbered("b", 60)));
    expect(await bench.read()).toEqual([HEADER.trimEnd(), ...numbered("b", 60)]);
  });
});

describe("a generation that begins as all others do", () => {
  it("is read where the known one is gone, once each", async () => {
    const { programs } = bench;
    programs.append(LOG, HEADER + text(numbered("a", 50)));
    await bench.read();
    programs.unlink(LOG);
    programs.append(`${LOG}.1`, HEADER + text(numbered("b", 20)));
    programs.append(LOG, HEADER + text(numbered("c", 10)));
    const header = HEADER.trimEnd();
    expect(await bench.read()).toEqual([header, ...numbered("b", 20), header, ...numbered("c", 10)]);
    expect(await bench.read()).toEqual([]);
  });
});

describe("a hole at the start", () => {
  it("is skipped in a generation that was truncated and rotated while nobody looked", async () => {
    const { programs } = bench;
    const writer = programs.openWriter(LOG, { append: false });
    writer.write(text(numbered("a", 10)));
    expect(await bench.read()).toHaveLength(10);
    programs.copy(LOG, `${LOG}.1`);
    programs.truncate(LOG);
    writer.write(text(numbered("b", 10)));
    programs.rename(`${LOG}.1`, `${LOG}.2`);
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, text(numbered("c", 3)));
    expect(await bench.read()).toEqual([...numbered("b", 10), ...numbered("c", 3)]);
  });

  it("is skipped where the writer comes only after the truncated file was looked at", async () => {
    const { programs } = bench;
    const writer = programs.openWriter(LOG, { append: false });
    writer.write(text(numbered("a", 10)));
    const run = await bench.start();
    await bench.pass(500);
    programs.copy(LOG, `${LOG}.1`);
    programs.truncate(LOG);
    await bench.pass(1000);
    writer.write(text(numbered("b", 3)));
    await bench.pass(1000);
    writer.write(text(numbered("c", 3)));
    await bench.pass(1000);
    await run.stop();
    expect(run.lines).toEqual([...numbered("a", 10), ...numbered("b", 3), ...numbered("c", 3)]);
  });
});

describe("a second name", () => {
  it("of a file of which nothing was read yet tears nothing apart, and its end neither", async () => {
    const { programs } = bench;
    programs.append(LOG, "");
    const first = await bench.start();
    await bench.pass(300);
    programs.link(LOG, "/logs/link.log");
    await bench.pass(300);
    programs.append(LOG, "1\n");
    await bench.pass(300);
    await first.kill();
    programs.unlink("/logs/link.log");
    programs.append(LOG, "2\n");
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "3\n");
    expect([...first.lines, ...(await bench.read())]).toEqual(["1", "2", "3"]);
  });

  it("that goes just before an editor saves the file leaves it the same file", async () => {
    const { programs } = bench;
    programs.append(LOG, text(numbered("a", 5)));
    const run = await bench.start();
    await bench.pass(300);
    programs.link(LOG, "/logs/link.log");
    await bench.pass(300);
    programs.unlink("/logs/link.log");
    programs.copy(LOG, "/logs/swap");
    programs.append("/logs/swap", "b\n");
    programs.rename("/logs/swap", LOG);
    await bench.pass(1000);
    await run.stop();
    expect(run.lines).toEqual([...numbered("a", 5), "b"]);
  });
});

describe("a file saved under a new inode", () => {
  it("and rotated at once gives the line that was added to it", async () => {
    const { programs } = bench;
    programs.append(LOG, text(numbered("a", 5)));
    const run = await bench.start();
    await bench.pass(300);
    programs.copy(LOG, "/logs/swap");
    programs.append("/logs/swap", "b\n");
    programs.rename("/logs/swap", LOG);
    programs.rename(LOG, `${LOG}.1`);
    await bench.pass(5000);
    await run.stop();
    expect(run.lines).toEqual([...numbered("a", 5), "b"]);
  });
});

describe("a long file saved under a new inode", () => {
  it("and rotated at once is read to its end before the one that came after it", async () => {
    const { programs } = bench;
    const before = numbered("a", 300);
    programs.append(LOG, text(before));
    const run = await bench.start();
    await bench.pass(500);
    programs.copy(LOG, "/logs/swap");
    programs.append("/logs/swap", text(numbered("b", 50)));
    programs.rename("/logs/swap", LOG);
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, text(numbered("c", 5)));
    await bench.pass(5000);
    await run.stop();
    expect(run.lines).toEqual([...before, ...numbered("b", 50), ...numbered("c", 5)]);
  });
});

describe("content that was truncated in place", () => {
  it("makes room for the new one at once, each time", async () => {
    const { programs } = bench;
    programs.append(LOG, "0 first of all\n");
    const run = await bench.start({ rotateWaitMs: 60_000 });
    await bench.pass(500);
    for (const line of ["1", "2", "3"]) {
      programs.truncate(LOG);
      programs.append(LOG, `${line}\n`);
      await bench.pass(500);
    }
    expect(run.lines).toEqual(["0 first of all", "1", "2", "3"]);
    expect(bench.named("gap")).toEqual([]);
    await run.stop();
  });
});

describe("lines that are all equal", () => {
  const beat = `${"beat".padEnd(99, ".")}\n`;

  it("hide no truncation where a copy appeared while nobody looked", async () => {
    const { programs } = bench;
    programs.append(LOG, beat.repeat(40));
    expect(await bench.read()).toHaveLength(40);
    programs.append(LOG, beat.repeat(20));
    await bench.pass(50);
    programs.copy(LOG, `${LOG}.1`);
    await bench.pass(50);
    programs.truncate(LOG);
    programs.append(LOG, beat.repeat(80));
    expect(await bench.read()).toHaveLength(20 + 80);
  });
});

describe("what waits for an older generation", () => {
  it("waits open, so that its deletion loses nothing", async () => {
    const { programs } = bench;
    const first = numbered("a", 3000);
    programs.append(LOG, text(first));
    const run = await bench.start({}, { isHeld: true });
    await bench.pass(300);
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "b\n");
    await bench.pass(500);
    programs.unlink(`${LOG}.1`);
    programs.rename(LOG, `${LOG}.1`);
    programs.append(LOG, "c\n");
    await bench.pass(500);
    programs.unlink(`${LOG}.1`);
    run.goOn();
    await bench.pass(20_000);
    await run.stop();
    expect(run.lines).toEqual([...first, "b", "c"]);
    expect(bench.named("gap")).toEqual([]);
  });

  it("waits for none that is gone and was given out to its end", async () => {
    const { programs } = bench;
    programs.append(LOG, "1\n");
    await bench.read();
    programs.unlink(LOG);
    programs.append("/logs/other", "");
    programs.append(LOG, "2\n");
    const run = await bench.start({ rotateWaitMs: 60_000 });
    await bench.pass(1000);
    expect(run.lines).toEqual(["2"]);
    expect(bench.named("gap")).toEqual([]);
    await run.stop();
  });
});

describe('`read_from = "end"`', () => {
  it("is about what was there at the first start of the source, not at each", async () => {
    const { programs } = bench;
    const none = await bench.start({ readFrom: "end" });
    await bench.pass(300);
    await none.stop();
    programs.append(LOG, "1\n");
    const run = await bench.start({ readFrom: "end" });
    await bench.pass(1000);
    await run.stop();
    expect(run.lines).toEqual(["1"]);
  });
});
