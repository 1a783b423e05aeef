import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { BytePath } from "../../runtime/byte-path.ts";
import { nodeFileSystem } from "../../runtime/node-file-system.ts";
import { silentLogger } from "../../telemetry/log.ts";
import { LogrotateConfig } from "./logrotate-config.ts";

let root: string;
let left: string[];

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "tailrace-logrotate-")));
  left = [];
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Makes a file of the configuration; `ROOT` in it is the folder of the test. */
function make(name: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(join(root, name)), { recursive: true });
  writeFileSync(join(root, name), text.replaceAll("ROOT", root));
  chmodSync(join(root, name), mode);
}

/** Of each pattern its olddir, with the place where that is written. */
async function olddirs(first = "logrotate.conf", userId = process.getuid!()): Promise<string[]> {
  const log = { ...silentLogger, debug: (fields: { reason?: unknown }) => left.push(String(fields.reason)) };
  const config = await LogrotateConfig.read([join(root, first) as BytePath, join(root, "second") as BytePath], {
    fileSystem: nodeFileSystem,
    userId,
    log,
  });
  return config.rules.flatMap(({ patterns, naming: { olddir } }) =>
    patterns.map((pattern) => {
      const where =
        olddir === undefined ? "-" : `${olddir.folder} ${olddir.path.slice(root.length + 1)}:${olddir.line}`;
      return `${pattern} ${where}`;
    }),
  );
}

describe("LogrotateConfig", () => {
  it("reads what is included in alphabetic order, where it is included", async () => {
    make("logrotate.conf", "olddir a\ninclude ROOT/d\nolddir b\n/last {\n}\ninclude ROOT/one\n");
    make("d/zsh", "/z {\n}\n");
    make("d/apt", "/y {\n olddir c\n}\nolddir d\n");
    make("one", "/one {\n noolddir\n}\n");
    expect(await olddirs()).toEqual(["/y c d/apt:2", "/z d d/apt:4", "/last b logrotate.conf:3", "/one -"]);
  });

  it("takes the first configuration that exists", async () => {
    make("second", "/b {\n}\n");
    expect(await olddirs()).toEqual(["/b -"]);
    make("logrotate.conf", "");
    expect(await olddirs()).toEqual([]);
  });

  it("knows nothing where there is none", async () => {
    expect(await olddirs()).toEqual([]);
    expect(left).toEqual([]);
  });

  it("leaves out files of an included folder that logrotate leaves out", async () => {
    make(
      "logrotate.conf",
      "include ROOT/d\ntabooext + .off, .no\ntaboopat x*\ninclude ROOT/e\ntabooext .b\ninclude ROOT/f\n",
    );
    for (const name of ["a", "a.dpkg-old", "a~", "a,v", "a.rhn-cfg-tmp-1", "a.swp", ".hidden"])
      make(`d/${name}`, `/d/${name} {\n}\n`);
    for (const name of ["a", "a.off", "a.no", "xa", "a.rpmnew"]) make(`e/${name}`, `/e/${name} {\n}\n`);
    for (const name of ["a.b", "a.rpmnew", "c"]) make(`f/${name}`, `/f/${name} {\n}\n`);
    mkdirSync(join(root, "d/folder"));
    symlinkSync(join(root, "e"), join(root, "d/link"));
    expect(await olddirs()).toEqual(["/d/.hidden -", "/d/a -", "/e/a -", "/f/a.rpmnew -", "/f/c -"]);
  });

  it.each([0o664, 0o646, 0o666])("does not believe a file that others may write (%o)", async (mode) => {
    make("logrotate.conf", "include ROOT/d\n");
    make("d/app", "/app {\n olddir old\n}\n", mode);
    make("d/b", "/b {\n}\n");
    expect(await olddirs()).toEqual(["/b -"]);
    expect(left).toEqual(["its group or others may write it"]);
  });

  it.skipIf(process.getuid!() !== 0)("believes root and its own user only", async () => {
    make("logrotate.conf", "include ROOT/app\n");
    make("app", "/app {\n}\n");
    chownSync(join(root, "app"), 12345, 12345);
    expect(await olddirs()).toEqual([]);
    expect(left).toEqual(["it is owned by another user than root"]);
    expect(await olddirs("logrotate.conf", 12345)).toEqual(["/app -"]);
  });

  it("does not wait for a file that is none, nor read one without an end", async () => {
    make("logrotate.conf", "include ROOT/large\ninclude /dev/null\ninclude /dev/zero\n/last {\n}\n");
    make("large", "#".repeat(300_000));
    expect(await olddirs()).toEqual(["/last -"]);
    expect(left).toEqual(["it has more than 262144 bytes", "it is no regular file", "it is no regular file"]);
  });

  it("ends where files include each other", async () => {
    make("logrotate.conf", "include ROOT/logrotate.conf\ninclude ROOT/d\n/last {\n}\n");
    make("d/a", "include ROOT/d\n/a {\n}\n");
    make("d/b", "include ROOT/d\n/b {\n}\n");
    const found = await olddirs();
    expect(found.length).toBeLessThan(10_000);
    expect(new Set(found)).toEqual(new Set(["/a -", "/b -", "/last -"]));
  });

  it("makes nothing of odd text, whatever it is", async () => {
    const words = [
      "{",
      "}",
      "/a",
      "[z-a]",
      "olddir",
      "include",
      "tabooext",
      "+",
      "=",
      '"',
      "'",
      "\\",
      "#",
      " ",
      "\n",
      "*",
      "~",
    ];
    const text = fc.array(fc.constantFrom(...words, "prerotate", "endscript", "dateformat", "%Y"), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(text, async (parts) => {
        make("logrotate.conf", parts.join(""));
        await expect(olddirs()).resolves.toBeInstanceOf(Array);
      }),
    );
  });

  it("leaves out an olddir that logrotate refuses, and includes that it cannot follow here", async () => {
    make("logrotate.conf", "include relative\ninclude ~/x\ninclude\n/a {\n olddir a b\n}\n/b {\n olddir\n}\n");
    expect(await olddirs()).toEqual(["/a -", "/b -"]);
  });
});
