import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { pathFromText } from "../runtime/byte-path.ts";
import { SimFileSystem } from "../testing/sim-file-system.ts";
import type { FileFacts } from "./file-report.ts";
import { PathPatterns } from "./glob.ts";
import { SimBench } from "./sim-bench.test-kit.ts";
import { whyAtRest } from "./why-at-rest.ts";

vi.mock("node:zlib", async () => (await import("../testing/sim-zlib.ts")).syncZlib());

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const INCLUDE = ["/logs/**"];

/** What `why` answers while an agent runs, and after it was stopped. */
async function why(path: string): Promise<{ running: FileFacts; atRest: FileFacts }> {
  const run = await bench.start({ include: INCLUDE });
  await bench.pass(3000);
  const running = await bench.clock.run(run.manager.why(path));
  await run.stop();
  return { running, atRest: await whyStored(path) };
}

function whyStored(path: string): Promise<FileFacts> {
  const { positions, disk } = bench;
  const stored = { entries: positions.stored, committedOf: (key: string) => positions.committedOf(key) };
  const fileSystem = new SimFileSystem(disk, { clock: bench.clock.process() });
  const files = { fileSystem, readsArchives: true };
  return bench.clock.run(whyAtRest(pathFromText(path), new PathPatterns(INCLUDE, []), stored, files));
}

const lines = (count: number) => Array.from({ length: count }, (_, index) => `${index}\n`).join("");

describe("why", () => {
  it("says of a file that may not be read that it needs permission, and how to give it", async () => {
    bench.programs.append("/logs/a.log", "1\n");
    bench.programs.deny("/logs/a.log");
    const { running, atRest } = await why("/logs/a.log");
    expect(running.answer).toMatch(/^cannot be read \(EACCES: .*; its position 0 is kept, and it is tried again in/);
    expect(running.waits_for).toMatch(/^permission: let the user that runs Tailrace read it .*u:USER:r \/logs\/a\.log/);
    expect(atRest.answer).toMatch(/^cannot be read by this user \(EACCES: .*; it needs permission: .*; no agent runs$/);
    bench.programs.deny("/logs/a.log", false);
    expect((await whyStored("/logs/a.log")).answer).toBe(
      "not read yet: no agent runs; the next one reads it as a new file",
    );
  });

  it("follows one event that a sibling cannot be looked into, and one that it can again", async () => {
    bench.programs.append("/logs/app.log", "1\n");
    const run = await bench.start({ include: INCLUDE });
    await bench.pass(1000);
    bench.programs.append("/logs/app.log.1", "old\n");
    bench.programs.deny("/logs/app.log.1");
    await bench.pass(10_000);
    expect(bench.named("file_unreadable")).toHaveLength(1);
    expect(bench.named("file_readable")).toEqual([]);
    expect((await bench.clock.run(run.manager.why("/logs/app.log.1"))).answer).toMatch(
      /^cannot be looked at \(EACCES: .*; it needs permission: .*; it is tried again$/,
    );
    bench.programs.deny("/logs/app.log.1", false);
    await bench.pass(10_000);
    expect(bench.named("file_readable")).toHaveLength(1);
    run.files.failCall("statSync", "EIO", { times: 1000 });
    bench.programs.append("/logs/app.log", "2\n");
    await bench.pass(5000);
    run.files.mend();
    await bench.pass(30_000);
    await run.stop();
    expect(run.lines.sort()).toEqual(["1", "2", "old"]);
    const counts = ["file_unreadable", "file_readable"].map((name) => bench.named(name).length);
    expect(counts[1]).toBeLessThanOrEqual(counts[0]!);
    expect(counts[0]).toBeLessThan(8);
  });

  it("is not preceded by a word of reading a file that could not be opened", async () => {
    bench.programs.append("/logs/a.log", "1\n");
    bench.programs.deny("/logs/a.log");
    const run = await bench.start({ include: INCLUDE });
    await bench.pass(3000);
    expect(bench.named("file_opened")).toEqual([]);
    expect(bench.named("file_unreadable")).toHaveLength(1);
    bench.programs.deny("/logs/a.log", false);
    await bench.pass(60_000);
    await run.stop();
    expect(bench.named("file_opened").map(({ message }) => message)).toEqual(["/logs/a.log is read from byte 0 on"]);
    expect(run.lines).toEqual(["1"]);
  });

  it("says of a known file that may not be read any more that its position is kept", async () => {
    bench.programs.append("/logs/a.log", "1\n");
    await bench.read({ include: INCLUDE });
    bench.programs.append("/logs/a.log", "2\n");
    bench.programs.deny("/logs/a.log");
    const { running, atRest } = await why("/logs/a.log");
    expect(running.waits_for).toMatch(/^permission/);
    expect(atRest.answer).toMatch(/^cannot be read by this user .*; its position 2 is kept, and it needs permission/);
  });

  it("says of an error that passes that it waits for the next try", async () => {
    bench.programs.append("/logs/a.log", "1\n");
    const run = await bench.start({ include: INCLUDE });
    run.files.failCall("read", "EIO", { times: 1000 });
    bench.programs.append("/logs/a.log", "2\n");
    await bench.pass(3000);
    expect((await bench.clock.run(run.manager.why("/logs/a.log"))).waits_for).toBe("the next try");
    run.files.mend();
    await bench.pass(60_000);
    expect((await bench.clock.run(run.manager.why("/logs/a.log"))).waits_for).toMatch(/^more data/);
    await run.stop();
    expect(run.lines).toEqual(["1", "2"]);
  });

  it("says of an empty file that it is empty", async () => {
    bench.programs.append("/logs/a.log", "");
    const { running, atRest } = await why("/logs/a.log");
    expect(running.answer).toBe("being read, at byte 0 of 0; waits for data: it is empty");
    expect(atRest.answer).toBe("not read yet: it is empty, and no agent runs; the next one reads it as a new file");
  });

  it("says of a folder that it is one, and what pattern would read it", async () => {
    bench.programs.mkdirs("/logs/sub");
    const { running, atRest } = await why("/logs/sub");
    const answer = "not read: it is a folder, and files are read; did you mean /logs/sub/**?";
    expect([running.answer, atRest.answer]).toEqual([answer, answer]);
  });

  it("says of a device, a pipe or a socket that it is none that is read", async () => {
    bench.programs.makeOther("/logs/pipe");
    const { running, atRest } = await why("/logs/pipe");
    const answer = "not read: it is a device, a pipe or a socket, and only regular files are read";
    expect([running.answer, atRest.answer]).toEqual([answer, answer]);
  });

  it("says of a symbolic link that it leads to nothing, and of nothing that nothing is there", async () => {
    bench.programs.symlink("/gone", "/logs/link.log");
    const { running, atRest } = await why("/logs/link.log");
    const answer = "not read: it is a symbolic link, and nothing is where it leads; it is read once something is";
    expect([running.answer, atRest.answer]).toEqual([answer, answer]);
    const none = await why("/logs/none.log");
    const nothing = "not found: nothing is there; it is read once it is";
    expect([none.running.answer, none.atRest.answer]).toEqual([nothing, nothing]);
  });

  it("agrees with the store of a whole archive, whatever is asked", async () => {
    bench.programs.create("/logs/a.log.gz", gzipSync(lines(100)));
    const run = await bench.start({ include: INCLUDE });
    await bench.pass(3000);
    expect((await bench.clock.run(run.manager.why("/logs/a.log.gz"))).phase).toBe("finished");
    // Without the end of the agent, which would note everything.
    expect([...bench.positions.stored.values()].map(({ tombstoneSinceMs }) => typeof tombstoneSinceMs)).toEqual([
      "number",
    ]);
    await run.kill();
    const atRest = await whyStored("/logs/a.log.gz");
    expect(atRest).toMatchObject({ phase: "finished", position: 290 });
    expect(atRest.answer).toBe("no agent runs; it was read to its end at byte 290, and would be read on if it grew");
  });

  it("says of an archive that is cut up to where it was read, and never that nothing is left", async () => {
    const archive = gzipSync(lines(3000));
    bench.programs.create("/logs/a.log.gz", archive.subarray(0, 4000));
    const { running, atRest } = await why("/logs/a.log.gz");
    expect(running.answer).toMatch(
      /^read as far as it can be decompressed, to byte \d+ of its content: it ends too early, in the middle of a member \(byte 4000 of the archive\); what follows is not read, unless the file changes$/,
    );
    expect(atRest.answer).toBe(running.answer.replace("read as", "no agent runs; it was read as"));
    expect(bench.named("gap")).toHaveLength(1);
  });

  it("says at rest of an archive that was read and has grown since that the next run reads on", async () => {
    bench.programs.create("/logs/a.log.gz", gzipSync(lines(100)));
    await bench.read({ include: INCLUDE });
    bench.programs.append("/logs/a.log.gz", gzipSync("more\n"));
    expect((await whyStored("/logs/a.log.gz")).answer).toBe(
      "no agent runs; the archive was read to byte 290 of its content and has changed since: the next one reads what is new in it",
    );
    expect(await bench.read({ include: INCLUDE })).toEqual(["more"]);
  });

  it("says of what is named like an archive and is none what it is", async () => {
    bench.programs.append("/logs/a.gz", "text\n");
    const { running, atRest } = await why("/logs/a.gz");
    const reason = "it is no gzip archive: it does not begin as one, but with text (byte 0 of the archive)";
    expect(running.answer).toContain(reason);
    expect(atRest.answer).toBe(`cannot be decompressed: ${reason}`);
  });
});
