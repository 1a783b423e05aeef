import { type BytePath, folderOf } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type {
  DirectoryEntry,
  FileHandle,
  FileStat,
  FileSystem,
  FolderChange,
  FolderWatch,
  OpenMode,
} from "../runtime/file-system.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { Kept, Writeback } from "./sim-content.ts";
import { type DiskWatch, errno, SimDisk } from "./sim-disk.ts";
import type { Inode } from "./sim-inode.ts";

/**
 * One process's view of a SimDisk: the FileSystem that the simulation hands to the code under test.
 *
 *     call --(by seed: some microtasks, or up to `delayMs`)--> effect, at one instant --(again)--> answer
 *
 * Calls under way together take effect in any order. A fault point (`failCall`) makes the N-th call of a kind fail; reads
 * and writes may be short. `processKill` ends the process: calls under way are never answered (their effect may or may
 * not have happened), every later call rejects with SimCrashed, and what was written is still there. `crash` is a power
 * cut: it ends every process on the disk and gives a fresh view of what was durable.
 */
export class SimFileSystem implements FileSystem {
  readonly disk: SimDisk;
  readonly #options: Required<SimFileSystemOptions>;
  readonly #clock: Clock;
  readonly #random: SeededRandom;
  readonly #faults: FaultPoint[] = [];
  readonly #handles = new Set<SimHandle>();
  readonly #watches = new Set<DiskWatch>();
  /** Syncs that were asked for and not carried out yet. */
  readonly #syncs = new Set<Writeback>();
  readonly #calls = new Map<SimCall, number>();
  #isDead = false;

  /** `options` shapes the calls of this process; what belongs to the machine is set on `disk`. */
  constructor(disk: SimDisk = new SimDisk(), options: SimFileSystemOptions = {}) {
    this.disk = disk;
    this.#options = {
      clock: options.clock ?? disk.clock,
      delayChance: options.delayChance ?? 0,
      delayMs: options.delayMs ?? 20,
      shortReads: options.shortReads ?? 0,
      shortWrites: options.shortWrites ?? 0,
      unknownKinds: options.unknownKinds ?? 0,
      maxOpen: options.maxOpen ?? Number.POSITIVE_INFINITY,
      deadCalls: options.deadCalls ?? "reject",
      onStep: options.onStep ?? (() => {}),
    };
    this.#clock = this.#options.clock;
    this.#random = disk.random.fork();
    disk.processes.add(this);
  }

  // ------------------------------------------------------------ what tests do to it

  /** Descriptors that are open. */
  get openCount(): number {
    return this.#handles.size;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  /** When the oldest descriptor of an inode that is still open was opened, by the clock's `monotonic`. */
  openSinceMs(inode: Inode): number | undefined {
    let sinceMs: number | undefined;
    for (const handle of this.#handles)
      if (handle.inode === inode) sinceMs = Math.min(sinceMs ?? handle.openedAtMs, handle.openedAtMs);
    return sinceMs;
  }

  /** How many calls of a kind took effect or failed so far. */
  callsOf(call: SimCall): number {
    return this.#calls.get(call) ?? 0;
  }

  /**
   * Makes calls fail with an errno. `after` calls of this kind (on this path, if one is given) pass first, then `times`
   * (default 1) fail. A failing `datasync` or `sync` loses the dirty pages of its file.
   */
  failCall(call: SimCall, code: string, options: { after?: number; times?: number; path?: BytePath } = {}): void {
    this.#faults.push({ call, code, path: options.path, after: options.after ?? 0, times: options.times ?? 1 });
  }

  /** Takes all fault points away. */
  mend(): void {
    this.#faults.length = 0;
  }

  /** SIGKILL: this process is gone, the page cache stays. */
  processKill(): void {
    if (this.#isDead) return;
    this.#isDead = true;
    this.disk.processes.delete(this);
    for (const writeback of this.#syncs) writeback.content.abandonSync(writeback);
    this.#syncs.clear();
    for (const handle of [...this.#handles]) this.closed(handle);
    for (const watch of this.#watches) this.disk.unwatch(watch);
    this.#watches.clear();
  }

  /** Power cut: what was not synced is lost as `keep` says (see SimDisk); a fresh view for the process after it. */
  crash(keep: Kept = "anything", options: SimFileSystemOptions = {}): SimFileSystem {
    for (const process of [...this.disk.processes]) process.processKill();
    this.disk.powerCut(keep);
    return new SimFileSystem(this.disk, { ...this.#options, ...options });
  }

  // ------------------------------------------------------------ FileSystem

  open(path: BytePath, mode: OpenMode, _permissions = 0o600): Promise<FileHandle> {
    return this.#call("open", path, () => {
      if (this.#handles.size >= this.#options.maxOpen) throw errno("EMFILE", "open", path);
      const inode = mode === "create" ? this.disk.make(path, "file") : this.disk.inodeAt(path);
      if (inode.isDenied) throw errno("EACCES", "open", path);
      if (mode === "write" && inode.kind === "folder") throw errno("EISDIR", "open", path);
      const handle = new SimHandle(this, path, inode, mode !== "read");
      this.disk.retain(inode);
      this.#handles.add(handle);
      return handle;
    });
  }

  stat(path: BytePath): Promise<FileStat> {
    return this.#call("stat", path, () => this.statOf(this.disk.inodeAt(path)));
  }

  lstat(path: BytePath): Promise<FileStat> {
    return this.#call("lstat", path, () => this.statOf(this.disk.inodeAt(path, { followLast: false })));
  }

  statSync(path: BytePath): FileStat | undefined {
    if (this.#isDead) throw new SimCrashed("stat");
    const fault = this.#faultOf("statSync", path);
    if (fault !== undefined) throw errno(fault, "stat", path);
    try {
      return this.statOf(this.disk.inodeAt(path));
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === "ENOENT" || code === "ENOTDIR") return undefined;
      throw error;
    }
  }

  readdir(folder: BytePath): Promise<DirectoryEntry[]> {
    return this.#call("readdir", folder, () => {
      const inode = this.disk.inodeAt(folder);
      if (inode.kind !== "folder") throw errno("ENOTDIR", "scandir", folder);
      if (inode.isDenied) throw errno("EACCES", "scandir", folder);
      const entries = [...inode.entries].map(([name, child]): DirectoryEntry => {
        const kind = this.#random.chance(this.#options.unknownKinds) ? "unknown" : child.kind;
        return { name: name as BytePath, kind };
      });
      // No file system promises an order.
      return this.#random.shuffle(entries);
    });
  }

  realpath(path: BytePath): Promise<BytePath> {
    return this.#call("realpath", path, () => this.disk.realpath(path) as BytePath);
  }

  async mkdirs(folder: BytePath, permissions = 0o700): Promise<void> {
    const parent = folderOf(folder);
    const exists = await this.#call("mkdirs", folder, () => {
      const place = tryLookup(this.disk, folder);
      if (place !== undefined && place.kind !== "folder") throw errno("EEXIST", "mkdir", folder);
      return place !== undefined;
    });
    if (exists) return;
    await this.mkdirs(parent, permissions);
    await this.#call("mkdirs", folder, () => {
      if (tryLookup(this.disk, folder)?.kind !== "folder") this.disk.make(folder, "folder");
    });
    await this.syncFolder(parent);
  }

  rename(from: BytePath, to: BytePath): Promise<void> {
    return this.#call("rename", from, () => this.disk.rename(from, to));
  }

  renameNoReplace(from: BytePath, to: BytePath): Promise<void> {
    return this.#call("rename", from, () => this.disk.rename(from, to, { replace: false }));
  }

  unlink(path: BytePath): Promise<void> {
    return this.#call("unlink", path, () => {
      if (this.disk.inodeAt(path, { followLast: false }).kind === "folder") throw errno("EISDIR", "unlink", path);
      this.disk.unlink(path);
    });
  }

  syncFolder(folder: BytePath): Promise<void> {
    return this.#call("syncFolder", folder, () => {
      const inode = this.disk.inodeAt(folder);
      if (inode.kind !== "folder") throw errno("ENOTDIR", "fsync", folder);
      if (inode.isDenied) throw errno("EACCES", "open", folder);
      this.disk.syncFolder(inode);
    });
  }

  fileSystemId(_device: bigint): string {
    return "sim:/";
  }

  watchFolder(
    folder: BytePath,
    onChange: (name: BytePath | undefined, change: FolderChange) => void,
    onError: (error: Error) => void,
  ): FolderWatch {
    if (this.#isDead) throw new SimCrashed("watch");
    const fault = this.#faultOf("watchFolder", folder);
    if (fault !== undefined) throw errno(fault, "watch", folder);
    let watch: DiskWatch | undefined;
    try {
      const inode = this.disk.inodeAt(folder);
      watch = this.disk.watch(inode, (name, change) =>
        onChange(this.#random.chance(0.1) ? undefined : (name as BytePath), change),
      );
      this.#watches.add(watch);
    } catch (error) {
      this.#clock.after(0, () => onError(error as Error));
    }
    return {
      close: () => {
        if (watch === undefined) return;
        this.disk.unwatch(watch);
        this.#watches.delete(watch);
      },
    };
  }

  // ------------------------------------------------------------ for its handles

  statOf(inode: Inode): FileStat {
    return {
      kind: inode.kind === "link" ? "other" : inode.kind,
      device: this.disk.device,
      inode: BigInt(inode.number),
      size: inode.content.size,
      birthNs: inode.birthNs,
      modifiedMs: inode.modifiedMs,
      links: inode.links,
    };
  }

  /** A length for a read or write that may be short, by seed; at least 1 byte where any are asked for. */
  shortened(length: number, kind: "read" | "write"): number {
    const chance = kind === "read" ? this.#options.shortReads : this.#options.shortWrites;
    return length > 1 && this.#random.chance(chance) ? this.#random.int(1, length - 1) : length;
  }

  /** A call on a descriptor of this process. */
  onHandle<T>(handle: SimHandle, call: SimCall, effect: (fault: string | undefined) => T): Promise<T> {
    return this.#call(call, handle.path, effect, () => {
      if (!this.#handles.has(handle)) throw errno("EBADF", call, handle.path);
    });
  }

  sync(handle: SimHandle, call: "datasync" | "sync"): Promise<void> {
    if (this.#isDead || handle.inode.kind !== "file") return this.onHandle(handle, call, () => undefined);
    // Only what was written before the call is promised to be durable after it.
    const { content } = handle.inode;
    const writeback = content.beginSync();
    this.#syncs.add(writeback);
    return this.onHandle(handle, call, (fault) => {
      this.#syncs.delete(writeback);
      content.endSync(writeback, fault === undefined);
    });
  }

  closed(handle: SimHandle): void {
    if (!this.#handles.delete(handle)) return;
    if (this.disk.locks.get(handle.inode) === handle) this.disk.locks.delete(handle.inode);
    this.disk.release(handle.inode);
  }

  async #call<T>(
    call: SimCall,
    path: BytePath,
    effect: (fault: string | undefined) => T,
    check?: () => void,
  ): Promise<T> {
    if (this.#isDead) return this.#answerOfTheDead(call);
    await this.#while();
    if (this.#isDead) return never();
    this.#options.onStep();
    if (this.#isDead) return never();
    this.#calls.set(call, this.callsOf(call) + 1);
    check?.();
    const fault = this.#faultOf(call, path);
    // A failing sync has an effect of its own (it loses pages), so it sees its fault; all others do nothing.
    if (fault !== undefined && call !== "datasync" && call !== "sync") {
      await this.#while();
      if (this.#isDead) return never();
      throw errno(fault, call, path);
    }
    const result = effect(fault);
    this.#options.onStep();
    if (this.#isDead) return never();
    await this.#while();
    if (this.#isDead) return never();
    if (fault !== undefined) throw errno(fault, call, path);
    return result;
  }

  #answerOfTheDead<T>(call: SimCall): Promise<T> {
    return this.#options.deadCalls === "reject" ? Promise.reject(new SimCrashed(call)) : never();
  }

  async #while(): Promise<void> {
    if (this.#random.chance(this.#options.delayChance)) {
      await this.#clock.sleep(this.#random.next() * this.#options.delayMs);
      return;
    }
    for (let turns = this.#random.int(0, 2); turns > 0; turns -= 1) await undefined;
  }

  #faultOf(call: SimCall, path: BytePath): string | undefined {
    for (const fault of this.#faults) {
      if (fault.call !== call || fault.times === 0 || (fault.path !== undefined && fault.path !== path)) continue;
      if (fault.after > 0) {
        fault.after -= 1;
        continue;
      }
      fault.times -= 1;
      return fault.code;
    }
    return undefined;
  }
}

export interface SimFileSystemOptions {
  /** The process's clock (so that delays die with it); default the disk's. */
  readonly clock?: Clock;
  /** Chance that half a call waits for time to pass, instead of some microtasks; default 0. */
  readonly delayChance?: number;
  /** Longest such wait, milliseconds; default 20. */
  readonly delayMs?: number;
  /** Chance that a read gives less than there is; default 0. */
  readonly shortReads?: number;
  readonly shortWrites?: number;
  /** Chance that `readdir` does not tell the kind of an entry; default 0. */
  readonly unknownKinds?: number;
  /** RLIMIT_NOFILE; default none. */
  readonly maxOpen?: number;
  /** What calls of a dead process do: reject with SimCrashed (default), or never answer. */
  readonly deadCalls?: "reject" | "hang";
  /** Called before and after the effect of every call: a place to end the process in the midst of its work. */
  readonly onStep?: () => void;
}

export type SimCall =
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
  | "watchFolder"
  | "read"
  | "write"
  | "fstat"
  | "truncate"
  | "datasync"
  | "sync"
  | "lock"
  | "close";

/** The process that made this call is dead. */
export class SimCrashed extends Error {
  constructor(call: string) {
    super(`${call}: this process was killed by the simulation`);
    this.name = "SimCrashed";
  }
}

class SimHandle implements FileHandle {
  readonly path: BytePath;
  readonly inode: Inode;
  readonly openedAtMs: number;
  readonly #owner: SimFileSystem;
  readonly #mayWrite: boolean;

  constructor(owner: SimFileSystem, path: BytePath, inode: Inode, mayWrite: boolean) {
    this.#owner = owner;
    this.openedAtMs = owner.disk.clock.monotonic();
    this.path = path;
    this.inode = inode;
    this.#mayWrite = mayWrite;
  }

  read(into: Buffer, intoOffset: number, length: number, offset: number): Promise<number> {
    return this.#owner.onHandle(this, "read", () => {
      if (this.inode.kind === "folder") throw errno("EISDIR", "read", this.path);
      const there = Math.max(0, Math.min(length, this.inode.content.size - offset, into.length - intoOffset));
      const count = this.#owner.shortened(there, "read");
      if (count > 0) this.inode.content.bytes.copy(into, intoOffset, offset, offset + count);
      return count;
    });
  }

  write(bytes: Buffer, fromOffset: number, length: number, offset: number): Promise<number> {
    return this.writev([bytes.subarray(fromOffset, fromOffset + length)], offset);
  }

  writev(parts: readonly Buffer[], offset: number): Promise<number> {
    return this.#owner.onHandle(this, "write", () => {
      if (!this.#mayWrite) throw errno("EBADF", "write", this.path);
      const bytes = parts.length === 1 ? parts[0]! : Buffer.concat(parts);
      const count = this.#owner.shortened(bytes.length, "write");
      return this.#owner.disk.write(this.inode, bytes.subarray(0, count), offset);
    });
  }

  stat(): Promise<FileStat> {
    return this.#owner.onHandle(this, "fstat", () => this.#owner.statOf(this.inode));
  }

  truncate(length: number): Promise<void> {
    return this.#owner.onHandle(this, "truncate", () => {
      if (!this.#mayWrite) throw errno("EINVAL", "ftruncate", this.path);
      this.#owner.disk.truncate(this.inode, length);
    });
  }

  datasync(): Promise<void> {
    return this.#owner.sync(this, "datasync");
  }

  sync(): Promise<void> {
    return this.#owner.sync(this, "sync");
  }

  tryLock(): Promise<boolean> {
    return this.#owner.onHandle(this, "lock", () => {
      const holder = this.#owner.disk.locks.get(this.inode);
      if (holder === undefined) this.#owner.disk.locks.set(this.inode, this);
      return holder === undefined || holder === this;
    });
  }

  close(): Promise<void> {
    return this.#owner.onHandle(this, "close", () => this.#owner.closed(this));
  }
}

interface FaultPoint {
  readonly call: SimCall;
  readonly code: string;
  readonly path: BytePath | undefined;
  after: number;
  times: number;
}

function never<T>(): Promise<T> {
  return new Promise(() => {});
}

function tryLookup(disk: SimDisk, path: string): Inode | undefined {
  try {
    return disk.lookup(path).inode;
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return undefined;
    throw error;
  }
}
