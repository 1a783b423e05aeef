import { beforeEach, describe, expect, it } from "vitest";
import type { BytePath } from "../runtime/byte-path.ts";
import { joinPath, pathFromText } from "../runtime/byte-path.ts";
import type { FileHandle, FileSystem } from "../runtime/file-system.ts";

/** What a run of the contract suite is given: a file system, a fresh folder, and another program that works in it. */
export interface FileSystemUnderTest {
  readonly files: FileSystem;
  /** Absolute, without symbolic links, empty. */
  readonly folder: BytePath;
  readonly programs: {
    append(path: string, bytes: string): void;
    truncate(path: string, length?: number): void;
    symlink(target: string, path: string): void;
    link(existing: string, path: string): void;
  };
}

/** The contract of FileSystem, run over every implementation, so that the simulation tells the truth about the real one. */
export function fileSystemSuite(name: string, make: () => FileSystemUnderTest | Promise<FileSystemUnderTest>): void {
  describe(`${name} › FileSystem contract`, () => {
    let under: FileSystemUnderTest;
    const at = (child: string) => joinPath(under.folder, pathFromText(child));
    const code = (promise: Promise<unknown>) =>
      promise.then(
        () => "no error",
        (error: unknown) => (error as { code?: string }).code,
      );

    beforeEach(async () => {
      under = await make();
    });

    async function created(child: string, text: string): Promise<FileHandle> {
      const handle = await under.files.open(at(child), "create");
      await writeAll(handle, text, 0);
      return handle;
    }

    async function content(child: string): Promise<string> {
      const handle = await under.files.open(at(child), "read");
      const text = await readAll(handle);
      await handle.close();
      return text;
    }

    it("reads what was written, at any offset, and nothing behind the end", async () => {
      const handle = await created("a", "0123456789");
      const into = Buffer.alloc(8, "-");
      expect(await handle.read(into, 2, 3, 4)).toBe(3);
      expect(into.toString()).toBe("--456---");
      expect(await handle.read(into, 0, 8, 10)).toBe(0);
      expect(await handle.read(into, 0, 8, 1000)).toBe(0);
      expect(await handle.writev([Buffer.from("ab"), Buffer.from("cd")], 8)).toBe(4);
      expect(await readAll(handle)).toBe("01234567abcd");
      await handle.close();
    });

    it("fills the gap before a write with zeros, and cuts and stretches on truncate", async () => {
      const handle = await created("a", "xy");
      await writeAll(handle, "z", 4);
      expect(await readAll(handle)).toBe("xy\0\0z");
      await handle.truncate(1);
      await handle.truncate(3);
      expect(await readAll(handle)).toBe("x\0\0");
      await handle.datasync();
      await handle.sync();
      expect((await handle.stat()).size).toBe(3);
      await handle.close();
    });

    it("creates only what does not exist, and opens only what does", async () => {
      await (await created("a", "first")).close();
      expect(await code(under.files.open(at("a"), "create"))).toBe("EEXIST");
      expect(await code(under.files.open(at("none"), "read"))).toBe("ENOENT");
      expect(await code(under.files.open(at("none"), "write"))).toBe("ENOENT");
      expect(await code(under.files.open(at("a/b"), "read"))).toBe("ENOTDIR");
      const handle = await under.files.open(at("a"), "write");
      await writeAll(handle, "F", 0);
      await handle.close();
      expect(await content("a")).toBe("First");
    });

    it("does not write through a descriptor for reading", async () => {
      await (await created("a", "x")).close();
      const handle = await under.files.open(at("a"), "read");
      expect(await code(handle.write(Buffer.from("y"), 0, 1, 0))).toBe("EBADF");
      await handle.close();
      expect(await content("a")).toBe("x");
    });

    it("tells one file from another by inode, under any of its names", async () => {
      const handle = await created("a", "x");
      await (await created("b", "x")).close();
      under.programs.link(at("a"), at("hard"));
      under.programs.symlink("a", at("soft"));
      const [a, b, hard, soft, open] = await Promise.all([
        under.files.stat(at("a")),
        under.files.stat(at("b")),
        under.files.stat(at("hard")),
        under.files.stat(at("soft")),
        handle.stat(),
      ]);
      expect([hard.inode, soft.inode, open.inode]).toEqual([a.inode, a.inode, a.inode]);
      expect(b.inode).not.toBe(a.inode);
      expect([a.device, a.links, b.links, a.kind, a.size]).toEqual([b.device, 2, 1, "file", 1]);
      expect((await under.files.lstat(at("soft"))).inode).not.toBe(a.inode);
      expect((await under.files.lstat(at("soft"))).kind).toBe("other");
      expect((await under.files.stat(under.folder)).kind).toBe("folder");
      expect(under.files.statSync(at("soft"))).toMatchObject({ inode: a.inode, size: 1, kind: "file" });
      expect(under.files.fileSystemId(a.device)).toBe(under.files.fileSystemId(b.device));
      await handle.close();
    });

    it("says undefined, synchronously, where nothing is", async () => {
      await (await created("a", "x")).close();
      under.programs.symlink("none", at("dangling"));
      expect([at("none"), at("a/b"), at("dangling")].map((path) => under.files.statSync(path))).toEqual([
        undefined,
        undefined,
        undefined,
      ]);
      expect(await code(under.files.stat(at("none")))).toBe("ENOENT");
      expect(await code(under.files.stat(at("a/b")))).toBe("ENOTDIR");
      expect(await code(under.files.stat(at("dangling")))).toBe("ENOENT");
    });

    it("keeps an open file across rename, replacement and unlink", async () => {
      const handle = await created("a", "one");
      await under.files.rename(at("a"), at("a.1"));
      await (await created("a", "two")).close();
      expect(await readAll(handle)).toBe("one");
      await under.files.rename(at("a"), at("a.1"));
      expect(await content("a.1")).toBe("two");
      expect(await readAll(handle)).toBe("one");
      expect((await handle.stat()).links).toBe(0);
      await under.files.unlink(at("a.1"));
      expect(await code(under.files.unlink(at("a.1")))).toBe("ENOENT");
      expect(await code(under.files.rename(at("none"), at("x")))).toBe("ENOENT");
      await handle.close();
    });

    it("renames without replacing", async () => {
      await (await created("a", "one")).close();
      await (await created("b", "two")).close();
      expect(await code(under.files.renameNoReplace(at("a"), at("b")))).toBe("EEXIST");
      expect([await content("a"), await content("b")]).toEqual(["one", "two"]);
      await under.files.renameNoReplace(at("a"), at("c"));
      expect(await content("c")).toBe("one");
      expect(under.files.statSync(at("a"))).toBeUndefined();
    });

    it("makes a folder with its parents, once or twice", async () => {
      await under.files.mkdirs(at("x/y/z"));
      await under.files.mkdirs(at("x/y/z"));
      await under.files.syncFolder(at("x/y"));
      expect((await under.files.stat(at("x/y/z"))).kind).toBe("folder");
      await (await created("file", "")).close();
      expect(["EEXIST", "ENOTDIR"]).toContain(await code(under.files.mkdirs(at("file/below"))));
      expect(await code(under.files.syncFolder(at("none")))).toBe("ENOENT");
    });

    it("lists names, also those that are no UTF-8, with what they are", async () => {
      const odd = joinPath(under.folder, "caf\xe9\xff" as BytePath);
      await (await under.files.open(odd, "create")).close();
      await (await created("ü", "")).close();
      await under.files.mkdirs(at("sub"));
      under.programs.symlink("sub", at("soft"));
      const entries = await under.files.readdir(under.folder);
      expect(
        entries
          .filter((entry) => entry.kind !== "unknown")
          .map((entry) => `${entry.name} ${entry.kind}`)
          .sort(),
      ).toEqual(["caf\xe9\xff file", "soft link", "sub folder", `${pathFromText("ü")} file`].sort());
      expect(await under.files.realpath(at("soft"))).toBe(at("sub"));
      expect(await code(under.files.readdir(odd))).toBe("ENOTDIR");
      expect(await code(under.files.readdir(at("none")))).toBe("ENOENT");
      expect(await code(under.files.realpath(at("none")))).toBe("ENOENT");
    });

    it("resolves links in the middle of a path and gives up in a circle", async () => {
      await under.files.mkdirs(at("real/deep"));
      await (await created("real/deep/a", "x")).close();
      under.programs.symlink("real", at("one"));
      under.programs.symlink("one/deep/../deep/a", at("two"));
      expect(await content("two")).toBe("x");
      expect(await under.files.realpath(at("two"))).toBe(at("real/deep/a"));
      under.programs.symlink("circle", at("circle"));
      expect(await code(under.files.open(at("circle"), "read"))).toBe("ELOOP");
    });

    it("sees at once what another program appends or cuts", async () => {
      const handle = await created("a", "one\n");
      under.programs.append(at("a"), "two\n");
      expect(await readAll(handle)).toBe("one\ntwo\n");
      under.programs.truncate(at("a"));
      expect(await readAll(handle)).toBe("");
      expect((await handle.stat()).size).toBe(0);
      await handle.close();
    });

    it("lets one descriptor at a time hold the lock of a file", async () => {
      const first = await created("a", "x");
      const second = await under.files.open(at("a"), "read");
      expect(await first.tryLock?.()).toBe(true);
      expect(await second.tryLock?.()).toBe(false);
      await first.close();
      expect(await second.tryLock?.()).toBe(true);
      await second.close();
    });

    it("answers EBADF on a closed descriptor", async () => {
      const handle = await created("a", "x");
      await handle.close();
      expect(await code(handle.read(Buffer.alloc(1), 0, 1, 0))).toBe("EBADF");
    });
  });
}

async function writeAll(handle: FileHandle, text: string, offset: number): Promise<void> {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += await handle.write(bytes, done, bytes.length - done, offset + done);
}

async function readAll(handle: FileHandle): Promise<string> {
  const into = Buffer.alloc(4096);
  let length = 0;
  for (;;) {
    const count = await handle.read(into, length, into.length - length, length);
    if (count === 0) return into.toString("latin1", 0, length);
    length += count;
  }
}
