import { beforeEach, describe, expect, it } from "vitest";
import { SimBench } from "./sim-bench.test-kit.ts";

let bench: SimBench;
beforeEach(() => {
  bench = new SimBench();
});

const LOG = "/logs/app.log";

describe("TailerManager › why", () => {
  it("says that a file is read to its end, and where it stands in plain bytes", async () => {
    bench.programs.append(LOG, "1\n22\n");
    const run = await bench.start();
    await bench.pass(300);
    const facts = await run.manager.why(LOG);
    expect(facts).toMatchObject({
      path: LOG,
      answer: "being read, at byte 5 of 5; waits for more data: it is read to its end",
      pattern: "included",
      pattern_by: "/logs/*.log",
      generation: 0,
      names: [LOG],
      phase: "live",
      position: 5,
      committed: 5,
      size: 5,
      lag_bytes: 0,
    });
    expect(facts.key).toMatch(/^[0-9a-f]{32}$/);
    expect(facts.inode).toMatch(/^\d+$/);
    expect(JSON.parse(JSON.stringify(facts))).toEqual(facts);
    await run.stop();
  });

  it("says which pattern leaves a file out, and that none matches", async () => {
    bench.programs.append(LOG, "1\n");
    bench.programs.append("/logs/app.txt", "1\n");
    const run = await bench.start({ exclude: ["app.*"] });
    await bench.pass(300);
    expect((await run.manager.why(LOG)).answer).toBe("not read: the exclude pattern app.* leaves it out");
    expect((await run.manager.why("/logs/app.txt")).answer).toBe("not read: no include pattern matches it");
    await run.stop();
  });

  it("says that nothing is there", async () => {
    const run = await bench.start();
    expect((await run.manager.why("/logs/no.log")).answer).toBe("not found: nothing is there; it is read once it is");
    await run.stop();
  });

  it("says of how many bytes an unfinished line is", async () => {
    bench.programs.append(LOG, "1\nhalf");
    const run = await bench.start();
    await bench.pass(300);
    const { answer, position, waits_for } = await run.manager.why(LOG);
    expect(answer).toBe("being read, at byte 2 of 6; waits for the end of an unfinished line of 4 bytes");
    expect(position).toBe(2);
    expect(waits_for).toBe("the end of an unfinished line of 4 bytes");
    await run.stop();
  });

  it("says which error keeps a file from being read, and when it is tried again", async () => {
    bench.programs.append(LOG, "1\n");
    bench.programs.deny(LOG);
    const run = await bench.start();
    await bench.pass(300);
    const { answer, lag_bytes } = await run.manager.why(LOG);
    expect(answer).toMatch(/^cannot be read \(EACCES: .*\); its position 0 is kept, and it is tried again in \d+ ms$/);
    expect(lag_bytes).toBe(2);
    await run.stop();
  });

  it("says that a second name leads to a file that is read under its first", async () => {
    bench.programs.append(LOG, "1\n");
    bench.programs.link(LOG, "/logs/b.log");
    bench.programs.symlink(LOG, "/logs/c.log");
    const run = await bench.start();
    await bench.pass(300);
    const answers = await Promise.all([LOG, "/logs/b.log", "/logs/c.log"].map((path) => run.manager.why(path)));
    const aliases = answers.filter((facts) => facts.answer.startsWith("read once, as /logs/"));
    expect(aliases).toHaveLength(2);
    expect(aliases[0]!.answer).toMatch(/both names lead to the same file \(at byte 2 of 2\)$/);
    await run.stop();
  });

  it("says by which path a file is read that several chains of links lead to", async () => {
    bench.programs.mkdirs("/logs/v1");
    bench.programs.append("/logs/v1/app.log", "1\n");
    bench.programs.symlink("/logs/v1", "/logs/current");
    const run = await bench.start({ include: ["/logs/**/*.log"] });
    await bench.pass(300);
    expect(run.lines).toEqual(["1"]);
    const { answer, position } = await run.manager.why("/logs/current/app.log");
    expect(answer).toBe("read once, as /logs/v1/app.log: both names lead to the same file (at byte 2 of 2)");
    expect(position).toBe(2);
    await run.stop();
  });

  it("says that a file is left out as more match than max_files, and the source counts it", async () => {
    for (const name of ["a", "b", "c"]) bench.programs.append(`/logs/${name}.log`, "1\n");
    const run = await bench.start({ maxFiles: 2 });
    await bench.pass(300);
    const answers = await Promise.all(["a", "b", "c"].map((name) => run.manager.why(`/logs/${name}.log`)));
    const leftOut = answers.filter(
      ({ answer }) => answer === "not read: more files match than max_files allows; raise it",
    );
    expect(leftOut).toHaveLength(1);
    expect(run.manager.status().leftOutFiles).toBe(1);
    expect(bench.named("file_limit_reached").map(({ facts }) => facts)).toEqual([
      { source: "app", max_files: 2, left_out: 1 },
    ]);
    await run.stop();
  });

  it("says that a file is older than ignore_older_ms", async () => {
    bench.programs.append(LOG, "1\n");
    await bench.pass(60_000);
    const run = await bench.start({ ignoreOlderMs: 5000 });
    await bench.pass(300);
    expect((await run.manager.why(LOG)).answer).toBe(
      "not read: it was last modified 60 s ago, and ignore_older_ms is 5000",
    );
    await run.stop();
  });

  it("says that a rotated file was read to its end, and where", async () => {
    bench.programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    bench.programs.rename(LOG, `${LOG}.1`);
    await bench.pass(200);
    expect((await run.manager.why(`${LOG}.1`)).answer).toMatch(/^rotated \(renamed\), and read to its end as /);
    await bench.pass(2000);
    const facts = await run.manager.why(`${LOG}.1`);
    expect(facts.answer).toBe("read to its end at byte 2; nothing more is expected, and what is appended is read");
    expect(facts).toMatchObject({ phase: "finished", pattern: "unmatched", position: 2 });
    await run.stop();
  });

  it("says of what a copy is one", async () => {
    bench.programs.append(LOG, "1\n");
    const run = await bench.start({ include: ["/logs/**"] });
    await bench.pass(300);
    bench.programs.copy(LOG, `${LOG}.1`);
    await bench.pass(2000);
    expect((await run.manager.why(`${LOG}.1`)).answer).toBe(
      "not read: it holds a copy of the first 2 bytes of /logs/app.log, which gives them already",
    );
    await run.stop();
  });

  it("says that the channel, and what comes after it, holds a file back", async () => {
    bench.programs.append(LOG, "line\n".repeat(2000));
    const run = await bench.start({}, { isHeld: true });
    await bench.pass(300);
    expect((await run.manager.why(LOG)).waits_for).toBe("the channel: what comes after it is slower");
    run.goOn();
    await bench.pass(300);
    await run.stop();
    expect(run.lines).toHaveLength(2000);
  });

  it("says that too many batches are unsettled", async () => {
    bench.programs.append(LOG, "1\n");
    let hasRoom = false;
    bench.positions.hasRoom = () => hasRoom;
    bench.positions.roomFor = () => bench.clock.sleep(100);
    const run = await bench.start();
    await bench.pass(300);
    expect((await run.manager.why(LOG)).waits_for).toMatch(/^sinks: too many of its batches/);
    hasRoom = true;
    await bench.pass(300);
    await run.stop();
    expect(run.lines).toEqual(["1"]);
  });

  it("says that a file waits for a descriptor", async () => {
    bench.programs.append(LOG, "line\n".repeat(2000));
    bench.programs.append("/logs/b.log", "1\n");
    const run = await bench.start({ maxOpenFiles: 1 }, { isHeld: true });
    await bench.pass(300);
    const answers = await Promise.all([LOG, "/logs/b.log"].map((path) => run.manager.why(path)));
    expect(answers.map((facts) => facts.waits_for)).toContain("a free descriptor (1 files may be open)");
    run.goOn();
    await bench.pass(5000);
    await run.stop();
  });

  it("says where old files are looked for, and who says so", async () => {
    bench.programs.append(LOG, "1\n");
    const run = await bench.start({ rotatedTo: ["/old/{name}*"] });
    await bench.pass(300);
    expect((await run.manager.why(LOG)).old_files).toBe("rotated_to says /old/{name}*");
    await run.stop();
  });

  it("says that a folder cannot be looked into", async () => {
    bench.programs.mkdirs("/logs/sub");
    bench.programs.append("/logs/sub/a.log", "1\n");
    bench.programs.deny("/logs/sub");
    const run = await bench.start({ include: ["/logs/sub/*.log"] });
    await bench.pass(300);
    expect((await run.manager.why("/logs/sub/a.log")).answer).toMatch(
      /^not read: its folder cannot be looked into \(EACCES/,
    );
    await run.stop();
  });

  it("finds a name that is no UTF-8 by the way it is shown", async () => {
    const path = Buffer.from("/logs/caf\xe9.log", "latin1").toString("latin1");
    bench.programs.append(path, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    expect(await run.manager.why("/logs/caf\\xE9.log")).toMatchObject({ position: 2, path: "/logs/caf\\xE9.log" });
    await run.stop();
  });
});

describe("TailerManager › reset", () => {
  it("reads the file at a path from 0 again, under a new key", async () => {
    bench.programs.append(LOG, "1\n2\n");
    const run = await bench.start();
    await bench.pass(300);
    const { key } = await run.manager.why(LOG);
    expect(await bench.clock.run(run.manager.reset(LOG))).toBe(1);
    await bench.pass(300);
    bench.programs.append(LOG, "3\n");
    await bench.pass(300);
    expect(run.lines).toEqual(["1", "2", "1", "2", "3"]);
    const facts = await run.manager.why(LOG);
    expect(facts.key).not.toBe(key);
    expect([...bench.positions.stored.keys()]).toEqual([facts.key]);
    await run.stop();
    expect(await bench.read()).toEqual([]);
  });

  it("leaves the other files as they are", async () => {
    bench.programs.append(LOG, "1\n");
    bench.programs.append("/logs/b.log", "a\n");
    const run = await bench.start();
    await bench.pass(300);
    bench.programs.rename(LOG, `${LOG}.1`);
    bench.programs.append(LOG, "2\n");
    await bench.pass(2000);
    expect(await bench.clock.run(run.manager.reset(LOG))).toBe(1);
    await bench.pass(2000);
    await run.stop();
    expect(run.lines.sort()).toEqual(["1", "2", "2", "a"]);
  });

  it("of an unknown path forgets nothing", async () => {
    const run = await bench.start();
    expect(await bench.clock.run(run.manager.reset(LOG))).toBe(0);
    await run.stop();
  });

  it("that cannot be made durable changes nothing", async () => {
    bench.programs.append(LOG, "1\n");
    const run = await bench.start();
    await bench.pass(300);
    const save = bench.positions.save.bind(bench.positions);
    bench.positions.save = async () => {
      throw new Error("TR_COMMIT_FAILED");
    };
    await expect(bench.clock.run(run.manager.reset(LOG))).rejects.toThrow("TR_COMMIT_FAILED");
    bench.positions.save = save;
    bench.programs.append(LOG, "2\n");
    await bench.pass(500);
    await run.stop();
    expect(run.lines).toEqual(["1", "2"]);
  });

  it("that fails while it is not durable yet where a file begins changes nothing", async () => {
    bench.programs.append(LOG, "1\n");
    const save = bench.positions.save.bind(bench.positions);
    bench.positions.save = async () => {
      throw new Error("TR_COMMIT_FAILED");
    };
    const run = await bench.start({ readFrom: "end" });
    await bench.pass(300);
    await expect(bench.clock.run(run.manager.reset(LOG))).rejects.toThrow("TR_COMMIT_FAILED");
    bench.positions.save = save;
    bench.programs.append(LOG, "2\n");
    await bench.pass(10_000);
    await run.stop();
    expect(run.lines).toEqual(["2"]);
    expect(bench.named("file_truncated")).toEqual([]);
  });
});
