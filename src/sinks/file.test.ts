import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { StageError } from "../errors.ts";
import type { Batch } from "../record/index.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { FaultyFileSystem } from "../testing/faulty-file-system.ts";
import { linesBatch } from "../testing/memory-stages.ts";
import { DriverStore, SinkDriver } from "../testing/sink-driver.ts";
import { fileSink } from "./file.ts";

let folder: string;
let files: FaultyFileSystem;
let store: DriverStore;
let drivers: SinkDriver[];
const signal = new AbortController().signal;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-file-sink-"));
  files = new FaultyFileSystem(nodeFileSystem);
  store = new DriverStore();
  drivers = [];
});

afterEach(async () => {
  files.mend();
  for (const driver of drivers) await driver.sink[Symbol.asyncDispose]();
  expect(files.openHandles, "descriptors that were not closed").toBe(0);
  rmSync(folder, { recursive: true });
});

const at = (name: string) => join(folder, name);
const textOf = (name: string) => readFileSync(at(name), "utf8");
const outputsIn = (name = ".") =>
  readdirSync(at(name))
    .filter((entry) => entry !== "state" && statSync(join(folder, name, entry)).isFile())
    .sort();

async function open(
  options: object,
  extra: { stateName?: string; barrierEvery?: number; store?: DriverStore } = {},
): Promise<SinkDriver> {
  const parsed = fileSink.options.parse({ encoding: "raw", path: at("out.log"), ...options });
  const driver = await SinkDriver.open({
    open: (context) => fileSink.open(parsed, context),
    store: extra.store ?? store,
    fileSystem: files,
    clock: systemClock,
    stateDir: at("state"),
    barrierEvery: extra.barrierEvery ?? 2,
  });
  drivers.push(driver);
  return driver;
}

/** The process is gone; what it had written stays. */
async function crash(): Promise<void> {
  await files.end();
  drivers = [];
  files = new FaultyFileSystem(nodeFileSystem);
}

const batch = (text: string, source = "app", offset = 0): Batch => linesBatch(source, "k", offset, [text]);
const batches = (...texts: string[]) => texts.map((text) => batch(text));
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "no error",
    (error: unknown) => (error instanceof StageError ? error.code : String(error)),
  );

describe("file sink", () => {
  it("appends batches byte for byte and goes on where it stopped", async () => {
    const first = await open({});
    await first.run(batches("one", "two"));
    await first.close();
    const again = await open({});
    await again.run(batches("one", "two", "three"));
    expect(textOf("out.log")).toBe("one\ntwo\nthree\n");
    expect(again.events).toEqual([]);
    expect(again.warnings).toEqual([]);
  });

  it("records a new output before its first byte", async () => {
    const lengths: number[] = [];
    store.onCommit = () => void lengths.push(statSync(at("deep/er/out.log")).size);
    const driver = await open({ path: at("deep/er/out.log") });
    expect(lengths).toEqual([0]);
    expect([...store.marks.keys()]).toEqual([`output:${at("deep/er/out.log")}`]);
    await driver.run(batches("one"));
  });

  it("makes no call at all for a barrier without news", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    const calls = files.calls();
    await driver.barrier();
    expect(files.calls()).toBe(calls);
  });

  it("gives new files the permissions of `mode`, less the umask", async () => {
    await open({ mode: "0600" });
    expect(statSync(at("out.log")).mode & 0o777).toBe(0o600);
  });
});

describe("file sink › failed writes", () => {
  it.each(["ENOSPC", "EDQUOT", "EIO"])("answers %s with retry and leaves nothing of the batch behind", async (code) => {
    const driver = await open({});
    await driver.run(batches("one"));
    files.fail({ call: "write", fails: { atMostBytes: 2 } });
    files.fail({ call: "write", fails: code });
    const outcome = await driver.sink.write(batch("two"), { signal });
    expect(outcome).toMatchObject({ kind: "retry" });
    expect(textOf("out.log")).toBe("one\n");
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("one\ntwo\n");
  });

  it("goes on after a short write", async () => {
    const driver = await open({});
    files.fail({ call: "write", times: 3, fails: { atMostBytes: 1 } });
    await driver.run(batches("first", "second"));
    expect(textOf("out.log")).toBe("first\nsecond\n");
    expect(driver.retries).toEqual([]);
  });

  it("cuts before the next append what it could not cut at once", async () => {
    const driver = await open({});
    files.fail({ call: "write", fails: { atMostBytes: 5 } });
    files.fail({ call: "write", fails: "EIO" });
    files.fail({ call: "truncate", times: 2, fails: "EIO" });
    expect(await driver.sink.write(batch("a long line"), { signal })).toMatchObject({ kind: "retry" });
    expect(textOf("out.log")).toBe("a lon");
    expect(await driver.sink.write(batch("x"), { signal })).toMatchObject({ kind: "retry" });
    await driver.run(batches("x"));
    expect(textOf("out.log")).toBe("x\n");
  });

  it("takes a batch for all of its outputs or for none", async () => {
    const driver = await open({ path: at("{key}.log") });
    const mixed = linesBatch("app", "k", 0, ["a1", "b1", "a2"]);
    const keyed = mixed.withRecords(
      mixed.records.map((record) => record.with({ key: String(record.event["message"])[0] })),
    );
    files.fail({ call: "write", path: pathFromText(at("b.log")), fails: "ENOSPC" });
    expect(await driver.sink.write(keyed, { signal })).toMatchObject({ kind: "retry" });
    expect([textOf("a.log"), textOf("b.log")]).toEqual(["", ""]);
    await driver.run([keyed]);
    expect([textOf("a.log"), textOf("b.log")]).toEqual(["a1\na2\n", "b1\n"]);
  });

  it("answers retry while a new output cannot be recorded", async () => {
    const driver = await open({ path: at("{source}.log") });
    store.onCommit = () => {
      throw Object.assign(new Error("no space"), { code: "ENOSPC" });
    };
    expect(await driver.sink.write(batch("one"), { signal })).toMatchObject({ kind: "retry" });
    store.onCommit = () => {};
    await driver.run(batches("one"));
    expect(textOf("app.log")).toBe("one\n");
  });
});

describe("file sink › failed barriers", () => {
  it("goes back to the committed length after a failed fdatasync, and never syncs those bytes again", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    await driver.sink.write(batch("two"), { signal });
    files.fail({ call: "datasync", fails: "EIO" });
    const opens = files.calls("open");
    const syncs = files.calls("datasync");
    await expect(driver.sink.prepare!()).rejects.toMatchObject({ code: "EIO" });
    expect(textOf("out.log")).toBe("one\n");
    expect(files.calls("datasync")).toBe(syncs + 1);
    expect(files.calls("open")).toBe(opens + 1);
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("one\ntwo\n");
  });

  it("takes nothing new until what was in doubt can be written again", async () => {
    const driver = await open({});
    await driver.sink.write(batch("one"), { signal });
    files.fail({ call: "datasync", fails: "EIO" });
    const barrier = driver.sink.prepare!();
    const meanwhile = driver.sink.write(batch("two"), { signal });
    await expect(barrier).rejects.toMatchObject({ code: "EIO" });
    expect(await meanwhile).toMatchObject({ kind: "retry" });
    expect(textOf("out.log")).toBe("");
  });

  it("does not call delivered what it takes back while it is written", async () => {
    const driver = await open({});
    await driver.sink.write(batch("one"), { signal });
    const [syncGate, openSyncGate] = gate();
    const [writeGate, openWriteGate] = gate();
    files.fail({ call: "datasync", fails: "EIO", until: syncGate });
    files.fail({ call: "write", fails: { atMostBytes: 100 }, until: writeGate });
    const barrier = driver.sink.prepare!();
    const writes = files.calls("write");
    const meanwhile = driver.sink.write(batch("two"), { signal });
    await until(() => files.calls("write") > writes);
    openSyncGate();
    const failed = expect(barrier).rejects.toMatchObject({ code: "EIO" });
    await new Promise((resolve) => setImmediate(resolve));
    openWriteGate();
    expect(await meanwhile).toMatchObject({ kind: "retry" });
    await failed;
    expect(textOf("out.log")).toBe("");
  });

  it("writes everything once and in order when barriers fail again and again", async () => {
    files.fail({ call: "datasync", after: 1, times: 1, fails: "EIO" });
    files.fail({ call: "datasync", after: 1, times: 2, fails: "EIO" });
    files.fail({ call: "truncate", times: 1, fails: "EIO" });
    const driver = await open({});
    const texts = Array.from({ length: 12 }, (_, index) => `line ${index}`);
    await driver.run(batches(...texts));
    expect(textOf("out.log")).toBe(`${texts.join("\n")}\n`);
    expect(driver.rewinds).toBe(3);
  });

  it("goes back in all outputs when one fails", async () => {
    const driver = await open({ path: at("{source}.log") }, { barrierEvery: 4 });
    files.fail({ call: "datasync", path: pathFromText(at("b.log")), fails: "EIO" });
    await driver.sink.write(batch("1", "a"), { signal });
    await driver.sink.write(batch("2", "b"), { signal });
    await expect(driver.sink.prepare!()).rejects.toMatchObject({ code: "EIO" });
    expect([textOf("a.log"), textOf("b.log")]).toEqual(["", ""]);
  });
});

describe("file sink › somebody else at the output", () => {
  it("finishes the old file and begins a new one when the output is renamed", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    renameSync(at("out.log"), at("out.log.1"));
    await driver.run(batches("one", "two"));
    expect([textOf("out.log.1"), textOf("out.log")]).toEqual(["one\n", "two\n"]);
  });

  it("commits what it wrote into the renamed file before it begins the new one", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.sink.write(batch("one"), { signal });
    renameSync(at("out.log"), at("out.log.1"));
    writeFileSync(at("out.log"), "");
    await driver.sink.write(batch("two"), { signal });
    store.commit(await driver.sink.prepare!(), 2);
    await driver.sink.committed!();
    await driver.run(batches("one", "two", "three"));
    expect([textOf("out.log.1"), textOf("out.log")]).toEqual(["one\ntwo\n", "three\n"]);
  });

  it("writes again what went into a file that was deleted before its commit", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    await driver.sink.write(batch("two"), { signal });
    unlinkSync(at("out.log"));
    await expect(driver.sink.prepare!()).rejects.toThrow("deleted");
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
    expect(driver.events.map(({ name }) => name)).toEqual(["output_missing"]);
  });

  it("begins anew when a finished output is deleted", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    unlinkSync(at("out.log"));
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
    expect(driver.events.map(({ name }) => name)).toEqual(["output_missing"]);
  });

  it("fails when it finds before a write that the output grew under another hand, and leaves it alone", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    appendFileSync(at("out.log"), "foreign\n");
    expect(await codeOf(driver.sink.write(batch("two"), { signal }))).toBe("TR_OUTPUT_FOREIGN");
    await driver.sink[Symbol.asyncDispose]();
    expect(textOf("out.log")).toBe("one\nforeign\n");
  });

  it("fails when it finds at a barrier that the output grew under another hand, and leaves it alone", async () => {
    const driver = await open({});
    await driver.sink.write(batch("one"), { signal });
    appendFileSync(at("out.log"), "foreign\n");
    expect(await codeOf(driver.sink.prepare!())).toBe("TR_OUTPUT_FOREIGN");
    await driver.sink[Symbol.asyncDispose]();
    expect(textOf("out.log")).toBe("one\nforeign\n");
  });

  it("adopts and reports an output that somebody cut", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    truncateSync(at("out.log"), 0);
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
    expect(driver.events.map(({ name }) => name)).toEqual(["output_foreign"]);
    await driver.close();
    await (await open({})).run(batches("one", "two", "three"));
    expect(textOf("out.log")).toBe("two\nthree\n");
  });

  it("adopts what is left when the cut comes between write and barrier", async () => {
    const driver = await open({});
    await driver.sink.write(batch("one"), { signal });
    truncateSync(at("out.log"), 2);
    store.commit(await driver.sink.prepare!(), 1);
    await driver.sink.committed!();
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("ontwo\n");
    expect(driver.events.map(({ name }) => name)).toEqual(["output_foreign"]);
  });

  it("refuses an output that another sink writes", async () => {
    await open({});
    expect(await codeOf(open({}, { store: new DriverStore() }))).toBe("TR_STAGE_OPEN");
    execFileSync("ln", [at("out.log"), at("other.log")]);
    expect(await codeOf(open({ path: at("other.log") }, { store: new DriverStore() }))).toBe("TR_STAGE_OPEN");
  });

  it("refuses a record whose output another sink writes, and takes what is its own alone", async () => {
    const by = await open({ path: at("{source}-x.log") });
    const other = await open({ path: at("app-{message}.log") }, { store: new DriverStore() });
    await by.run([batch("one", "app")]);
    await other.run([batch("y", "app")]);
    expect(await codeOf(other.sink.write(batch("x", "app", 2), { signal }))).toBe("TR_STAGE_OPEN");
    expect([textOf("app-x.log"), textOf("app-y.log")]).toEqual(["one\n", "y\n"]);
  });

  it("names as its target the whole path, since templates of one folder may never meet", () => {
    const target = (path: string) => fileSink.target!(fileSink.options.parse({ path }));
    expect(target(at("app-{dir}.log"))).toBe(target(at("./app-{dir}.log")));
    expect(target(at("app-{dir}.log"))).not.toBe(target(at("db-{dir}.log")));
  });

  it("refuses what is no regular file, without opening it", async () => {
    execFileSync("mkfifo", [at("fifo")]);
    expect(await codeOf(open({ path: at("fifo") }))).toBe("TR_STAGE_OPEN");
    expect(await codeOf(open({ path: "/dev/null" }))).toBe("TR_STAGE_OPEN");
    mkdirSync(at("sub"));
    expect(await codeOf(open({ path: at("sub") }))).toBe("TR_STAGE_OPEN");
    expect(() => fileSink.options.parse({ path: "/dev/stdout" })).toThrow("console");
  });
});

describe("file sink › start", () => {
  it("cuts what no commit covers after a crash, and keeps it in the state directory", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.run(batches("one"));
    await driver.sink.write(batch("two"), { signal });
    await crash();
    const again = await open({});
    expect(textOf("out.log")).toBe("one\n");
    const [saved] = readdirSync(at("state/cut"));
    expect(readFileSync(join(at("state/cut"), saved!), "utf8")).toBe("two\n");
    await again.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("one\ntwo\n");
  });

  it("cuts it also where the output was renamed while it was down", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.run(batches("one"));
    await driver.sink.write(batch("two"), { signal });
    await crash();
    renameSync(at("out.log"), at("out.log.1"));
    const again = await open({});
    await again.run(batches("one", "two"));
    expect([textOf("out.log.1"), textOf("out.log")]).toEqual(["one\n", "two\n"]);
  });

  it.each([
    ["longer", () => appendFileSync(at("out.log"), "x")],
    ["shorter", () => truncateSync(at("out.log"), 1)],
  ])("refuses an output that became %s after a clean stop", async (_what, change) => {
    const driver = await open({});
    await driver.run(batches("one"));
    await driver.close();
    change();
    expect(await codeOf(open({}))).toBe("TR_OUTPUT_FOREIGN");
    // The message's way out: moved out of the folder, a new one is begun.
    mkdirSync(at("aside"));
    renameSync(at("out.log"), at("aside/out.log"));
    store.wasCleanStop = true;
    await (await open({})).run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
  });

  it("adopts and reports after a crash an output that is shorter than recorded", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    await crash();
    truncateSync(at("out.log"), 0);
    const again = await open({});
    await again.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
    expect(again.events.map(({ name }) => name)).toEqual(["output_foreign"]);
  });

  it("reports an output that is gone, and begins a fresh one", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    await driver.close();
    unlinkSync(at("out.log"));
    const again = await open({});
    expect(again.events.map(({ name }) => name)).toEqual(["output_missing"]);
    await again.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
  });

  it("appends with one warning to bytes it has no record of", async () => {
    writeFileSync(at("out.log"), "old\n");
    const driver = await open({});
    await driver.run(batches("one"));
    expect(textOf("out.log")).toBe("old\none\n");
    expect(driver.warnings).toHaveLength(1);
  });

  it('refuses them with existing = "refuse", and renames them with "rotate"', async () => {
    writeFileSync(at("out.log"), "old\n");
    expect(await codeOf(open({ existing: "refuse" }))).toBe("TR_STAGE_OPEN");
    const driver = await open({ existing: "rotate" });
    await driver.run(batches("one"));
    const [current, closed] = outputsIn();
    expect([current, textOf(current!), textOf(closed!)]).toEqual(["out.log", "one\n", "old\n"]);
  });

  it("takes an empty file as its own, and one behind a symbolic link", async () => {
    writeFileSync(at("real.log"), "");
    symlinkSync(at("real.log"), at("out.log"));
    const driver = await open({ existing: "refuse" });
    await driver.run(batches("one"));
    expect(textOf("real.log")).toBe("one\n");
  });

  it("says so where a symbolic link leads to nothing", async () => {
    symlinkSync(at("nothing"), at("out.log"));
    await expect(open({})).rejects.toThrow("symbolic link");
  });
});

describe("file sink › rotation", () => {
  it("begins a new file before the old one grows over max_bytes, and keeps the names in order of time", async () => {
    const driver = await open({ rotate: { max_bytes: 14 } });
    const texts = Array.from({ length: 9 }, (_, index) => `line ${index}`);
    await driver.run(batches(...texts));
    const names = outputsIn();
    expect(names).toHaveLength(5);
    for (const name of names) expect(statSync(at(name)).size).toBeLessThanOrEqual(14);
    expect(names[0]).toBe("out.log");
    expect(names[1]).toMatch(/^out\.log\.\d{8}T\d{6}Z$/);
    const all = [...names.slice(1), "out.log"].flatMap((name) => textOf(name).split("\n").slice(0, -1));
    expect(all.sort()).toEqual(texts);
  });

  it("remembers a closed file by the name that it has, also where making that durable failed at first", async () => {
    const driver = await open({ rotate: { max_bytes: 8, keep: 1 } });
    const rename = files.renameNoReplace.bind(files);
    let isFirst = true;
    files.renameNoReplace = async (from, to) => {
      await rename(from, to);
      if (isFirst) files.fail({ call: "syncFolder", times: 1, fails: "EIO" });
      isFirst = false;
    };
    await driver.run(batches("one"));
    driver.sink.rotate!();
    await until(() => driver.warnings.includes("the output could not be rotated yet"));
    driver.sink.rotate!();
    await until(() => existsSync(at("out.log")));
    await driver.run(batches("one", "two"));
    driver.sink.rotate!();
    await until(() => existsSync(at("out.log")) && textOf("out.log") === "" && outputsIn().length === 2);
    // The first is on the list of closed ones under the name that it has, so that it could be deleted.
    expect(outputsIn().map(textOf)).toEqual(["", "two\n"]);
  });

  it("keeps only `keep` closed files, and never touches one that is not its own", async () => {
    writeFileSync(at("out.log.20200101T000000Z"), "not ours\n");
    const driver = await open({ rotate: { max_bytes: 8, keep: 2 } });
    await driver.run(batches(...Array.from({ length: 6 }, (_, index) => `line ${index}`)));
    const closed = outputsIn().filter((name) => name !== "out.log");
    expect(closed).toHaveLength(3);
    expect(closed).toContain("out.log.20200101T000000Z");
    const ours = closed.filter((name) => name !== "out.log.20200101T000000Z");
    expect(ours.map(textOf).sort()).toEqual(["line 3\n", "line 4\n"]);
  });

  it("rotates on SIGUSR1 without waiting for another record", async () => {
    const driver = await open({});
    await driver.run(batches("one"));
    driver.sink.rotate!();
    await until(() => outputsIn().length === 2 && existsSync(at("out.log")));
    await driver.run(batches("one", "two"));
    expect(textOf("out.log")).toBe("two\n");
    expect(textOf(outputsIn()[1]!)).toBe("one\n");
  });

  it("rotates on SIGUSR1 at the barrier while records wait for it, with appends held", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.sink.write(batch("one"), { signal });
    driver.sink.rotate!();
    const marks = await driver.sink.prepare!();
    const held = driver.sink.write(batch("two"), { signal });
    store.commit(marks, 1);
    expect(textOf("out.log")).toBe("one\n");
    await driver.sink.committed!();
    expect(await held).toEqual({ kind: "delivered" });
    expect([textOf("out.log"), textOf(outputsIn()[1]!)]).toEqual(["two\n", "one\n"]);
  });

  it("finishes at the next start a rotation that was cut short, without another word", async () => {
    const driver = await open({ rotate: { max_bytes: 8, keep: 1 } });
    await driver.run(batches("line 0"));
    files.fail({ call: "open", times: 100, fails: "EIO" });
    driver.sink.rotate!();
    await until(() => outputsIn().length === 1 && outputsIn()[0] !== "out.log");
    await crash();
    const again = await open({ rotate: { max_bytes: 8, keep: 1 } });
    expect(again.events).toEqual([]);
    await again.run(batches("line 0", "line 1", "line 2"));
    const names = outputsIn();
    expect(names.map(textOf).sort()).toEqual(["line 1\n", "line 2\n"]);
  });

  it("leaves an empty output alone", async () => {
    const driver = await open({});
    driver.sink.rotate!();
    await driver.barrier();
    expect(outputsIn()).toEqual(["out.log"]);
  });

  it("rotates an output that is older than max_age_ms, also when nothing comes any more", async () => {
    const driver = await open({ rotate: { max_age_ms: 50 } });
    await driver.run(batches("one"));
    await until(() => outputsIn().length === 2 && existsSync(at("out.log")));
    expect(textOf(outputsIn()[1]!)).toBe("one\n");
  });

  it.each(["lstat", "open", "syncFolder", "sync"] as const)("carries a rotation on after a failed %s", async (call) => {
    const driver = await open({ rotate: { max_bytes: 8 } });
    await driver.run(batches("line 0"));
    files.fail({ call, times: 2, fails: "EIO" });
    const texts = ["line 0", "line 1", "line 2"];
    await driver.run(batches(...texts));
    const names = outputsIn();
    expect(names).toHaveLength(3);
    expect(names.map(textOf).sort()).toEqual(texts.map((text) => `${text}\n`));
  });
});

describe("file sink › a folder that refuses renames", () => {
  it("goes on in the old file with a warning, and tries again at the next start", async () => {
    files.fail({ call: "rename", fails: "EACCES" });
    const driver = await open({ rotate: { max_bytes: 8 } });
    await driver.run(batches("line 0", "line 1"));
    expect(textOf("out.log")).toBe("line 0\nline 1\n");
    expect(driver.warnings).toHaveLength(1);
    expect([...store.marks.keys()]).toEqual([`output:${at("out.log")}`]);
    await driver.close();
    await (await open({ rotate: { max_bytes: 8 } })).run(batches("line 0", "line 1", "line 2"));
    expect(textOf("out.log")).toBe("line 2\n");
  });
});

describe("file sink › the end", () => {
  it("takes back what no barrier has described", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.run(batches("one"));
    await driver.sink.write(batch("two"), { signal });
    await driver.close();
    expect(textOf("out.log")).toBe("one\n");
    await (await open({})).run(batches("one", "two"));
    expect(textOf("out.log")).toBe("one\ntwo\n");
  });

  it("does not wait for a rotation whose barrier is never committed", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.sink.write(batch("one"), { signal });
    driver.sink.rotate!();
    await driver.sink.prepare!();
    await driver.sink[Symbol.asyncDispose]();
    await crash();
    expect(outputsIn()).toEqual(["out.log"]);
  });

  it("leaves alone what a commit may cover", async () => {
    const driver = await open({}, { barrierEvery: 100 });
    await driver.sink.write(batch("one"), { signal });
    store.commit(await driver.sink.prepare!(), 1);
    await driver.close();
    await (await open({})).run(batches("one", "two"));
    expect(textOf("out.log")).toBe("one\ntwo\n");
  });
});

describe("file sink › path with placeholders", () => {
  it("writes each record where its fields say, and nowhere else", async () => {
    const driver = await open({ path: at("by/{who}/{time:%Y-%m}.log"), encoding: "text" });
    const base = linesBatch("app", "k", 0, ["a", "b", "c"]);
    const who = ["../../etc", "..", undefined];
    const spread = base.withRecords(
      base.records.map((record, index) =>
        record.with({ ...record.event, who: who[index], timestamp: "2026-11-21T10:15:00Z" }),
      ),
    );
    await driver.run([spread]);
    expect(readdirSync(at("by")).sort()).toEqual([".._.._etc", "_", "__"]);
    expect(textOf("by/.._.._etc/2026-11.log")).toBe("a\n");
    expect(textOf("by/__/2026-11.log")).toBe("b\n");
    expect(textOf("by/_/2026-11.log")).toBe("c\n");
  });

  it("refuses records whose folder is a link that leads out", async () => {
    mkdirSync(at("outside"));
    mkdirSync(at("in"));
    symlinkSync(at("outside"), at("in/app"));
    symlinkSync(at("outside/x.log"), at("in/direct.log"));
    const driver = await open({ path: at("in/{source}/x.log") });
    expect(await driver.sink.write(batch("one"), { signal })).toMatchObject({ kind: "rejected" });
    const direct = await open({ path: at("in/{source}.log") }, { store: new DriverStore() });
    writeFileSync(at("outside/x.log"), "");
    expect(await direct.sink.write(batch("one", "direct"), { signal })).toMatchObject({ kind: "rejected" });
    expect(textOf("outside/x.log")).toBe("");
  });

  it("writes records of two names that are one file one after the other", async () => {
    mkdirSync(at("in/a"), { recursive: true });
    symlinkSync("a", at("in/b"));
    const driver = await open({ path: at("in/{message}/x.log") });
    await driver.run([linesBatch("app", "k", 0, ["a", "b"]), linesBatch("app", "k", 4, ["b", "a"])]);
    expect(textOf("in/a/x.log").split("\n").sort()).toEqual(["", "a", "a", "b", "b"]);
  });

  it("refuses records whose name is too long, or is a folder", async () => {
    const driver = await open({ path: at("{source}{source}") });
    expect(await driver.sink.write(batch("one", "x".repeat(200)), { signal })).toMatchObject({ kind: "rejected" });
    mkdirSync(at("ab"));
    const folderThere = await open({ path: at("a{source}") }, { store: new DriverStore() });
    expect(await folderThere.sink.write(batch("one", "b"), { signal })).toMatchObject({ kind: "rejected" });
  });

  it("closes the output not used for longest, once it is committed, and opens it again", async () => {
    const driver = await open({ path: at("{source}.log"), max_open_outputs: 2 });
    const input = ["a", "b", "c", "a", "c", "b"].map((source, index) => batch(String(index), source));
    await driver.run(input);
    expect([textOf("a.log"), textOf("b.log"), textOf("c.log")]).toEqual(["0\n3\n", "1\n5\n", "2\n4\n"]);
    expect(files.openHandles).toBe(2);
    expect(driver.warnings).toEqual([]);
  });

  it("has a batch for too many outputs bisected", async () => {
    const driver = await open({ path: at("{message}.log"), max_open_outputs: 2 });
    const many = linesBatch("app", "k", 0, ["a", "b", "c"]);
    expect(await driver.sink.write(many, { signal })).toMatchObject({ kind: "rejected" });
    const [left, right] = many.halves()!;
    await driver.run([left, right]);
    expect(outputsIn()).toEqual(["a.log", "b.log", "c.log"]);
  });
});

function gate(): [Promise<void>, () => void] {
  let release!: () => void;
  const promise = new Promise<void>((resolve) => {
    release = resolve;
  });
  return [promise, release];
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error("the condition never came true");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
