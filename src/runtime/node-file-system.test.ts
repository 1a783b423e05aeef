import { execFileSync } from "node:child_process";
import {
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errnoOf } from "../errors.ts";
import { type BytePath, joinPath, pathFromBytes, pathFromText, pathToBytes } from "./byte-path.ts";
import { nodeFileSystem as files } from "./node-file-system.ts";

let folder: string;
let openBefore: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tailrace-files-"));
  openBefore = openDescriptors();
});

afterEach(() => {
  expect(openDescriptors()).toBe(openBefore);
  rmSync(folder, { recursive: true });
});

/** Descriptors of regular files and folders; the event loop's own come and go. */
function openDescriptors(): number {
  const isFile = (descriptor: string) => {
    try {
      const stats = statSync(`/proc/self/fd/${descriptor}`);
      return stats.isFile() || stats.isDirectory();
    } catch {
      return false;
    }
  };
  return readdirSync("/proc/self/fd").filter(isFile).length;
}

function at(name: string): BytePath {
  return pathFromText(join(folder, name));
}

/** A name of any bytes. */
function atBytes(...bytes: number[]): BytePath {
  return joinPath(pathFromText(folder), pathFromBytes(Buffer.from(bytes)));
}

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return work.then(() => "none", errnoOf);
}

const STRANGE_NAMES: readonly (readonly [string, number[]])[] = [
  ["that is no UTF-8", [0xff, 0xfe, 0x61]],
  ["with a newline", [0x61, 0x0a, 0x62]],
  ["with half a character", [0xe2, 0x82]],
  ["with a backslash and a quote", [0x5c, 0x22]],
];

describe("nodeFileSystem", () => {
  it.each(STRANGE_NAMES)("opens, lists, renames and removes a name %s", async (_what, bytes) => {
    const path = atBytes(...bytes);
    const handle = await files.open(path, "create");
    await handle.write(Buffer.from("abc"), 0, 3, 0);
    await handle.close();
    const [entry] = await files.readdir(pathFromText(folder));
    expect(entry).toEqual({ name: pathFromBytes(Buffer.from(bytes)), kind: "file" });
    expect(files.statSync(path)?.size).toBe(3);
    expect(await files.realpath(path)).toBe(path);
    const renamed = atBytes(...bytes, 0x31);
    await files.renameNoReplace(path, renamed);
    await files.rename(renamed, path);
    await files.unlink(path);
    expect(files.statSync(path)).toBeUndefined();
  });

  it("makes a new file and refuses one that exists", async () => {
    const handle = await files.open(at("a"), "create", 0o600);
    await handle.close();
    expect(statSync(join(folder, "a")).mode & 0o777).toBe(0o600);
    expect(await codeOf(files.open(at("a"), "create"))).toBe("EEXIST");
    expect(await codeOf(files.open(at("b"), "write"))).toBe("ENOENT");
    expect(await codeOf(files.open(at("b"), "read"))).toBe("ENOENT");
  });

  it("reads and writes where it is told, and gives 0 at the end", async () => {
    const handle = await files.open(at("a"), "create");
    expect(await handle.write(Buffer.from("xxabcdxx"), 2, 4, 0)).toBe(4);
    expect(await handle.writev([Buffer.from("ef"), Buffer.from("gh")], 4)).toBe(4);
    const into = Buffer.alloc(6, ".");
    expect(await handle.read(into, 1, 4, 2)).toBe(4);
    expect(into.toString()).toBe(".cdef.");
    expect(await handle.read(into, 0, 6, 6)).toBe(2);
    expect(await handle.read(into, 0, 6, 8)).toBe(0);
    expect(await handle.read(into, 0, 6, 2 ** 40)).toBe(0);
    await handle.truncate(3);
    await handle.datasync();
    await handle.sync();
    expect((await handle.stat()).size).toBe(3);
    await handle.close();
    expect(readFileSync(join(folder, "a"), "utf8")).toBe("abc");
  });

  it("does not wait for a writer when it opens a pipe", async () => {
    execFileSync("sh", ["-c", 'mkfifo "$1"', "sh", join(folder, "pipe")]);
    const handle = await files.open(at("pipe"), "read");
    expect((await handle.stat()).kind).toBe("other");
    await handle.close();
  });

  it("refuses to use or close a file that is closed", async () => {
    const handle = await files.open(at("a"), "create");
    await handle.close();
    expect(await codeOf(handle.close())).toBe("EBADF");
    expect(await codeOf(handle.stat())).toBe("EBADF");
    expect(await codeOf(handle.read(Buffer.alloc(1), 0, 1, 0))).toBe("EBADF");
  });

  it("keeps reading a file whose last name is gone", async () => {
    writeFileSync(join(folder, "a"), "abc");
    const handle = await files.open(at("a"), "read");
    unlinkSync(join(folder, "a"));
    expect((await handle.stat()).links).toBe(0);
    const into = Buffer.alloc(3);
    expect(await handle.read(into, 0, 3, 0)).toBe(3);
    await handle.close();
  });

  it("locks a file against every other opening of it, until it is closed", async () => {
    const first = await files.open(at("a"), "create");
    const second = await files.open(at("a"), "write");
    expect(await first.tryLock?.()).toBe(true);
    expect(await second.tryLock?.()).toBe(false);
    await first.close();
    expect(await second.tryLock?.()).toBe(true);
    await second.close();
  });

  it("tells what a path is, through links or not", async () => {
    writeFileSync(join(folder, "a"), "abc");
    linkSync(join(folder, "a"), join(folder, "hard"));
    symlinkSync("a", join(folder, "soft"));
    symlinkSync("nowhere", join(folder, "dangling"));
    const expected = statSync(join(folder, "a"), { bigint: true });
    const stat = await files.stat(at("soft"));
    expect(stat).toEqual({
      kind: "file",
      device: expected.dev,
      inode: expected.ino,
      size: 3,
      birthNs: expected.birthtimeNs,
      modifiedMs: Number(expected.mtimeNs) / 1e6,
      links: 2,
    });
    expect(files.statSync(at("hard"))).toEqual(stat);
    expect((await files.lstat(at("soft"))).kind).toBe("other");
    expect((await files.stat(pathFromText(folder))).kind).toBe("folder");
    expect(await files.realpath(at("soft"))).toBe(await files.realpath(at("a")));
    expect(await codeOf(files.stat(at("dangling")))).toBe("ENOENT");
    const kinds = (await files.readdir(pathFromText(folder))).map(({ name, kind }) => `${name} ${kind}`).sort();
    expect(kinds).toEqual(["a file", "dangling link", "hard file", "soft link"]);
  });

  it("finds nothing where nothing is, and throws what is another error", () => {
    writeFileSync(join(folder, "a"), "");
    symlinkSync("loop", join(folder, "loop"));
    expect(files.statSync(at("b"))).toBeUndefined();
    expect(files.statSync(at("a/b"))).toBeUndefined();
    expect(() => files.statSync(at("loop"))).toThrow("ELOOP");
  });

  it("makes a folder with its parents, and is content with one that exists", async () => {
    await files.mkdirs(at("x/y/z"), 0o700);
    expect(statSync(join(folder, "x/y")).mode & 0o777).toBe(0o700);
    await files.mkdirs(at("x/y/z"));
    await files.mkdirs(pathFromText("/"));
    writeFileSync(join(folder, "file"), "");
    expect(await codeOf(files.mkdirs(at("file")))).toBe("EEXIST");
    expect(await codeOf(files.mkdirs(at("file/below")))).toBe("ENOTDIR");
    // There nothing can be made, and mkdir says ENOENT although the parent is there.
    expect(await codeOf(files.mkdirs(pathFromText("/proc/none/below")))).toBe("ENOENT");
  });

  it("does not replace where it is told not to", async () => {
    writeFileSync(join(folder, "a"), "a");
    writeFileSync(join(folder, "b"), "b");
    expect(await codeOf(files.renameNoReplace(at("a"), at("b")))).toBe("EEXIST");
    expect(await codeOf(files.renameNoReplace(at("none"), at("c")))).toBe("ENOENT");
    expect(readFileSync(join(folder, "b"), "utf8")).toBe("b");
    await files.renameNoReplace(at("a"), at("c"));
    expect(readdirSync(folder).sort()).toEqual(["b", "c"]);
    await files.rename(at("c"), at("b"));
    expect(readFileSync(join(folder, "b"), "utf8")).toBe("a");
  });

  it("makes the entries of a folder durable, and says where it cannot", async () => {
    await files.syncFolder(pathFromText(folder));
    writeFileSync(join(folder, "a"), "");
    expect(await codeOf(files.syncFolder(at("a")))).toBe("ENOTDIR");
    expect(await codeOf(files.syncFolder(at("none")))).toBe("ENOENT");
  });

  it("names the file system of a file, the same each time", () => {
    const { device } = files.statSync(pathFromText(folder))!;
    const id = files.fileSystemId(device);
    expect(id).not.toMatch(/^device:/);
    expect(files.fileSystemId(device)).toBe(id);
    expect(files.fileSystemId(files.statSync(pathFromText("/proc"))!.device)).not.toBe(id);
  });

  it("tells names that change in a folder, whatever their bytes", async () => {
    const changed = new Set<BytePath | undefined>();
    const watching = files.watchFolder(
      pathFromText(folder),
      (name) => changed.add(name),
      (error) => expect.fail(error.message),
    );
    for (const [, bytes] of STRANGE_NAMES) closeSync(openSync(pathToBytes(atBytes(...bytes)), "w"));
    const strange = STRANGE_NAMES.map(([, bytes]) => pathFromBytes(Buffer.from(bytes)));
    await expect.poll(() => [...changed]).toEqual(expect.arrayContaining(strange));
    watching.close();
    watching.close();
  });

  it("reports a folder that cannot be watched, and throws nothing", async () => {
    const errors: Error[] = [];
    const watching = files.watchFolder(
      at("none"),
      () => {},
      (error) => errors.push(error),
    );
    expect(errors).toEqual([]);
    await expect.poll(() => errors.map(errnoOf)).toEqual(["ENOENT"]);
    watching.close();
  });

  it("lives through the removal of a folder that it watches", async () => {
    mkdirSync(join(folder, "below"));
    const changes: (BytePath | undefined)[] = [];
    const errors: Error[] = [];
    const watching = files.watchFolder(
      at("below"),
      (name) => changes.push(name),
      (error) => errors.push(error),
    );
    rmSync(join(folder, "below"), { recursive: true });
    await expect.poll(() => changes.length + errors.length).toBeGreaterThan(0);
    watching.close();
  });
});
