import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { snapshot } from "./folder-snapshot.test-kit.ts";
import { openLmdbStore, openLmdbStoreForReading } from "./lmdb-store.ts";
import { scanInChild } from "./preflight.ts";

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A store with several transactions, so that both meta pages are in use and the free list has entries. */
async function usedStateDir(rows = 300): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tailrace-preflight-"));
  folders.push(folder);
  const stateDir = join(folder, "state");
  const store = await openLmdbStore(stateDir);
  for (let part = 0; part < 3; part += 1) {
    const value = `${part} ${"x".repeat(100)}`;
    await store.commit(
      Array.from({ length: rows }, (_, index) => ({ table: "note", name: `${index}`, value }) as const),
    );
  }
  await store.close();
  return stateDir;
}

const dataOf = (stateDir: string) => join(stateDir, "checkpoints", "data.mdb");

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

describe("preflight › damage", () => {
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

  it("is refused where only one page in use is zeros or garbage, whichever it is, without asking LMDB", async () => {
    const stateDir = await usedStateDir();
    const data = dataOf(stateDir);
    // With the time of change put back, the stamp of the clean stop stays valid and no child process is started.
    const time = 1_700_000_000;
    utimesSync(data, time, time);
    await (await openLmdbStore(stateDir)).close();
    const whole = readFileSync(data);
    const isBlank = (page: number) => whole.subarray(page * 4096, (page + 1) * 4096).every((byte) => byte === 0);
    let refused = 0;
    // Behind the pages lies room for later ones, all zeros.
    const pages =
      whole.length / 4096 - [...Array(whole.length / 4096).keys()].reverse().findIndex((page) => !isBlank(page));
    for (let page = 0; page < pages; page += 1) {
      for (const byte of [0, 0xa5]) {
        overwrite(data, page, page + 1, byte);
        utimesSync(data, time, time);
        const onScan = () => expect.fail("a child process was started");
        try {
          const reader = await openLmdbStoreForReading(stateDir, { onScan });
          // A page that no tree uses means nothing: then the store is as it was.
          expect((await reader!.load()).notes).toHaveLength(300);
          await reader!.close();
        } catch (error) {
          expect(error).toMatchObject({ code: "TR_STATE_DAMAGED" });
          refused += 1;
        }
        writeFileSync(data, whole);
      }
    }
    expect(refused).toBeGreaterThan(10);
  });

  it("that only LMDB itself notices kills a child process, not this one", async () => {
    const stateDir = await usedStateDir();
    expect(await scanInChild(join(stateDir, "checkpoints"))).toBeUndefined();
    truncateSync(dataOf(stateDir), 12_288);
    expect(await scanInChild(join(stateDir, "checkpoints"))).toMatch(/ended with (SIG[A-Z]+|exit code)/);
  });
});
