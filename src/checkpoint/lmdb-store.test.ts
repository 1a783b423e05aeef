import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { lockDirectory } from "../runtime/directory-lock.ts";
import { checkpointStoreContract } from "../testing/checkpoint-store-contract.ts";
import type { Change, CheckpointStore } from "./checkpoint-store.ts";
import { isStrayCommitRejection, openLmdbStore, openLmdbStoreForReading } from "./lmdb-store.ts";
import { keepReserve, releaseReserve } from "./reserve-file.ts";
import type { Schema } from "./schema.ts";

const open: CheckpointStore[] = [];
const folders: string[] = [];

afterEach(async () => {
  for (const store of open.splice(0)) await store.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function freshFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-store-"));
  folders.push(folder);
  return folder;
}

async function opened(stateDir: string, options?: Parameters<typeof openLmdbStore>[1]): Promise<CheckpointStore> {
  const store = await openLmdbStore(stateDir, options);
  open.push(store);
  return store;
}

async function usedStateDir(rows = 300): Promise<string> {
  const stateDir = join(freshFolder(), "state");
  const store = await openLmdbStore(stateDir);
  // Several transactions, so that both meta pages are in use and the free list has entries.
  for (let part = 0; part < 3; part += 1) {
    await store.commit(Array.from({ length: rows }, (_, index) => note(`${index}`, `${part} ${"x".repeat(100)}`)));
  }
  await store.close();
  return stateDir;
}

const note = (name: string, value: string | number): Change => ({ table: "note", name, value });
const dataOf = (stateDir: string) => join(stateDir, "checkpoints", "data.mdb");
const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

checkpointStoreContract("openLmdbStore", () => {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-store-"));
  return {
    open: () => openLmdbStore(join(folder, "state")),
    cleanUp: async () => rmSync(folder, { recursive: true, force: true }),
  };
});

describe("openLmdbStore", () => {
  it("keeps the directory and every file to its owner, whatever the umask", async () => {
    const before = process.umask(0);
    try {
      const stateDir = join(freshFolder(), "a", "state");
      await (await opened(stateDir)).close();
      expect(modeOf(stateDir)).toBe("700");
      expect(modeOf(join(stateDir, "checkpoints"))).toBe("700");
      const files = [...readdirSync(stateDir), "checkpoints/data.mdb", "checkpoints/lock.mdb"];
      for (const file of files.filter((name) => name !== "checkpoints")) {
        expect([file, modeOf(join(stateDir, file))]).toEqual([file, "600"]);
      }
      process.umask(0o777);
      const strict = join(freshFolder(), "state");
      await (await opened(strict)).close();
      expect(modeOf(strict)).toBe("700");
      expect(modeOf(dataOf(strict))).toBe("600");
    } finally {
      process.umask(before);
    }
  });

  it("shuts others out of a directory that was open to them", async () => {
    const stateDir = await usedStateDir(1);
    chmodSync(stateDir, 0o755);
    chmodSync(dataOf(stateDir), 0o644);
    await opened(stateDir);
    expect([modeOf(stateDir), modeOf(dataOf(stateDir))]).toEqual(["700", "600"]);
  });

  it("scans in a child process only when the last run did not close the store", async () => {
    const stateDir = await usedStateDir(1);
    let scans = 0;
    const onScan = () => {
      scans += 1;
    };
    await (await opened(stateDir, { onScan })).close();
    expect(scans).toBe(0);
    rmSync(join(stateDir, "clean-stop"));
    await (await opened(stateDir, { onScan })).close();
    expect(scans).toBe(1);
    const now = new Date();
    execFileSync("touch", ["-d", new Date(now.getTime() + 5000).toISOString(), dataOf(stateDir)]);
    await (await opened(stateDir, { onScan })).close();
    expect(scans).toBe(2);
  });

  it("refuses what is no directory, with the reason", async () => {
    const path = join(freshFolder(), "file");
    writeFileSync(path, "");
    await expect(openLmdbStore(path)).rejects.toMatchObject({ code: "TR_STATE_UNUSABLE" });
    await expect(openLmdbStore(join(path, "below"))).rejects.toMatchObject({ code: "TR_STATE_UNUSABLE" });
  });
});

describe("openLmdbStore › creation cut short", () => {
  it("begins again where nothing was committed", async () => {
    for (const remains of [undefined, Buffer.alloc(0), Buffer.alloc(100), Buffer.alloc(8192), Buffer.alloc(40_000)]) {
      const stateDir = join(freshFolder(), "state");
      mkdirSync(join(stateDir, "checkpoints"), { recursive: true });
      if (remains !== undefined) writeFileSync(dataOf(stateDir), remains);
      const store = await opened(stateDir);
      await store.commit([note("n", 1)]);
      expect((await store.load()).notes).toHaveLength(1);
      await store.close();
    }
  });

  it("finishes a store that has no marker, and keeps its data", async () => {
    const stateDir = await usedStateDir(2);
    rmSync(join(stateDir, "created"));
    const store = await opened(stateDir);
    expect((await store.load()).notes).toHaveLength(2);
    expect(statSync(join(stateDir, "created")).size).toBeGreaterThan(0);
  });

  it("refuses a damaged store without a marker rather than recreate it", async () => {
    const stateDir = await usedStateDir();
    rmSync(join(stateDir, "created"));
    truncateSync(dataOf(stateDir), 8192);
    const before = readFileSync(dataOf(stateDir));
    await expect(openLmdbStore(stateDir)).rejects.toMatchObject({ code: "TR_STATE_DAMAGED" });
    expect(readFileSync(dataOf(stateDir)).equals(before)).toBe(true);
  });
});

/** Each way to damage a store; the parent must live and refuse, and must not touch the file. */
const DAMAGE: { readonly [what: string]: (data: string) => void } = {
  "the file is missing": (data) => rmSync(data),
  "its folder is missing": (data) => rmSync(join(data, ".."), { recursive: true }),
  "the file has no length": (data) => truncateSync(data, 0),
  "the file ends inside the first meta page": (data) => truncateSync(data, 100),
  "the file ends behind the meta pages": (data) => truncateSync(data, 8192),
  "the file ends half-way": (data) => truncateSync(data, Math.floor(statSync(data).size / 2)),
  "the file lacks its last byte": (data) => truncateSync(data, statSync(data).size - 1),
  "the first meta page is zeros": (data) => overwrite(data, 0, 1, 0),
  "the second meta page is zeros": (data) => overwrite(data, 1, 2, 0),
  "both meta pages are zeros": (data) => overwrite(data, 0, 2, 0),
  "both meta pages are garbage": (data) => overwrite(data, 0, 2, 0xa5),
  "the second meta page is garbage": (data) => overwrite(data, 1, 2, 0xa5),
  "all pages behind the meta pages are zeros": (data) => overwrite(data, 2, Number.POSITIVE_INFINITY, 0),
  "all pages behind the meta pages are garbage": (data) => overwrite(data, 2, Number.POSITIVE_INFINITY, 0xa5),
  "everything is zeros": (data) => overwrite(data, 0, Number.POSITIVE_INFINITY, 0),
  "everything is garbage": (data) => overwrite(data, 0, Number.POSITIVE_INFINITY, 0xa5),
  "it is a text file": (data) => writeFileSync(data, "positions: none\n".repeat(5000)),
  "it is a store without a row": (data) => {
    rmSync(data);
    const lmdb = JSON.stringify(createRequire(import.meta.url).resolve("lmdb"));
    const script = `require(${lmdb}).open({path: ${JSON.stringify(join(data, ".."))}, noSubdir: false}).close()`;
    execFileSync(process.execPath, ["-e", script]);
  },
};

function overwrite(path: string, fromPage: number, toPage: number, byte: number): void {
  const bytes = readFileSync(path);
  bytes.fill(byte, fromPage * 4096, Math.min(bytes.length, toPage * 4096));
  writeFileSync(path, bytes);
}

describe("openLmdbStore › damage", () => {
  for (const [what, damage] of Object.entries(DAMAGE)) {
    it(`is refused with the way out, and left as it is: ${what}`, async () => {
      const stateDir = await usedStateDir();
      damage(dataOf(stateDir));
      const before = snapshot(stateDir);
      for (const attempt of [openLmdbStore, openLmdbStore, openLmdbStoreForReading]) {
        const refusal = expect(attempt(stateDir)).rejects;
        await refusal.toMatchObject({
          code: "TR_STATE_DAMAGED",
          message: expect.stringMatching(/damaged: .*backup.*checkpoints import.*from scratch/),
        });
      }
      expect(snapshot(stateDir)).toEqual(before);
    });
  }

  it("is refused also where only one page that is in use is zeros or garbage, whichever it is", async () => {
    const stateDir = await usedStateDir();
    const data = dataOf(stateDir);
    const whole = readFileSync(data);
    let refused = 0;
    for (let page = 0; page < whole.length / 4096; page += 1) {
      overwrite(data, page, page + 1, page % 2 === 0 ? 0 : 0xa5);
      try {
        // A page that no tree uses means nothing; then the store must be as it was.
        const reader = await openLmdbStoreForReading(stateDir);
        expect((await reader!.load()).notes).toHaveLength(300);
        await reader!.close();
      } catch (error) {
        expect(error).toMatchObject({ code: "TR_STATE_DAMAGED" });
        refused += 1;
      }
      writeFileSync(data, whole);
    }
    expect(refused).toBeGreaterThan(5);
  });

  it("that only LMDB itself notices kills a child process, not this one", async () => {
    const stateDir = await usedStateDir();
    const { scanInChild } = await import("./preflight.ts");
    expect(await scanInChild(join(stateDir, "checkpoints"))).toBeUndefined();
    truncateSync(dataOf(stateDir), 12_288);
    expect(await scanInChild(join(stateDir, "checkpoints"))).toMatch(/ended with (SIG[A-Z]+|exit code)/);
  });
});

function snapshot(folder: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    const path = join(folder, name);
    // Readers register in lock.mdb; it holds no data.
    if (statSync(path).isFile() && !name.endsWith("lock.mdb")) files[name] = readFileSync(path, "base64");
  }
  return files;
}

describe("openLmdbStore › schema version", () => {
  const older: Schema = { version: 1, migrations: [] };
  const newer: Schema = {
    version: 3,
    migrations: [
      { from: 1, rewrite: (rows) => new Map([...rows.keys()].map((key) => [key, '"two"'])) },
      {
        from: 2,
        rewrite: (rows) =>
          new Map([
            ['["note","count"]', String(rows.size)],
            ['["note","b"]', undefined],
          ]),
      },
    ],
  };

  it("refuses a newer one with the way out, changing nothing", async () => {
    const stateDir = join(freshFolder(), "state");
    await (await openLmdbStore(stateDir, { schema: newer })).close();
    const before = snapshot(stateDir);
    for (const attempt of [openLmdbStore, openLmdbStoreForReading]) {
      await expect(attempt(stateDir, { schema: older })).rejects.toMatchObject({
        code: "TR_STATE_NEWER",
        message: expect.stringMatching(/newer version.*schema 3.*knows 1.*import/),
      });
    }
    expect(snapshot(stateDir)).toEqual(before);
  });

  it("migrates an older one step by step, and only once", async () => {
    const stateDir = join(freshFolder(), "state");
    const store = await openLmdbStore(stateDir, { schema: older });
    await store.commit([note("a", "one"), note("b", "one")]);
    await store.close();
    const expected = [
      { name: "a", value: "two" },
      { name: "count", value: 2 },
    ];
    const reader = await openLmdbStoreForReading(stateDir, { schema: newer });
    expect((await reader!.load()).notes).toEqual(expected);
    await reader!.close();
    for (let time = 0; time < 2; time += 1) {
      const migrated = await openLmdbStore(stateDir, { schema: newer });
      expect((await migrated.load()).notes).toEqual(expected);
      await migrated.close();
    }
  });
});

describe("openLmdbStoreForReading", () => {
  it("says that there is no store where none was made, and makes none", async () => {
    const folder = freshFolder();
    expect(await openLmdbStoreForReading(folder)).toBeUndefined();
    expect(await openLmdbStoreForReading(join(folder, "nowhere"))).toBeUndefined();
    expect(readdirSync(folder)).toEqual([]);
  });

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

  it("trusts the running process that holds the directory", async () => {
    const stateDir = await usedStateDir(1);
    rmSync(join(stateDir, "clean-stop"));
    using _ = await lockDirectory(stateDir);
    let scans = 0;
    const reader = await openLmdbStoreForReading(stateDir, {
      onScan: () => {
        scans += 1;
      },
    });
    expect((await reader!.load()).notes).toHaveLength(1);
    await reader!.close();
    expect(scans).toBe(0);
  });
});

function countOf(state: { readonly notes: readonly { readonly name: string; readonly value: unknown }[] }): number {
  return (state.notes.find((row) => row.name === "a")?.value as number | undefined) ?? 0;
}

/**
 * Commits rows n = 1, 2, 3, ... as fast as it can, each transaction writing n to notes `a` and `b` and to one of a
 * hundred others, and prints n after its commit has resolved. It speaks to lmdb as the store does: the store itself is
 * TypeScript, which a child process of a test cannot run.
 */
const WRITER = `
const { open } = require(process.argv[1]);
const fs = require("node:fs");
const db = open({ path: process.argv[2], noSubdir: false, overlappingSync: false, eventTurnBatching: false,
  encoding: "binary", keyEncoding: "binary", permissionsMode: 0o600 });
const put = (name, n) => db.put(Buffer.from(JSON.stringify(["note", name])), Buffer.from(String(n)));
(async () => {
  let n = Number(db.get(Buffer.from('["note","a"]')) ?? 0);
  for (;;) {
    n += 1;
    await db.batch(() => { put("a", n); put("row " + (n % 100), n); put("b", n); });
    fs.writeSync(1, n + "\\n");
  }
})();
`;

function writerProcess(stateDir: string) {
  const lmdb = createRequire(import.meta.url).resolve("lmdb");
  const child = spawn(process.execPath, ["-e", WRITER, lmdb, join(stateDir, "checkpoints")], {
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
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  return { process: child, acknowledged, ended };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within 20 s: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("openLmdbStore › kill -9", () => {
  const rounds = Number(process.env["TAILRACE_TEST_ROUNDS"] ?? 20);

  it(`keeps every acknowledged commit and only whole ones, killed ${rounds} times`, {
    timeout: rounds * 10_000,
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
      // The start after a kill: preflight with its child process, then everything as it was acknowledged.
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

describe("openLmdbStore › full disk", () => {
  function mountedDisk(): { folder: string; unmount: () => void } | undefined {
    const folder = freshFolder();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], { stdio: "ignore" });
    } catch {
      return undefined;
    }
    return { folder, unmount: () => execFileSync("umount", [folder]) };
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
      for (const room of [0, 4096, 8192, 12_288, 16_384, 20_480]) {
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
