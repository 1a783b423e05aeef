import { execFileSync, spawn } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { lockDirectory } from "../runtime/directory-lock.ts";
import { tryLockDescriptor } from "../runtime/file-lock.ts";
import type { Change } from "./checkpoint-store.ts";
import { isStrayCommitRejection } from "./lmdb-environment.ts";
import { openLmdbStore, openLmdbStoreForReading } from "./lmdb-store.ts";
import { keepReserve, releaseReserve } from "./reserve-file.ts";

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-lmdb-crash-"));
  folders.push(folder);
  return folder;
}

const note = (name: string, value: string | number): Change => ({ table: "note", name, value });

/** The sources compiled, since a child process cannot run TypeScript; below node_modules, so that imports resolve. */
let compiled: string;

beforeAll(() => {
  const require = createRequire(import.meta.url);
  const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
  mkdirSync(join(root, "node_modules", ".cache"), { recursive: true });
  compiled = mkdtempSync(join(root, "node_modules", ".cache", "tailrace-lmdb-crash-"));
  writeFileSync(join(compiled, "package.json"), '{"type":"module"}');
  const tsc = join(dirname(require.resolve("typescript/package.json")), "bin", "tsc");
  const flags = ["--noCheck", "--declaration", "false", "--sourceMap", "false", "--outDir", compiled];
  execFileSync(process.execPath, [tsc, "-p", join(root, "tsconfig.build.json"), ...flags]);
});

afterAll(() => rmSync(compiled, { recursive: true, force: true }));

function countOf(state: { readonly notes: readonly { readonly name: string; readonly value: unknown }[] }): number {
  return (state.notes.find((row) => row.name === "a")?.value as number | undefined) ?? 0;
}

/**
 * Commits n = 1, 2, 3, ... as fast as it can, each transaction writing n to notes `a` and `b` and to one of a hundred
 * others, and prints n after its commit has resolved.
 */
const WRITER = `
import { writeSync } from "node:fs";
const [library, stateDir] = process.argv.slice(1);
const { openLmdbStore } = await import(library);
const store = await openLmdbStore(stateDir);
const note = (name, value) => ({ table: "note", name, value });
for (let n = ((await store.load()).notes.find((row) => row.name === "a")?.value ?? 0) + 1; ; n += 1) {
  await store.commit([note("a", n), note("row " + (n % 100), n), note("b", n)]);
  writeSync(1, n + "\\n");
}
`;

const writerProcess = (stateDir: string) => storeProcess(WRITER, stateDir);

/** A process that runs `program` on the store, and the numbers that it prints. */
function storeProcess(program: string, stateDir: string, ...more: string[]) {
  const library = pathToFileURL(join(compiled, "checkpoint", "index.js")).href;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program, library, stateDir, ...more], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const acknowledged: number[] = [];
  let text = "";
  child.stdout.on("data", (chunk) => {
    text += chunk;
    const lines = text.split("\n");
    text = lines.pop()!;
    acknowledged.push(...lines.map(Number));
  });
  const ended = new Promise<number | null>((resolve) => child.on("close", (code) => resolve(code)));
  return { process: child, acknowledged, ended };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within 60 s: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("openLmdbStoreForReading › beside a writer", () => {
  it("sees what another process commits, while that one goes on writing", async () => {
    const stateDir = join(freshFolder(), "state");
    await (await openLmdbStore(stateDir)).close();
    const writer = writerProcess(stateDir);
    try {
      await until(() => writer.acknowledged.length >= 20);
      for (let time = 0; time < 5; time += 1) {
        const acknowledged = writer.acknowledged.at(-1)!;
        const reader = await openLmdbStoreForReading(stateDir);
        const first = countOf(await reader!.load());
        expect(first).toBeGreaterThanOrEqual(acknowledged);
        await until(() => writer.acknowledged.at(-1)! > first + 10);
        expect(countOf(await reader!.load())).toBeGreaterThan(first);
        await reader!.close();
      }
    } finally {
      writer.process.kill("SIGKILL");
      await writer.ended;
    }
  });

  /** Opens the store again and again, while it is locked by a writer, and says what it sees. */
  const OPENER = `
import { writeSync } from "node:fs";
const [library, stateDir, times] = process.argv.slice(1);
const { openLmdbStoreForReading } = await import(library);
for (let time = 0; time < Number(times); time += 1) {
  const reader = await openLmdbStoreForReading(stateDir);
  const notes = new Map((await reader.load()).notes.map((row) => [row.name, row.value]));
  await reader.close();
  const last = notes.get("a") ?? 0;
  if ((notes.get("b") ?? 0) !== last) throw new Error("a is " + last + ", b is " + notes.get("b"));
  for (let n = Math.max(1, last - 99); n <= last; n += 1)
    if (notes.get("row " + (n % 100)) !== n) throw new Error("the commit of " + n + " is gone, the last is " + last);
  writeSync(1, last + "\\n");
}
`;

  it("takes no commit away, however often it is opened", async () => {
    const stateDir = join(freshFolder(), "state");
    await (await openLmdbStore(stateDir)).close();
    const lock = await lockDirectory(stateDir);
    const writer = writerProcess(stateDir);
    try {
      const openers = [1, 2].map(() => storeProcess(OPENER, stateDir, "250"));
      for (const opener of openers) expect(await opener.ended).toBe(0);
      const before = writer.acknowledged.at(-1)!;
      await until(() => writer.acknowledged.at(-1)! > before + 10);
    } finally {
      writer.process.kill("SIGKILL");
      await writer.ended;
      lock.release();
    }
    const store = await openLmdbStore(stateDir);
    expect(countOf(await store.load())).toBeGreaterThanOrEqual(writer.acknowledged.at(-1)!);
    await store.close();
  });
});

describe("OpeningGate", () => {
  it("stays closed while a scan goes on whose parent was killed", async () => {
    const stateDir = join(freshFolder(), "state");
    await (await openLmdbStore(stateDir)).close();
    const storeDir = join(stateDir, "checkpoints");
    const library = pathToFileURL(join(compiled, "checkpoint", "preflight.js")).href;
    const script = `const { scanInChild } = await import(${JSON.stringify(library)}); await scanInChild(${JSON.stringify(storeDir)});`;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: "ignore" });
    const ended = new Promise((resolve) => parent.on("close", resolve));
    let scan = 0;
    await until(() => {
      scan = Number(readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "latin1").trim());
      return scan > 0;
    });
    const descriptor = openSync(storeDir, "r");
    try {
      process.kill(scan, "SIGSTOP");
      parent.kill("SIGKILL");
      await ended;
      expect(await tryLockDescriptor(descriptor)).toBe(false);
      process.kill(scan, "SIGCONT");
      await expect.poll(() => tryLockDescriptor(descriptor)).toBe(true);
    } finally {
      closeSync(descriptor);
    }
  });
});

describe("openLmdbStore › beside a reader that was killed", () => {
  const READER = `
const { open } = require(process.argv[1]);
const db = open({ path: process.argv[2], readOnly: true, noSubdir: false, encoding: "binary", keyEncoding: "binary" });
const transaction = db.useReadTransaction();
db.get(Buffer.from("schema"), { transaction });
process.stdout.write("reading");
setInterval(() => {}, 1000);
`;

  it("uses again what is freed, so that the store does not grow for ever", async () => {
    const stateDir = join(freshFolder(), "state");
    const store = await openLmdbStore(stateDir);
    const rows = (round: number) => [1, 2, 3].map((n) => note(`row ${n}`, `${round} ${"x".repeat(9000)}`));
    const size = () => statSync(join(stateDir, "checkpoints", "data.mdb")).size;
    let round = 0;
    const commit = async (times: number) => {
      for (let end = round + times; round < end; round += 1) await store.commit(rows(round));
    };
    await commit(20);
    const lmdb = createRequire(import.meta.url).resolve("lmdb");
    const reader = spawn(process.execPath, ["-e", READER, lmdb, join(stateDir, "checkpoints")], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = new Promise((resolve) => reader.on("close", resolve));
    await new Promise((resolve) => reader.stdout.once("data", resolve));
    const before = size();
    await commit(40);
    // What it may still read is kept for it.
    expect(size()).toBeGreaterThan(before + 40 * 27_000);
    reader.kill("SIGKILL");
    await ended;
    await commit(150);
    const after = size();
    await commit(300);
    expect(size()).toBe(after);
    await store.close();
  });
});

describe("openLmdbStore › kill -9", () => {
  const rounds = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 20);

  it(`keeps every acknowledged commit and only whole ones, killed ${rounds} times`, {
    timeout: 180_000 + rounds * 10_000,
  }, async () => {
    const stateDir = join(freshFolder(), "state");
    await (await openLmdbStore(stateDir)).close();
    let total = 0;
    for (let round = 0; round < rounds; round += 1) {
      const writer = writerProcess(stateDir);
      const commits = 1 + Math.floor(Math.random() * 60);
      await until(() => writer.acknowledged.length >= commits);
      writer.process.kill("SIGKILL");
      await writer.ended;
      const last = writer.acknowledged.at(-1)!;
      total += writer.acknowledged.length;
      // The start after a kill: the scan in a child process, then everything as it was acknowledged.
      const store = await openLmdbStore(stateDir);
      const notes = new Map((await store.load()).notes.map((row) => [row.name, row.value as number]));
      const seen = notes.get("a")!;
      // One more may have been flushed whose acknowledgement died with the process.
      expect([last, last + 1]).toContain(seen);
      expect(notes.get("b")).toBe(seen);
      for (let n = Math.max(1, seen - 99); n <= seen; n += 1) expect(notes.get(`row ${n % 100}`)).toBe(n);
      await store.close();
    }
    expect(total).toBeGreaterThanOrEqual(rounds);
  });
});

describe("openLmdbStore › killed while it makes the store", () => {
  const MAKER = `
import { writeSync } from "node:fs";
const [library, stateDir] = process.argv.slice(1);
const { openLmdbStore } = await import(library);
await import("lmdb");
writeSync(1, "begin\\n");
await openLmdbStore(stateDir);
writeSync(1, "made\\n");
setInterval(() => {}, 1000);
`;

  it("leaves what the next start makes a store of, whatever the moment", async () => {
    const library = pathToFileURL(join(compiled, "checkpoint", "index.js")).href;
    // `lmdb` is found from the folder that the child works in.
    const cwd = dirname(compiled);
    for (let round = 0; round < 10; round += 1) {
      const stateDir = join(freshFolder(), "state");
      const child = spawn(process.execPath, ["--input-type=module", "-e", MAKER, library, stateDir], {
        cwd,
        stdio: ["ignore", "pipe", "inherit"],
      });
      const ended = new Promise((resolve) => child.on("close", resolve));
      let output = "";
      child.stdout.on("data", (chunk) => {
        output += chunk;
      });
      await until(() => output.includes("begin"));
      const delayMs = round * 4 + Math.random() * 4;
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      child.kill("SIGKILL");
      await ended;
      const attempt = openLmdbStore(stateDir);
      await expect(attempt, `killed ${delayMs} ms after the begin, output ${output}`).resolves.toBeDefined();
      const store = await attempt;
      await store.commit([note("n", round)]);
      expect((await store.load()).notes).toEqual([{ name: "n", value: round }]);
      await store.close();
    }
  });
});

describe("openLmdbStore › full disk", () => {
  function mountedDisk(): { folder: string; unmount: () => void } | undefined {
    const folder = freshFolder();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], { stdio: "ignore" });
    } catch {
      return undefined;
    }
    return { folder, unmount: () => execFileSync("umount", ["-l", folder]) };
  }

  it("fails the commit, changes nothing, reads on, and takes the same changes once there is room", async (context) => {
    const disk = mountedDisk();
    if (disk === undefined) {
      if (process.env["CI"] === "true") throw new Error("CI must be able to mount a tmpfs (run as root)");
      console.warn("SKIPPED: a full disk cannot be tested without the right to mount a tmpfs");
      return context.skip();
    }
    const strays: unknown[] = [];
    const onStray = (error: unknown) => strays.push(error);
    process.on("unhandledRejection", onStray);
    const stateDir = join(disk.folder, "state");
    try {
      const store = await openLmdbStore(stateDir);
      expect(await keepReserve(stateDir, { bytes: 400 * 1024 })).toBe(true);
      const rows = (round: number) => [1, 2, 3].map((n) => note(`${round} ${n}`, "x".repeat(9000)));
      let committed = 0;
      let failure: unknown;
      while (failure === undefined) {
        await store.commit(rows(committed)).then(
          () => {
            committed += 1;
          },
          (error) => {
            failure = error;
          },
        );
        expect(committed).toBeLessThan(100);
      }
      expect(committed).toBeGreaterThan(0);
      expect(failure).toMatchObject({ code: "TR_COMMIT_FAILED", message: expect.stringMatching(/EIO|ENOSPC/) });
      // Nothing of it is visible, and it fails again and again without hanging.
      for (let time = 0; time < 3; time += 1) {
        expect((await store.load()).notes).toHaveLength(committed * 3);
        await expect(store.commit(rows(committed))).rejects.toMatchObject({ code: "TR_COMMIT_FAILED" });
      }
      // The reserve is there for exactly this moment.
      await releaseReserve(stateDir);
      await store.commit(rows(committed));
      expect((await store.load()).notes).toHaveLength(committed * 3 + 3);
      expect(await keepReserve(stateDir, { bytes: 800 * 1024 })).toBe(false);
      await store.close();
      const again = await openLmdbStore(stateDir);
      expect((await again.load()).notes).toHaveLength(committed * 3 + 3);
      await again.close();
      expect(strays.filter((error) => !isStrayCommitRejection(error))).toEqual([]);
    } finally {
      process.off("unhandledRejection", onStray);
      disk.unmount();
    }
  });

  it("leaves nothing that a later start trips over when there is no room to make the store", async (context) => {
    const disk = mountedDisk();
    if (disk === undefined) {
      if (process.env["CI"] === "true") throw new Error("CI must be able to mount a tmpfs (run as root)");
      console.warn("SKIPPED: a full disk cannot be tested without the right to mount a tmpfs");
      return context.skip();
    }
    try {
      const stateDir = join(disk.folder, "state");
      const filler = join(disk.folder, "filler");
      for (const room of [0, 4096, 12_288, 16_384, 20_480, 28_672, 270_336, 282_624]) {
        writeFileSync(filler, Buffer.alloc(1024 * 1024 - room - 4096));
        try {
          writeFileSync(`${filler}2`, Buffer.alloc(4096));
        } catch {}
        const attempt = await openLmdbStore(stateDir).then(
          (store) => store.close().then(() => "opened"),
          (error: { code: string }) => error.code,
        );
        expect(["opened", "TR_STATE_UNUSABLE", "TR_COMMIT_FAILED"]).toContain(attempt);
        rmSync(filler);
        rmSync(`${filler}2`, { force: true });
        await (await openLmdbStore(stateDir)).close();
        rmSync(stateDir, { recursive: true });
      }
    } finally {
      disk.unmount();
    }
  });

  it("knows lmdb's stray rejection from any other", async () => {
    const failed = Object.assign(new Error("Commit failed (see commitError for details)"), { commitError: 1 });
    expect(isStrayCommitRejection(failed)).toBe(true);
    expect(isStrayCommitRejection(new Error("Commit failed (see commitError for details)"))).toBe(false);
    expect(isStrayCommitRejection(undefined)).toBe(false);
  });
});
