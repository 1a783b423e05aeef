import type { FileStat, FileSystem } from "../runtime/file-system.ts";

/** File system and inode: which file it is as long as nobody deletes it. Freed inode numbers are handed out again. */
export type FileId = string & { readonly __fileId: unique symbol };

/** Gives device numbers, which are good for one boot only, the stable names of their file systems. */
export class FileIds {
  readonly #fileSystem: FileSystem;
  readonly #names = new Map<bigint, string>();

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  /** Stable name of the file system that `stat` is on. */
  fileSystemOf(stat: FileStat): string {
    let name = this.#names.get(stat.device);
    if (name === undefined) {
      name = this.#fileSystem.fileSystemId(stat.device);
      this.#names.set(stat.device, name);
    }
    return name;
  }

  idOf(stat: FileStat): FileId {
    return fileId(this.fileSystemOf(stat), String(stat.inode));
  }

  /** Mounts have changed: device numbers may stand for something else. */
  forget(): void {
    this.#names.clear();
  }
}

export function fileId(fileSystem: string, inode: string): FileId {
  return `${fileSystem}\0${inode}` as FileId;
}
