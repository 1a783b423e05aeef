import { readdir, readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { errnoOf } from "../errors.ts";
import type { KeyLines } from "./key-lines.ts";

/** What reading a configuration needs of the machine; a test hands in a map. */
export interface ConfigFiles {
  /** Undefined: there is nothing at the path. Anything that is no folder is read as a file. */
  kind(path: string): Promise<"file" | "folder" | undefined>;
  read(path: string): Promise<Uint8Array>;
  /** Names in a folder, unordered. */
  list(folder: string): Promise<string[]>;
  /** The exports of a JavaScript or TypeScript module; `lines` is told where its keys stand. */
  load(path: string, lines: KeyLines): Promise<{ readonly [name: string]: unknown }>;
}

/** The files of this machine; relative paths start at `cwd`. */
export function nodeConfigFiles(cwd: string): ConfigFiles {
  return {
    async kind(path) {
      try {
        return (await stat(resolve(cwd, path))).isDirectory() ? "folder" : "file";
      } catch (thrown) {
        if (errnoOf(thrown) === "ENOENT" || errnoOf(thrown) === "ENOTDIR") return undefined;
        throw thrown;
      }
    },
    read: (path) => readFile(resolve(cwd, path)),
    list: (folder) => readdir(resolve(cwd, folder)),
    async load(path, lines) {
      // Only who configures with TypeScript pays for the loader.
      const { loadModule } = await import("../runtime/load-module.ts");
      return loadModule(resolve(cwd, path), (syntax) => lines.note(syntax));
    },
  };
}

const IN_WORDS: { readonly [errno: string]: string } = {
  ENOENT: "there is no such file or folder",
  ENOTDIR: "a part of the path is no folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the path is too long",
  EISDIR: "it is a folder",
  EMFILE: "too many open files",
};

/** Why a file could not be read, in words. */
export function reasonOf(thrown: unknown): string {
  const errno = errnoOf(thrown);
  if (errno !== undefined && IN_WORDS[errno] !== undefined) return IN_WORDS[errno];
  return errno ?? (thrown instanceof Error ? thrown.message : String(thrown));
}
