import type { BytePath } from "../runtime/byte-path.ts";
import type {
  DirectoryEntry,
  FileHandle,
  FileStat,
  FileSystem,
  FolderChange,
  FolderWatch,
  OpenMode,
} from "../runtime/file-system.ts";

/** Kinds of calls, as faults and counts name them. A `writev` is a `write`, a handle's `stat` is a `fstat`. */
export type FileCall =
  | "open"
  | "stat"
  | "lstat"
  | "statSync"
  | "readdir"
  | "realpath"
  | "mkdirs"
  | "rename"
  | "unlink"
  | "syncFolder"
  | "read"
  | "write"
  | "fstat"
  | "truncate"
  | "datasync"
  | "sync"
  | "lock"
  | "close";

/** The process was ended by `crashAt`: nothing it does afterwards has an effect. */
export class SimulatedCrash extends Error {
  constructor() {
    super("the process was ended by a fault point");
    this.name = "SimulatedCrash";
  }
}

export interface Fault {
  readonly call: FileCall;
  /** Calls of this kind (on this path) that pass first; default 0. */
  readonly after?: number;
  /** How many then fail; default 1. */
  readonly times?: number;
  /** Only calls on this path. */
  readonly path?: BytePath;
  /** The errno name of the failure; or, for reads and writes, at most how many bytes they move. */
  readonly fails: string | { readonly atMostBytes: number };
  /** The call does nothing before this has settled. Not for `statSync`. */
  readonly until?: Promise<unknown>;
}

/**
 * Any FileSystem, with faults at the N-th call of a kind, short reads and writes, and the end of the process at the N-th
 * call of all: before its effect or just after it.
 */
export class FaultyFileSystem implements FileSystem {
  readonly #inner: FileSystem;
  readonly #faults: { fault: Fault; after: number; times: number }[] = [];
  readonly #counts = new Map<FileCall, number>();
  readonly #handles = new Set<FileHandle>();
  #calls = 0;
  #crash: { at: number; when: "before" | "after" } | undefined;
  #isCrashed = false;

  constructor(inner: FileSystem) {
    this.#inner = inner;
  }

  // ------------------------------------------------------------ what tests do to it

  fail(fault: Fault): void {
    this.#faults.push({ fault, after: fault.after ?? 0, times: fault.times ?? 1 });
  }

  /** Takes all faults away. */
  mend(): void {
    this.#faults.length = 0;
  }

  /** Ends the process at call number `at` (0 is the next one), before or after its effect. */
  crashAt(at: number, when: "before" | "after"): void {
    this.#crash = { at: this.#calls + at, when };
  }

  /** Ends the process now, if it has not ended yet; resolves when its descriptors (and their locks) are gone. */
  async end(): Promise<void> {
    this.#isCrashed = true;
    const handles = [...this.#handles];
    this.#handles.clear();
    for (const handle of handles) await handle.close();
  }

  /** Descriptors that are open. */
  get openHandles(): number {
    return this.#handles.size;
  }

  get isCrashed(): boolean {
    return this.#isCrashed;
  }

  /** Calls so far, of one kind or of all. */
  calls(call?: FileCall): number {
    return call === undefined ? this.#calls : (this.#counts.get(call) ?? 0);
  }

  // ------------------------------------------------------------ FileSystem

  async open(path: BytePath, mode: OpenMode, permissions?: number): Promise<FileHandle> {
    const inner = await this.call("open", path, async () => {
      const opened = await this.#inner.open(path, mode, permissions);
      this.#handles.add(opened);
      return opened;
    });
    return new FaultyHandle(this, path, inner);
  }

  stat(path: BytePath): Promise<FileStat> {
    return this.call("stat", path, () => this.#inner.stat(path));
  }

  lstat(path: BytePath): Promise<FileStat> {
    return this.call("lstat", path, () => this.#inner.lstat(path));
  }

  statSync(path: BytePath): FileStat | undefined {
    moves(this.#enter("statSync", path), "statSync", path);
    const stat = this.#inner.statSync(path);
    this.#leave();
    return stat;
  }

  readdir(folder: BytePath): Promise<DirectoryEntry[]> {
    return this.call("readdir", folder, () => this.#inner.readdir(folder));
  }

  realpath(path: BytePath): Promise<BytePath> {
    return this.call("realpath", path, () => this.#inner.realpath(path));
  }

  mkdirs(folder: BytePath, permissions?: number): Promise<void> {
    return this.call("mkdirs", folder, () => this.#inner.mkdirs(folder, permissions));
  }

  rename(from: BytePath, to: BytePath): Promise<void> {
    return this.call("rename", from, () => this.#inner.rename(from, to));
  }

  renameNoReplace(from: BytePath, to: BytePath): Promise<void> {
    return this.call("rename", from, () => this.#inner.renameNoReplace(from, to));
  }

  unlink(path: BytePath): Promise<void> {
    return this.call("unlink", path, () => this.#inner.unlink(path));
  }

  syncFolder(folder: BytePath): Promise<void> {
    return this.call("syncFolder", folder, () => this.#inner.syncFolder(folder));
  }

  fileSystemId(device: bigint): string {
    return this.#inner.fileSystemId(device);
  }

  watchFolder(
    folder: BytePath,
    onChange: (name: BytePath | undefined, change: FolderChange) => void,
    onError: (error: Error) => void,
  ): FolderWatch {
    return this.#inner.watchFolder(folder, onChange, onError);
  }

  // ------------------------------------------------------------ for its handles

  /** A descriptor of an ended process is closed by `end`. */
  async close(path: BytePath, inner: FileHandle): Promise<void> {
    await this.call("close", path, async () => {
      this.#handles.delete(inner);
      await inner.close();
    });
  }

  async call<T>(call: FileCall, path: BytePath, effect: (atMostBytes: number) => Promise<T>): Promise<T> {
    const fault = this.#enter(call, path);
    await fault?.until;
    const result = await effect(moves(fault, call, path));
    this.#leave();
    return result;
  }

  /** Counts the call; gives the fault that it meets. */
  #enter(call: FileCall, path: BytePath): Fault | undefined {
    if (this.#isCrashed) throw new SimulatedCrash();
    if (this.#crash?.when === "before" && this.#crash.at === this.#calls) {
      this.#isCrashed = true;
      throw new SimulatedCrash();
    }
    this.#calls += 1;
    this.#counts.set(call, this.calls(call) + 1);
    return this.#faultOf(call, path);
  }

  #leave(): void {
    if (this.#crash?.when === "after" && this.#crash.at < this.#calls) this.#isCrashed = true;
    if (this.#isCrashed) throw new SimulatedCrash();
  }

  #faultOf(call: FileCall, path: BytePath): Fault | undefined {
    for (const entry of this.#faults) {
      const { fault } = entry;
      if (fault.call !== call || entry.times === 0 || (fault.path !== undefined && fault.path !== path)) continue;
      if (entry.after > 0) {
        entry.after -= 1;
        continue;
      }
      entry.times -= 1;
      return fault;
    }
    return undefined;
  }
}

/** How many bytes a call may move; throws where it is to fail. */
function moves(fault: Fault | undefined, call: FileCall, path: BytePath): number {
  const fails = fault?.fails;
  if (typeof fails !== "string") return fails?.atMostBytes ?? Number.POSITIVE_INFINITY;
  throw Object.assign(new Error(`${fails}: ${call} '${path}' (fault)`), { code: fails });
}

class FaultyHandle implements FileHandle {
  readonly #owner: FaultyFileSystem;
  readonly #path: BytePath;
  readonly #inner: FileHandle;

  constructor(owner: FaultyFileSystem, path: BytePath, inner: FileHandle) {
    this.#owner = owner;
    this.#path = path;
    this.#inner = inner;
  }

  read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number> {
    return this.#owner.call("read", this.#path, (most) =>
      this.#inner.read(into, intoOffset, Math.min(most, length), offset),
    );
  }

  write(bytes: Buffer, fromOffset: number, length: number, offset: number): Promise<number> {
    return this.#owner.call("write", this.#path, (most) =>
      this.#inner.write(bytes, fromOffset, Math.min(most, length), offset),
    );
  }

  writev(parts: readonly Buffer[], offset: number): Promise<number> {
    return this.#owner.call("write", this.#path, (most) => {
      if (most === Number.POSITIVE_INFINITY) return this.#inner.writev(parts, offset);
      const bytes = Buffer.concat(parts);
      return this.#inner.write(bytes, 0, Math.min(most, bytes.length), offset);
    });
  }

  stat(): Promise<FileStat> {
    return this.#owner.call("fstat", this.#path, () => this.#inner.stat());
  }

  truncate(length: number): Promise<void> {
    return this.#owner.call("truncate", this.#path, () => this.#inner.truncate(length));
  }

  datasync(): Promise<void> {
    return this.#owner.call("datasync", this.#path, () => this.#inner.datasync());
  }

  sync(): Promise<void> {
    return this.#owner.call("sync", this.#path, () => this.#inner.sync());
  }

  tryLock(): Promise<boolean> {
    return this.#owner.call("lock", this.#path, async () => (await this.#inner.tryLock?.()) ?? true);
  }

  close(): Promise<void> {
    return this.#owner.close(this.#path, this.#inner);
  }
}
