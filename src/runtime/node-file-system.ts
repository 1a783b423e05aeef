import {
  type BigIntStats,
  constants,
  type Dirent,
  fdatasync,
  close as fsClose,
  fstatSync,
  fsync,
  ftruncate,
  link,
  lstat,
  mkdir,
  type NoParamCallback,
  open,
  read,
  readdir,
  realpath,
  rename,
  stat,
  statSync,
  unlink,
  watch,
  write,
  writev,
} from "node:fs";
import { errnoOf, toError } from "../errors.ts";
import { type BytePath, folderOf, pathFromBytes, pathToBytes } from "./byte-path.ts";
import { tryLockDescriptor } from "./file-lock.ts";
import type {
  DirectoryEntry,
  FileHandle,
  FileStat,
  FileSystem,
  FolderChange,
  FolderWatch,
  OpenMode,
} from "./file-system.ts";
import { FileSystemIds } from "./file-system-ids.ts";
import { renameNoReplace } from "./rename-no-replace.ts";
import { ASK_NODE, statx } from "./statx.ts";

/**
 * The machine's own files. Descriptors are plain numbers and not `fs.promises.FileHandle`, which closes itself when the
 * garbage collector finds it: a file that was forgotten should be seen to leak, not lose an unlinked file's content.
 */
export const nodeFileSystem: FileSystem = {
  async open(path, mode, permissions = 0o666) {
    const bytes = pathToBytes(path);
    const descriptor = await promised<number>((done) => open(bytes, OPEN_FLAGS[mode], permissions, done));
    return new NodeFileHandle(descriptor);
  },
  async stat(path) {
    return statOf(await promised<BigIntStats>((done) => stat(pathToBytes(path), { bigint: true }, done)));
  },
  async lstat(path) {
    return statOf(await promised<BigIntStats>((done) => lstat(pathToBytes(path), { bigint: true }, done)));
  },
  statSync(path) {
    const stat = statx(path);
    if (stat !== ASK_NODE) return stat;
    try {
      const stats = statSync(pathToBytes(path), { bigint: true, throwIfNoEntry: false });
      return stats === undefined ? undefined : statOf(stats);
    } catch (error) {
      // Node leaves out ENOENT only.
      if (errnoOf(error) === "ENOTDIR") return undefined;
      throw error;
    }
  },
  async readdir(folder) {
    const options = { encoding: "buffer", withFileTypes: true } as const;
    const entries = await promised<Dirent<Buffer>[]>((done) => readdir(pathToBytes(folder), options, done));
    return entries.map((entry) => ({ name: pathFromBytes(entry.name), kind: entryKind(entry) }));
  },
  async realpath(path) {
    return pathFromBytes(
      await promised<Buffer>((done) => realpath.native(pathToBytes(path), { encoding: "buffer" }, done)),
    );
  },
  mkdirs,
  rename(from, to) {
    return settled((done) => rename(pathToBytes(from), pathToBytes(to), done));
  },
  async renameNoReplace(from, to) {
    await renameNoReplace(pathToBytes(from), pathToBytes(to), {
      link: (existing, name) => settled((done) => link(existing, name, done)),
      unlink: (name) => settled((done) => unlink(name, done)),
    });
  },
  unlink(path) {
    return settled((done) => unlink(pathToBytes(path), done));
  },
  async syncFolder(folder) {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY;
    const descriptor = await promised<number>((done) => open(pathToBytes(folder), flags, done));
    try {
      await settled((done) => fsync(descriptor, done));
    } finally {
      await settled((done) => fsClose(descriptor, done));
    }
  },
  fileSystemId(device) {
    return fileSystemIds.idOf(device);
  },
  watchFolder,
};

const fileSystemIds = new FileSystemIds();

/** O_NOCTTY: a terminal that a pattern happens to match does not become ours. Node sets O_CLOEXEC by itself. */
const OPEN_FLAGS: Record<OpenMode, number> = {
  read: constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOCTTY,
  write: constants.O_RDWR | constants.O_NOCTTY,
};

class NodeFileHandle implements FileHandle {
  #descriptor: number;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number> {
    return promised((done) => read(this.#open, into, intoOffset, length, offset, done));
  }

  write(bytes: Buffer, fromOffset: number, length: number, offset: number): Promise<number> {
    return promised((done) => write(this.#open, bytes, fromOffset, length, offset, done));
  }

  writev(parts: readonly Buffer[], offset: number): Promise<number> {
    return promised((done) => writev(this.#open, parts, offset, done));
  }

  async stat(): Promise<FileStat> {
    // Of an inode that is open already: a few microseconds, where a turn through a thread takes hundreds.
    return statOf(fstatSync(this.#open, { bigint: true }));
  }

  ownership(): { userId: number; permissions: number } {
    const { uid, mode } = fstatSync(this.#open);
    return { userId: uid, permissions: mode & 0o7777 };
  }

  truncate(length: number): Promise<void> {
    return settled((done) => ftruncate(this.#open, length, done));
  }

  datasync(): Promise<void> {
    return settled((done) => fdatasync(this.#open, done));
  }

  sync(): Promise<void> {
    return settled((done) => fsync(this.#open, done));
  }

  async tryLock(): Promise<boolean> {
    return tryLockDescriptor(this.#open);
  }

  async close(): Promise<void> {
    const descriptor = this.#open;
    // Before the call: the number may belong to another file as soon as the kernel has it back, also after an error
    // (man 2 close), and a second close would be that file's.
    this.#descriptor = -1;
    await settled((done) => fsClose(descriptor, done));
  }

  get #open(): number {
    if (this.#descriptor < 0) throw Object.assign(new Error("EBADF: the file is closed"), { code: "EBADF" });
    return this.#descriptor;
  }
}

async function mkdirs(folder: BytePath, permissions = 0o777): Promise<void> {
  const make = () => settled((done) => mkdir(pathToBytes(folder), { mode: permissions }, done));
  try {
    await make().catch(async (error: unknown) => {
      if (errnoOf(error) !== "ENOENT" || folderOf(folder) === folder) throw error;
      await mkdirs(folderOf(folder), permissions);
      // Once more, and no oftener: /proc, and a folder that was removed while it is somebody's, answer ENOENT for ever.
      await make();
    });
  } catch (error) {
    // What exists is good if it is a folder. EROFS and EACCES also come for folders that exist.
    const existing = nodeFileSystem.statSync(folder);
    if (existing?.kind === "folder") return;
    throw error;
  }
  // Dying before this loses the folder at a power cut, with all that was synced in it since.
  await nodeFileSystem.syncFolder(folderOf(folder));
}

function watchFolder(
  folder: BytePath,
  onChange: (name: BytePath | undefined, change: FolderChange) => void,
  onError: (error: Error) => void,
): FolderWatch {
  try {
    const watcher = watch(pathToBytes(folder), { encoding: "buffer", persistent: false });
    watcher.on("change", (type, name) =>
      onChange(Buffer.isBuffer(name) ? pathFromBytes(name) : undefined, type === "change" ? "content" : "entry"),
    );
    watcher.on("error", onError);
    return { close: () => watcher.close() };
  } catch (error) {
    // Later, so that the caller has its FolderWatch before it hears of the failure.
    queueMicrotask(() => onError(toError(error)));
    return { close() {} };
  }
}

function statOf(stats: BigIntStats): FileStat {
  return {
    kind: stats.isFile() ? "file" : stats.isDirectory() ? "folder" : "other",
    device: stats.dev,
    inode: stats.ino,
    size: Number(stats.size),
    birthNs: stats.birthtimeNs,
    modifiedMs: Number(stats.mtimeNs) / 1e6,
    links: Number(stats.nlink),
  };
}

function entryKind(entry: Dirent<Buffer>): DirectoryEntry["kind"] {
  if (entry.isFile()) return "file";
  if (entry.isDirectory()) return "folder";
  if (entry.isSymbolicLink()) return "link";
  const isKnown = entry.isFIFO() || entry.isSocket() || entry.isBlockDevice() || entry.isCharacterDevice();
  return isKnown ? "other" : "unknown";
}

/** A call with a callback as a promise. What it throws at once (a wrong argument) rejects, too. */
function promised<Result>(call: (done: (error: Error | null, result: Result) => void) => void): Promise<Result> {
  return new Promise((resolve, reject) => call((error, result) => (error ? reject(error) : resolve(result))));
}

function settled(call: (done: NoParamCallback) => void): Promise<void> {
  return new Promise((resolve, reject) => call((error) => (error ? reject(error) : resolve())));
}
