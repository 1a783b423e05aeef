import { execFileSync } from "node:child_process";
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
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { lockDirectory } from "../runtime/directory-lock.ts";
import { checkpointStoreContract } from "../testing/checkpoint-store-contract.ts";
import type { Change, CheckpointStore } from "./checkpoint-store.ts";
import { snapshot } from "./folder-snapshot.test-kit.ts";
import { openLmdbStore, openLmdbStoreForReading } from "./lmdb-store.ts";
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

describe("openLmdbStore › CheckpointStore contract", () => {
  const rules = checkpointStoreContract(() => {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-store-"));
    return {
      open: () => openLmdbStore(join(folder, "state")),
      cleanUp: async () => rmSync(folder, { recursive: true, force: true }),
    };
  });
  for (const { title, run } of rules) it(title, run);
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
    await expect(openLmdbStore("/proc/none/below")).rejects.toMatchObject({ code: "TR_STATE_UNUSABLE" });
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

  it("reads beside a store that is open in the same process, and leaves it working", async () => {
    const stateDir = join(freshFolder(), "state");
    const store = await opened(stateDir);
    await store.commit([note("a", 1)]);
    const reader = await openLmdbStoreForReading(stateDir);
    expect((await reader!.load()).notes).toEqual([{ name: "a", value: 1 }]);
    await store.commit([note("b", 2)]);
    expect((await reader!.load()).notes).toHaveLength(2);
    await reader!.close();
    await store.commit([note("c", 3)]);
    expect((await store.load()).notes).toHaveLength(3);
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
