import type { BytePath } from "./byte-path.ts";

/**
 * The files of the machine behind an interface: what the simulation and fault injection replace. Every call that fails
 * rejects (or, for the synchronous ones, throws) with the platform's own error, whose `code` is the errno name.
 */
export interface FileSystem {
  open(path: BytePath, mode: OpenMode, permissions?: number): Promise<FileHandle>;
  /** Follows symbolic links. */
  stat(path: BytePath): Promise<FileStat>;
  lstat(path: BytePath): Promise<FileStat>;
  /** Synchronous `stat`, cheap enough for thousands of idle files; `undefined` where nothing is (ENOENT, ENOTDIR). */
  statSync(path: BytePath): FileStat | undefined;
  readdir(folder: BytePath): Promise<DirectoryEntry[]>;
  /** The absolute path without symbolic links. */
  realpath(path: BytePath): Promise<BytePath>;
  /** Makes the folder and its parents; fsyncs each new entry in its parent. */
  mkdirs(folder: BytePath, permissions?: number): Promise<void>;
  /** rename(2). */
  rename(from: BytePath, to: BytePath): Promise<void>;
  /** Renames, but fails with EEXIST where `to` exists. */
  renameNoReplace(from: BytePath, to: BytePath): Promise<void>;
  unlink(path: BytePath): Promise<void>;
  /** fsync of a folder: makes its entries durable (see `man 2 fsync`, on directories). */
  syncFolder(folder: BytePath): Promise<void>;
  /** A stable name of the file system that a device number stands for: UUID, or mount source and root. */
  fileSystemId(device: bigint): string;
  /** Tells `onChange` names that changed in a folder (not below it); a hint only, it may miss and repeat. */
  watchFolder(
    folder: BytePath,
    onChange: (name: BytePath | undefined, change: FolderChange) => void,
    onError: (error: Error) => void,
  ): FolderWatch;
}

/** `content`: bytes or attributes of what lies under the name; `entry`: what lies there may be another thing now, or nothing. */
export type FolderChange = "content" | "entry";

/**
 * - `read`: O_RDONLY, never blocks on a FIFO (O_NONBLOCK)
 * - `create`: O_RDWR | O_CREAT | O_EXCL
 * - `write`: O_RDWR on an existing file
 */
export type OpenMode = "read" | "create" | "write";

export interface FileHandle {
  /** pread(2): bytes read into `into` from `offset` on; 0 at the end. May be short. */
  read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number>;
  /** pwrite(2): bytes written; may be short. */
  write(bytes: Buffer, fromOffset: number, length: number, offset: number): Promise<number>;
  /** pwritev(2): bytes written; may be short. */
  writev(parts: readonly Buffer[], offset: number): Promise<number>;
  stat(): Promise<FileStat>;
  truncate(length: number): Promise<void>;
  datasync(): Promise<void>;
  sync(): Promise<void>;
  /**
   * flock(2), exclusive, without waiting; held until `close`. False: another process, or another handle of this one, has
   * it. Absent where files cannot be locked.
   */
  tryLock?(): Promise<boolean>;
  /** Its owner and its permission bits: who may have written it. Absent where files have no owners. */
  ownership?(): { readonly userId: number; readonly permissions: number };
  close(): Promise<void>;
}

export interface FileStat {
  readonly kind: "file" | "folder" | "other";
  readonly device: bigint;
  readonly inode: bigint;
  /** Bytes. */
  readonly size: number;
  /** Nanoseconds since the epoch; 0n where unknown. */
  readonly birthNs: bigint;
  readonly modifiedMs: number;
  /** Number of names; 0: unlinked, alive only through open descriptors. */
  readonly links: number;
}

export interface DirectoryEntry {
  readonly name: BytePath;
  /** `link`: a symbolic link, not followed. `unknown`: the file system does not tell, ask `stat`. */
  readonly kind: "file" | "folder" | "link" | "other" | "unknown";
}

export interface FolderWatch {
  close(): void;
}
