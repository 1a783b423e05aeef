import { appendFileSync, linkSync, mkdtempSync, realpathSync, rmSync, symlinkSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { type BytePath, pathFromText, pathToBytes } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { fileSystemSuite } from "./file-system-suite.ts";

const made: string[] = [];
afterAll(() => {
  for (const folder of made) rmSync(folder, { recursive: true, force: true });
});

const bytes = (path: string) => pathToBytes(path as BytePath);

fileSystemSuite("nodeFileSystem", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "tailrace-files-")));
  made.push(folder);
  return {
    files: nodeFileSystem,
    folder: pathFromText(folder),
    programs: {
      append: (path, text) => appendFileSync(bytes(path), text),
      truncate: (path, length = 0) => truncateSync(bytes(path) as unknown as string, length),
      symlink: (target, path) => symlinkSync(target, bytes(path)),
      link: (existing, path) => linkSync(bytes(existing), bytes(path)),
    },
  };
});
