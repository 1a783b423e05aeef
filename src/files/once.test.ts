import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pathFromText } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { type Fault, FaultyFileSystem } from "../testing/faulty-file-system.ts";
import { TailBench, texts } from "./tail-bench.test-kit.ts";
import type { TailerManagerOptions } from "./tailer-manager-options.ts";

let bench: TailBench;
let files: FaultyFileSystem;
beforeEach(() => {
  bench = new TailBench();
  files = new FaultyFileSystem(nodeFileSystem);
});
afterEach(() => bench.close());

const ALWAYS = Number.POSITIVE_INFINITY;

function fail(name: string, fault: Omit<Fault, "path" | "fails"> & { readonly fails?: string }): void {
  files.fail({ times: ALWAYS, fails: "EACCES", ...fault, path: pathFromText(bench.path(name)) });
}

/** A run to the end of what is there; it must end by itself. */
async function once(options: Partial<TailerManagerOptions> = {}) {
  const run = bench.start({ include: [`${bench.folder}/**`], ...options }, { once: true, fileSystem: files });
  await run.ended;
  bench.positions.commit();
  const unreadable = run.manager.status().unreadable ?? [];
  return { lines: texts(run.lines).sort(), unreadable };
}

describe("a run with `once`", () => {
  it("ends beside a file that may not be read, delivers the rest, and tells of it", async () => {
    writeFileSync(bench.path("a.log"), "a\n");
    writeFileSync(bench.path("secret.log"), "secret\n");
    fail("secret.log", { call: "open" });
    const { lines, unreadable } = await once({ rotateWaitMs: 600_000 });
    expect(lines).toEqual(["a"]);
    expect(unreadable).toEqual([{ path: bench.path("secret.log"), reason: expect.stringMatching(/^EACCES/) }]);
    expect(bench.eventsNamed("file_unreadable")).toHaveLength(1);
  });

  it("reads in the next run what may be read by then", async () => {
    writeFileSync(bench.path("secret.log"), "1\n");
    fail("secret.log", { call: "open" });
    expect((await once()).lines).toEqual([]);
    files.mend();
    appendFileSync(bench.path("secret.log"), "2\n");
    expect(await once()).toEqual({ lines: ["1", "2"], unreadable: [] });
  });

  it("tells of a folder that may not be looked into as of a file", async () => {
    mkdirSync(bench.path("private"));
    writeFileSync(bench.path("private/x.log"), "x\n");
    writeFileSync(bench.path("a.log"), "a\n");
    fail("private", { call: "readdir" });
    const { lines, unreadable } = await once();
    expect(lines).toEqual(["a"]);
    expect(unreadable).toEqual([{ path: bench.path("private"), reason: expect.stringMatching(/^EACCES/) }]);
  });

  it("waits for a trouble that passes, and not longer than rotate_wait_ms for one that stays", async () => {
    writeFileSync(bench.path("passes.log"), "passes\n");
    writeFileSync(bench.path("stays.log"), "stays\n");
    fail("passes.log", { call: "read", fails: "EIO", times: 1 });
    fail("stays.log", { call: "read", fails: "EIO" });
    const { lines, unreadable } = await once({ rotateWaitMs: 500 });
    expect(lines).toEqual(["passes"]);
    expect(unreadable.map(({ path }) => path)).toEqual([bench.path("stays.log")]);
  });

  it("reads what comes behind an older generation that may not be read", async () => {
    writeFileSync(bench.path("app.log.1"), "old\n");
    writeFileSync(bench.path("app.log"), "new\n");
    fail("app.log.1", { call: "open" });
    const { lines, unreadable } = await once({ rotateWaitMs: 600_000 });
    expect(lines).toEqual(["new"]);
    expect(unreadable.map(({ path }) => path)).toEqual([bench.path("app.log.1")]);
  });

  it("ends beside a known file whose content may not be looked at any more", async () => {
    writeFileSync(bench.path("app.log"), "1\n");
    expect((await once()).lines).toEqual(["1"]);
    appendFileSync(bench.path("app.log"), "2\n");
    fail("app.log", { call: "open" });
    const { lines, unreadable } = await once({ rotateWaitMs: 600_000 });
    expect(lines).toEqual([]);
    expect(unreadable.map(({ path }) => path)).toEqual([bench.path("app.log")]);
    files.mend();
    expect((await once()).lines).toEqual(["2"]);
  });

  it("ends beside an archive that may not be read", async () => {
    writeFileSync(bench.path("app.log.gz"), gzipSync("1\n"));
    fail("app.log.gz", { call: "open" });
    const { lines, unreadable } = await once({ rotateWaitMs: 600_000 });
    expect(lines).toEqual([]);
    expect(unreadable.map(({ path }) => path)).toEqual([bench.path("app.log.gz")]);
  });

  it("ends beside what is known or stands beside it, and may not be looked into any more", async () => {
    writeFileSync(bench.path("app.log"), "1\n");
    writeFileSync(bench.path("done.gz"), gzipSync("2\n"));
    expect((await once()).lines).toEqual(["1", "2"]);
    writeFileSync(bench.path("app.log.1"), "3\n");
    appendFileSync(bench.path("app.log"), "4\n");
    fail("app.log.1", { call: "open" });
    fail("done.gz", { call: "open" });
    const { lines, unreadable } = await once({ rotateWaitMs: 600_000 });
    expect(lines).toEqual(["4"]);
    expect(unreadable.map(({ path }) => path)).toContain(bench.path("app.log.1"));
    files.mend();
    expect((await once()).lines).toEqual(["3"]);
  });

  it("ends beside an archive whose program is not installed, and says which it is", async () => {
    writeFileSync(bench.path("a.log"), "a\n");
    writeFileSync(bench.path("b.log.xz"), Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 1, 2, 3]));
    const path = process.env["PATH"];
    process.env["PATH"] = "/nonexistent";
    try {
      const { lines, unreadable } = await once({ rotateWaitMs: 600_000 });
      expect(lines).toEqual(["a"]);
      expect(unreadable.map(({ reason }) => reason)).toEqual([
        expect.stringContaining("install it (Debian: xz-utils)"),
      ]);
    } finally {
      process.env["PATH"] = path;
    }
  });

  it("ends beside a file that cannot even be looked at", async () => {
    writeFileSync(bench.path("a.log"), "a\n");
    writeFileSync(bench.path("b.log"), "b\n");
    fail("b.log", { call: "statSync", fails: "EIO" });
    const { lines, unreadable } = await once({ rotateWaitMs: 300 });
    expect(lines).toEqual(["a"]);
    expect(unreadable.map(({ path }) => path)).toEqual([bench.path("b.log")]);
  });
});
