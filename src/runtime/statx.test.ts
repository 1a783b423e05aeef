import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { errnoOf } from "../errors.ts";
import { type BytePath, pathFromBytes, pathFromText, pathToBytes } from "./byte-path.ts";
import type { FileStat } from "./file-system.ts";
import { ASK_NODE, statx } from "./statx.ts";

const isLinux = process.platform === "linux";

beforeAll(async () => {
  const deadline = performance.now() + 30_000;
  while (isLinux && statx(pathFromText("/")) === ASK_NODE) {
    if (performance.now() > deadline) throw new Error("statx is not loaded");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
});

/** The same from Node. */
function statOfNode(path: BytePath): FileStat | undefined | typeof ASK_NODE {
  try {
    const stats = statSync(pathToBytes(path), { bigint: true });
    return {
      kind: stats.isFile() ? "file" : stats.isDirectory() ? "folder" : "other",
      device: stats.dev,
      inode: stats.ino,
      size: Number(stats.size),
      birthNs: stats.birthtimeNs,
      modifiedMs: Number(stats.mtimeNs) / 1e6,
      links: Number(stats.nlink),
    };
  } catch (error) {
    const code = errnoOf(error);
    return code === "ENOENT" || code === "ENOTDIR" ? undefined : ASK_NODE;
  }
}

describe.runIf(isLinux)("statx", () => {
  it("says what Node says, of files, folders, links, devices, and where nothing is", () => {
    const folder = mkdtempSync(join(tmpdir(), "tailrace-statx-"));
    try {
      const at = (name: string) => join(folder, name);
      writeFileSync(at("file"), "content");
      writeFileSync(at("before 1970"), "");
      utimesSync(at("before 1970"), -12.5, -12.25);
      writeFileSync(at("after 2262"), "");
      utimesSync(at("after 2262"), 10_000_000_000, 10_000_000_000);
      linkSync(at("file"), at("hard"));
      symlinkSync(at("file"), at("soft"));
      symlinkSync(at("loop"), at("loop"));
      symlinkSync(at("nowhere"), at("dangling"));
      mkdirSync(at("folder"));
      writeFileSync(Buffer.concat([Buffer.from(folder), Buffer.from("/no utf-8 \xff\xfe", "latin1")]), "x");
      writeFileSync(at("smörgås"), "y");
      const paths = [
        ...readdirSync(folder, { encoding: "buffer" }).map((name) => Buffer.concat([Buffer.from(`${folder}/`), name])),
        ...[
          "",
          "/",
          "/dev/null",
          "/dev/zero",
          "/proc/self/stat",
          "/proc/1",
          "/sys",
          "relative",
          "package.json",
          ".",
        ].map((path) => Buffer.from(path)),
        Buffer.from(at("nothing")),
        Buffer.from(at("file/below")),
        Buffer.from(at("n".repeat(300))),
        Buffer.from(at(`${"folder/../".repeat(500)}file`)),
        Buffer.from(at(`${"folder/../".repeat(300)}file`)),
        ...readdirSync("/dev").map((name) => Buffer.from(`/dev/${name}`)),
      ].map((bytes) => pathFromBytes(bytes));
      for (const path of paths) expect(statx(path), path).toEqual(statOfNode(path));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("leaves to Node a path with a NUL, which would end it early", () => {
    expect(statx(pathFromText("/dev\0/null"))).toBe(ASK_NODE);
  });
});
