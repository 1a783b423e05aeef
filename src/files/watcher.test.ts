import { linkSync, mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type BytePath, pathFromText } from "../runtime/byte-path.ts";
import type { FileSystem, FolderChange } from "../runtime/file-system.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { silentFileSystem, WatcherBench } from "./watcher.test-kit.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let bench: WatcherBench;
beforeEach(() => {
  bench = new WatcherBench();
});
afterEach(() => bench.close());

const write = (name: string) => writeFileSync(bench.path(name), `${name}\n`);
const at = (name: string) => pathFromText(bench.path(name));

/** Notifies when the test says so, and counts what is asked. */
class ToldFileSystem {
  listings = 0;
  looks = 0;
  opened = 0;
  readonly #tell = new Map<BytePath, (name: BytePath | undefined, change: FolderChange) => void>();
  readonly files: FileSystem = {
    ...nodeFileSystem,
    statSync: (path) => {
      this.looks += 1;
      return nodeFileSystem.statSync(path);
    },
    lstat: (path) => {
      this.looks += 1;
      return nodeFileSystem.lstat(path);
    },
    readdir: async (folder) => {
      this.listings += 1;
      return nodeFileSystem.readdir(folder);
    },
    watchFolder: (folder, onChange) => {
      this.opened += 1;
      this.#tell.set(folder, onChange);
      return { close: () => void this.#tell.delete(folder) };
    },
  };

  get watches(): number {
    return this.#tell.size;
  }

  tell(folder: string, name: string, change: FolderChange = "entry"): void {
    this.#tell.get(pathFromText(folder))?.(pathFromText(name), change);
  }
}

/** Names of one file, which are made in a thirtieth of the time. */
const linkMany = (names: readonly string[]) => {
  write("one");
  for (const name of names) linkSync(bench.path("one"), bench.path(name));
};

describe("max_files", () => {
  it("leaves out what is more, tells it once with a count, and once more when it is over", async () => {
    for (let index = 0; index < 5; index += 1) write(`${index}.log`);
    write("target");
    symlinkSync(bench.path("target"), bench.path("link.log"));
    const seen = bench.make(["*.log"], [], { maxFiles: 3, fileSystem: silentFileSystem });
    expect(await seen.scan()).toHaveLength(3);
    expect(seen.watcher.leftOutCount).toBe(3);
    for (let scan = 0; scan < 5; scan += 1) await seen.scan();
    expect(bench.named("file_limit_reached")).toEqual([{ source: "app", max_files: 3, left_out: 3 }]);
    for (const name of seen.paths) unlinkSync(bench.path(name));
    expect(await seen.scan()).toHaveLength(3);
    expect(seen.watcher.leftOutCount).toBe(0);
    expect(bench.named("file_limit_over")).toEqual([]);
    await seen.scan(10_000);
    expect(bench.named("file_limit_over")).toEqual([{ source: "app", max_files: 3 }]);
    expect(bench.named("file_limit_reached")).toHaveLength(1);
  });

  it("drops nothing that is looked at already, nor what was followed before a restart", async () => {
    for (const name of ["a.log", "b.log", "c.log"]) write(name);
    const isKnown = (path: BytePath) => path === at("c.log");
    const seen = bench.make(["*.log"], [], { maxFiles: 2, isKnown, fileSystem: silentFileSystem });
    const first = await seen.scan();
    expect(first).toContain("c.log");
    for (let index = 0; index < 9; index += 1) write(`0${index}.log`);
    expect(await seen.scan()).toEqual(first);
    expect(seen.watcher.isLeftOut(at("00.log"))).toBe(true);
    expect(seen.watcher.isLeftOut(at("c.log"))).toBe(false);
  });

  it("forgets names that were left out when they are gone", async () => {
    for (const name of ["a.log", "b.log", "c.log"]) write(name);
    const seen = bench.make(["*.log"], [], { maxFiles: 1, fileSystem: silentFileSystem });
    const [kept] = await seen.scan();
    for (const name of ["a.log", "b.log", "c.log"]) if (name !== kept) unlinkSync(bench.path(name));
    await seen.scan();
    expect(seen.watcher.leftOutCount).toBe(0);
  });
});

describe("a notification", () => {
  it("of a name that came and vanished before the look leads to a listing, which finds where it went", async () => {
    const told = new ToldFileSystem();
    const seen = bench.make(["*.log"], [], { fileSystem: told.files });
    await seen.scan();
    write("x.log");
    renameSync(bench.path("x.log"), bench.path("y.log"));
    told.tell(bench.folder, "x.log");
    expect(await seen.look()).toEqual(["y.log"]);
  });

  it("of a rotation shows every name as it is now, at one listing", async () => {
    const told = new ToldFileSystem();
    for (const name of ["a.log", "a.log.1", "a.log.2"]) write(name);
    const seen = bench.make(["a.log*"], [], { fileSystem: told.files });
    await seen.scan();
    const inodes = [0, 1].map((index) => seen.inodeAt(["a.log", "a.log.1"][index]!));
    renameSync(bench.path("a.log.1"), bench.path("a.log.2"));
    renameSync(bench.path("a.log"), bench.path("a.log.1"));
    write("a.log");
    told.listings = 0;
    for (const name of ["a.log.1", "a.log.2", "a.log", "a.log.1", "a.log"]) told.tell(bench.folder, name);
    expect(await seen.look()).toEqual(["a.log", "a.log.1", "a.log.2"]);
    expect([seen.inodeAt("a.log.1"), seen.inodeAt("a.log.2")]).toEqual(inodes);
    expect(told.listings).toBe(1);
  });

  it("of a folder that was made anew is watched anew, also where its inode number is the same", async () => {
    const told = new ToldFileSystem();
    mkdirSync(bench.path("d"));
    const seen = bench.make(["*/*.log"], [], { fileSystem: told.files });
    await seen.scan();
    const { opened } = told;
    rmSync(bench.path("d"), { recursive: true });
    mkdirSync(bench.path("d"));
    write("d/a.log");
    told.tell(bench.folder, "d");
    expect(await seen.look()).toEqual(["d/a.log"]);
    expect(told.opened).toBe(opened + 1);
  });

  it("of bytes in a file that is followed under a name that matches nothing is looked at at once", async () => {
    const told = new ToldFileSystem();
    write("a.log.1");
    const seen = bench.make(["*.log"], [], { fileSystem: told.files });
    await seen.scan();
    seen.watcher.follow(at("a.log.1"));
    expect(await seen.look()).toEqual(["a.log.1"]);
    writeFileSync(bench.path("a.log.1"), "more", { flag: "a" });
    told.listings = 0;
    told.tell(bench.folder, "a.log.1", "content");
    expect((await seen.watcher.look()).map(({ stat }) => stat?.size)).toEqual(["a.log.1\nmore".length]);
    expect(told.listings).toBe(0);
    seen.watcher.unfollow(at("a.log.1"));
    expect(seen.watcher.pathCount).toBe(0);
  });

  it("for each of many files of one folder costs a look at each, and no listing", async () => {
    const names = Array.from({ length: 10_000 }, (_, index) => `${index}.log`);
    linkMany(names);
    const told = new ToldFileSystem();
    const seen = bench.make(["*.log"], [], { fileSystem: told.files });
    expect(await seen.scan()).toHaveLength(names.length);
    told.listings = 0;
    told.looks = 0;
    for (const [index, name] of names.entries()) {
      told.tell(bench.folder, name, "content");
      if (index % 100 === 99) await seen.look();
    }
    expect(told.listings).toBe(0);
    expect(told.looks).toBe(names.length);
  });

  it("of new names in a large folder has each looked up by itself where listings would take the time", async () => {
    const told = new ToldFileSystem();
    let nowMs = 0;
    const clock = {
      now: () => Date.now(),
      monotonic: () => nowMs,
      sleep: async () => {},
      after: () => ({ cancel() {} }),
    };
    const files: FileSystem = {
      ...told.files,
      // A listing of a second.
      readdir: async (folder) => {
        nowMs += 1000;
        return told.files.readdir(folder);
      },
    };
    for (const name of ["a.log", "b.log"]) write(name);
    const seen = bench.make(["*.log"], [], { fileSystem: files, clock, scanIntervalMs: 100_000 });
    await seen.look();
    expect(told.listings).toBe(1);
    write("c.log");
    symlinkSync(bench.path("c.log"), bench.path("d.log"));
    unlinkSync(bench.path("a.log"));
    for (const name of ["a.log", "c.log", "d.log", "gone.log"]) told.tell(bench.folder, name);
    expect(await seen.look()).toEqual(["b.log", "c.log", "d.log"]);
    expect(told.listings).toBe(1);
    nowMs += 20_000;
    unlinkSync(bench.path("b.log"));
    told.tell(bench.folder, "b.log");
    expect(await seen.look()).toEqual(["c.log", "d.log"]);
    expect(told.listings).toBe(2);
  });
});

describe("files that are quiet", () => {
  it("already when they are found are looked at in slices, and at once again when they change", async () => {
    const told = new ToldFileSystem();
    const names = Array.from({ length: 100 }, (_, index) => `${index}.log`);
    const hourAgo = new Date(Date.now() - 3_600_000);
    for (const name of names) {
      write(name);
      utimesSync(bench.path(name), hourAgo, hourAgo);
    }
    const seen = bench.make(["*.log"], [], { fileSystem: told.files });
    expect(await seen.scan()).toHaveLength(100);
    told.looks = 0;
    await seen.scan();
    expect(told.looks).toBeLessThan(20);
    writeFileSync(bench.path("7.log"), "more", { flag: "a" });
    told.tell(bench.folder, "7.log", "content");
    expect((await seen.watcher.look()).map(({ path }) => path)).toEqual([at("7.log")]);
    writeFileSync(bench.path("8.log"), "more", { flag: "a" });
    const found: BytePath[] = [];
    for (let scan = 0; scan < 11; scan += 1) {
      bench.pass(1000);
      for (const { path } of await seen.watcher.look()) found.push(path);
    }
    expect(found).toEqual([at("8.log")]);
  });
});

describe("a file system that does not tell kinds", () => {
  it("shows files, folders and links all the same, also as one becomes another", async () => {
    let isTelling = true;
    const fileSystem: FileSystem = {
      ...silentFileSystem,
      readdir: async (folder) => {
        const entries = await nodeFileSystem.readdir(folder);
        return isTelling ? entries : entries.map(({ name }) => ({ name, kind: "unknown" }));
      },
    };
    const seen = bench.make(["**/*.log"], [], { fileSystem });
    for (const isTold of [true, false]) {
      isTelling = isTold;
      write("a.log");
      mkdirSync(bench.path("b.log"));
      write("b.log/c.log");
      symlinkSync(bench.path("a.log"), bench.path("l.log"));
      expect(await seen.scan()).toEqual(["a.log", "b.log/c.log", "l.log"]);
      isTelling = false;
      unlinkSync(bench.path("a.log"));
      mkdirSync(bench.path("a.log"));
      write("a.log/d.log");
      rmSync(bench.path("b.log"), { recursive: true });
      write("b.log");
      expect(await seen.scan()).toEqual(["a.log/d.log", "b.log"]);
      for (const name of ["a.log", "b.log", "l.log"]) rmSync(bench.path(name), { recursive: true });
      expect(await seen.scan()).toEqual([]);
    }
  });
});

describe("names that are gone", () => {
  it("leave nothing in memory, 20,000 of them", async () => {
    const told = new ToldFileSystem();
    const seen = bench.make(["**/*.log"], ["skip*"], { fileSystem: told.files });
    write("one");
    await seen.scan();
    const churn = async (rounds: number, from: number) => {
      for (let round = 0; round < rounds; round += 1) {
        const names = Array.from({ length: 100 }, (_, index) => {
          const name = `a-rather-long-name-${from + round * 100 + index}`;
          return index % 2 === 0 ? `${name}.log` : index % 3 === 0 ? `skip-${name}.log` : name;
        });
        for (const [index, name] of names.entries()) {
          if (index % 5 === 0) symlinkSync("nowhere", bench.path(name));
          else linkSync(bench.path("one"), bench.path(name));
          told.tell(bench.folder, name);
        }
        await (round % 2 === 0 ? seen.scan() : seen.look());
        seen.watcher.takeUnmatched();
        for (const name of names) {
          unlinkSync(bench.path(name));
          told.tell(bench.folder, name);
        }
        expect(await (round % 2 === 0 ? seen.scan() : seen.look())).toEqual([]);
      }
    };
    await churn(200, 30_000);
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    await churn(200, 2000);
    collectGarbage();
    // A name alone takes 50 bytes: whatever kept one of each would hold a megabyte.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(500_000);
    expect(seen.watcher.pathCount).toBe(0);
    expect(seen.watcher.takeUnmatched()).toEqual([]);
  });

  it("of folders leave no watch behind", async () => {
    const told = new ToldFileSystem();
    const seen = bench.make(["**/*.log"], [], { fileSystem: told.files });
    for (let round = 0; round < 20; round += 1) {
      for (let index = 0; index < 10; index += 1) mkdirSync(bench.path(`${round}-${index}/deep`), { recursive: true });
      await seen.scan();
      expect(told.watches).toBe(21);
      for (let index = 0; index < 10; index += 1) {
        const folder = bench.path(`${round}-${index}`);
        told.tell(folder, "deep");
        rmSync(folder, { recursive: true });
      }
      await seen.scan();
      expect(told.watches).toBe(1);
    }
  });
});
