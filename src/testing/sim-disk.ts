import { ManualClock } from "./manual-clock.ts";
import { SeededRandom } from "./seeded-random.ts";

/**
 * A machine's disk in memory, together with the page cache above it. Every file and every folder exists twice:
 *
 *     now      what all processes see
 *     durable  what a power cut leaves
 *
 *     file     now --sync of the file--> durable     blocks of 4 KiB and the length
 *     folder   now --sync of the folder--> durable   one change of entries after the other, in order
 *
 * Syncing a file does not make its name durable, and syncing a folder does not make what is in its files durable
 * (`man 2 fsync`). `powerCut` keeps, by seed, anything between nothing and everything that was not synced. A failed sync
 * marks the pages clean although they never reached the disk, as Linux does: the next sync succeeds and the bytes are
 * gone at the next power cut.
 *
 * Inode numbers are handed out again as soon as they are free, lowest first, as ext4 does.
 */
export class SimDisk {
  readonly clock: ManualClock;
  readonly random: SeededRandom;
  readonly #birthTimes: boolean;
  readonly #numbers: number[] = [];
  readonly #freed = new Map<number, EntryChange | undefined>();
  readonly #watches = new Set<DiskWatch>();
  #highestInode = 1;
  #pending: EntryChange[] = [];
  #root: Inode;
  /** All file content may take this much; beyond it writes fail with ENOSPC. */
  capacityBytes: number = Number.POSITIVE_INFINITY;
  usedBytes = 0;
  /** Device number of this boot. */
  device = 1n;
  /** Rises at each power cut. */
  boot = 1;
  /** flock(2): who holds which file. */
  readonly locks = new Map<Inode, object>();
  /** The processes whose views are alive. */
  readonly processes = new Set<{ processKill(): void }>();
  /** Chance that a folder notification is lost. */
  lostNotifications = 0;
  /** Longest time until a folder notification arrives. */
  notificationDelayMs = 5;

  constructor(options: { clock?: ManualClock; random?: SeededRandom; birthTimes?: boolean } = {}) {
    this.clock = options.clock ?? new ManualClock();
    this.random = options.random ?? new SeededRandom(1);
    this.#birthTimes = options.birthTimes ?? true;
    this.#root = this.#newInode("folder");
    this.#root.links = 1;
  }

  // ------------------------------------------------------------ names

  /** Follows a path. `followLast` decides about a symbolic link in its last place. */
  lookup(path: string, options: { followLast?: boolean } = {}): Place {
    return this.#walk(path, options.followLast ?? true, 0);
  }

  /** The inode at a path. @throws ENOENT, ENOTDIR, EACCES, ELOOP */
  inodeAt(path: string, options: { followLast?: boolean } = {}): Inode {
    const { inode } = this.lookup(path, options);
    if (inode === undefined) throw errno("ENOENT", "lookup", path);
    return inode;
  }

  /** Makes a new inode under a name that must be free. */
  make(path: string, kind: InodeKind, target?: string): Inode {
    const place = this.lookup(path, { followLast: false });
    if (place.inode !== undefined) throw errno("EEXIST", kind === "folder" ? "mkdir" : "open", path);
    const inode = this.#newInode(kind);
    inode.target = target;
    this.#change([{ folder: place.folder, name: place.name, inode }], inode.takenFrom);
    inode.links = 1;
    return inode;
  }

  link(existing: string, path: string): void {
    const inode = this.inodeAt(existing, { followLast: false });
    const place = this.lookup(path, { followLast: false });
    if (place.inode !== undefined) throw errno("EEXIST", "link", path);
    this.#change([{ folder: place.folder, name: place.name, inode }]);
    inode.links += 1;
  }

  unlink(path: string): void {
    const place = this.lookup(path, { followLast: false });
    if (place.inode === undefined) throw errno("ENOENT", "unlink", path);
    if (place.inode.kind === "folder") {
      if (place.inode.entries.size > 0) throw errno("ENOTEMPTY", "rmdir", path);
    }
    this.#loseName(place.inode, this.#change([{ folder: place.folder, name: place.name, inode: undefined }]));
  }

  rename(from: string, to: string, options: { replace: boolean } = { replace: true }): void {
    const source = this.lookup(from, { followLast: false });
    const target = this.lookup(to, { followLast: false });
    if (source.inode === undefined) throw errno("ENOENT", "rename", from);
    if (target.inode !== undefined && !options.replace) throw errno("EEXIST", "rename", to);
    // rename(2): two names of one inode stay as they are.
    if (target.inode === source.inode) return;
    if (target.inode?.kind === "folder") {
      if (source.inode.kind !== "folder") throw errno("EISDIR", "rename", to);
      if (target.inode.entries.size > 0) throw errno("ENOTEMPTY", "rename", to);
    } else if (target.inode !== undefined && source.inode.kind === "folder") throw errno("ENOTDIR", "rename", to);
    const change = this.#change([
      { folder: source.folder, name: source.name, inode: undefined },
      { folder: target.folder, name: target.name, inode: source.inode },
    ]);
    if (target.inode !== undefined) this.#loseName(target.inode, change);
  }

  /** The absolute path without symbolic links. */
  realpath(path: string): string {
    const place = this.lookup(path);
    if (place.inode === undefined) throw errno("ENOENT", "realpath", path);
    return place.path;
  }

  // ------------------------------------------------------------ content

  /**
   * Bytes written, fewer than asked for on a disk that fills up (unless the writer may use the blocks reserved for root).
   * A gap before `offset` is a hole (zeros).
   */
  write(inode: Inode, bytes: Uint8Array, offset: number, options: { isRoot?: boolean } = {}): number {
    const capacityBytes = options.isRoot ? Number.POSITIVE_INFINITY : this.capacityBytes;
    const room = capacityBytes - this.usedBytes + Math.max(0, inode.size - offset);
    const length = Math.min(bytes.length, room - Math.max(0, offset - inode.size));
    if (length <= 0 && bytes.length > 0) throw errno("ENOSPC", "write");
    const end = offset + length;
    if (end > inode.size) this.#resize(inode, end);
    inode.bytes.set(bytes.subarray(0, length), offset);
    for (let block = Math.floor(offset / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) inode.dirty.add(block);
    this.#modified(inode);
    return length;
  }

  truncate(inode: Inode, length: number): void {
    if (length < inode.size) inode.cutTo = Math.min(inode.cutTo, length);
    else if (length > inode.size && length - inode.size > this.capacityBytes - this.usedBytes)
      throw errno("ENOSPC", "truncate");
    this.#resize(inode, length);
    this.#modified(inode);
  }

  /**
   * First half of a sync: notes what is to be made durable. What is written from now on belongs to the next one. Pages
   * that another sync is writing back are waited for, so they are part of this one too.
   */
  beginSync(inode: Inode): Writeback {
    const blocks = new Map<number, Buffer>();
    let cutTo = inode.cutTo;
    const dirty = new Set(inode.dirty);
    for (const other of inode.writebacks) {
      cutTo = Math.min(cutTo, other.cutTo);
      for (const block of other.blocks.keys()) dirty.add(block);
    }
    for (const block of dirty) {
      const start = block * BLOCK_BYTES;
      if (start < inode.size)
        blocks.set(block, Buffer.from(inode.bytes.subarray(start, Math.min(inode.size, start + BLOCK_BYTES))));
    }
    const writeback: Writeback = { inode, blocks, length: inode.size, cutTo };
    inode.dirty = new Set();
    inode.cutTo = Number.POSITIVE_INFINITY;
    inode.writebacks.add(writeback);
    return writeback;
  }

  /** Second half of a sync. Failed: the pages count as clean and never reached the disk. */
  endSync(writeback: Writeback, isGood: boolean): void {
    const { inode } = writeback;
    if (!inode.writebacks.delete(writeback)) return;
    if (!isGood) {
      inode.cutTo = Math.min(inode.cutTo, writeback.cutTo);
      return;
    }
    inode.durable = resized(inode.durable, Math.min(inode.durable.length, writeback.cutTo), writeback.length);
    for (const [block, bytes] of writeback.blocks) inode.durable.set(bytes, block * BLOCK_BYTES);
  }

  /** The process that asked for a sync is gone before it was carried out: the pages are as dirty as before. */
  abandonSync(writeback: Writeback): void {
    const { inode } = writeback;
    if (!inode.writebacks.delete(writeback)) return;
    for (const block of writeback.blocks.keys()) inode.dirty.add(block);
    inode.cutTo = Math.min(inode.cutTo, writeback.cutTo);
  }

  /** fsync of a file in one step. */
  syncFile(path: string): void {
    this.endSync(this.beginSync(this.inodeAt(path)), true);
  }

  syncFolder(folder: Inode): void {
    for (const change of this.#pending.filter((one) => one.entries.some((entry) => entry.folder === folder)))
      this.#settleChange(change);
  }

  /** sync(1): everything is durable. */
  syncAll(): void {
    for (const change of [...this.#pending]) this.#settleChange(change);
    for (const inode of this.#reachable()) this.endSync(this.beginSync(inode), true);
  }

  // ------------------------------------------------------------ descriptors and watches

  retain(inode: Inode): void {
    inode.openCount += 1;
  }

  release(inode: Inode): void {
    inode.openCount -= 1;
    this.#freeIfUnused(inode);
  }

  watch(folder: Inode, onChange: (name: string) => void): DiskWatch {
    const watch = { folder, onChange };
    this.#watches.add(watch);
    return watch;
  }

  unwatch(watch: DiskWatch): void {
    this.#watches.delete(watch);
  }

  // ------------------------------------------------------------ power

  /**
   * The machine goes down and comes up again. `keep` says what becomes of all that was not synced: `nothing`,
   * `everything`, or, by seed, `anything` in between: a prefix of the changes of names, any of the dirty blocks, and a
   * length between the durable one and the present one.
   */
  powerCut(keep: "nothing" | "everything" | "anything" = "anything"): void {
    const survivors =
      keep === "nothing" ? 0 : keep === "everything" ? this.#pending.length : this.random.int(0, this.#pending.length);
    for (const change of this.#pending.slice(0, survivors)) this.#settleChange(change);
    this.#pending = [];
    this.#watches.clear();
    this.locks.clear();
    this.boot += 1;
    const before = this.#reachable();
    const seen = new Set<Inode>();
    const restore = (inode: Inode) => {
      inode.links += 1;
      if (seen.has(inode)) return;
      seen.add(inode);
      if (inode.kind === "file") this.#restoreContent(inode, keep);
      inode.entries = new Map(inode.durableEntries);
      for (const child of inode.entries.values()) restore(child);
    };
    for (const inode of [...before, ...this.#durablyReachable()]) {
      inode.links = 0;
      inode.openCount = 0;
    }
    restore(this.#root);
    this.usedBytes = 0;
    for (const inode of seen) this.usedBytes += inode.size;
    this.#renumber(seen);
  }

  #restoreContent(inode: Inode, keep: "nothing" | "everything" | "anything"): void {
    let cutTo = inode.cutTo;
    const dirty = new Set(inode.dirty);
    for (const writeback of inode.writebacks) {
      cutTo = Math.min(cutTo, writeback.cutTo);
      for (const block of writeback.blocks.keys()) dirty.add(block);
    }
    const isOld =
      keep === "nothing" || (keep === "anything" && cutTo < inode.durable.length && this.random.chance(0.5));
    if (!isOld) {
      const base = Math.min(inode.durable.length, cutTo);
      const length =
        keep === "everything"
          ? inode.size
          : this.random.pick([
              base,
              inode.size,
              this.random.int(Math.min(base, inode.size), Math.max(base, inode.size)),
            ]);
      const content = resized(inode.durable, base, length);
      for (const block of dirty) {
        const start = block * BLOCK_BYTES;
        if (keep === "anything" && this.random.chance(0.5)) continue;
        const end = Math.min(start + BLOCK_BYTES, length, inode.size);
        if (start < end) content.set(inode.bytes.subarray(start, end), start);
      }
      inode.durable = content;
    }
    inode.bytes = Buffer.from(inode.durable);
    inode.size = inode.durable.length;
    inode.dirty = new Set();
    inode.writebacks.clear();
    inode.cutTo = Number.POSITIVE_INFINITY;
  }

  #renumber(alive: ReadonlySet<Inode>): void {
    const taken = new Set([...alive].map((inode) => inode.number));
    this.#freed.clear();
    this.#numbers.length = 0;
    for (let number = this.#highestInode; number > 1; number -= 1) if (!taken.has(number)) this.#numbers.push(number);
  }

  // ------------------------------------------------------------ inside

  #walk(path: string, followLast: boolean, depth: number): Place {
    if (depth > 40) throw errno("ELOOP", "lookup", path);
    if (!path.startsWith("/")) throw errno("EINVAL", "lookup", path);
    let at: Place = { folder: this.#root, name: "", inode: this.#root, path: "/" };
    const names = path.split("/").filter((name) => name !== "" && name !== ".");
    for (const [index, name] of names.entries()) {
      const folder = at.inode;
      if (folder === undefined) throw errno("ENOENT", "lookup", path);
      if (folder.kind !== "folder") throw errno("ENOTDIR", "lookup", path);
      if (folder.isDenied) throw errno("EACCES", "lookup", path);
      if (name.length > 255) throw errno("ENAMETOOLONG", "lookup", path);
      if (name === "..") {
        at = this.#walk(at.path.slice(0, at.path.lastIndexOf("/")) || "/", true, depth);
        continue;
      }
      const inode = folder.entries.get(name);
      at = { folder, name, inode, path: at.path === "/" ? `/${name}` : `${at.path}/${name}` };
      const isLast = index === names.length - 1;
      if (inode?.kind === "link" && (followLast || !isLast)) {
        const target = inode.target!;
        const base = at.path.slice(0, at.path.lastIndexOf("/"));
        at = this.#walk(target.startsWith("/") ? target : `${base}/${target}`, true, depth + 1);
      }
    }
    return at;
  }

  #newInode(kind: InodeKind): Inode {
    // Lowest number first: the list is kept in descending order and taken from its end.
    let number = this.#numbers.pop();
    if (number === undefined) {
      this.#highestInode += 1;
      number = this.#highestInode;
    }
    const takenFrom = this.#freed.get(number);
    this.#freed.delete(number);
    const nowMs = this.clock.now();
    return {
      number,
      kind,
      links: 0,
      openCount: 0,
      isDenied: false,
      birthNs: this.#birthTimes ? BigInt(Math.round(nowMs)) * 1_000_000n + BigInt(number) : 0n,
      modifiedMs: nowMs,
      target: undefined,
      takenFrom,
      bytes: Buffer.alloc(0),
      size: 0,
      dirty: new Set(),
      cutTo: Number.POSITIVE_INFINITY,
      durable: Buffer.alloc(0),
      writebacks: new Set(),
      entries: new Map(),
      durableEntries: new Map(),
    };
  }

  /** Changes names now; durable later, all entries of one change together. */
  #change(entries: readonly EntryEdit[], after?: EntryChange): EntryChange {
    const change: EntryChange = { entries, after };
    this.#pending.push(change);
    for (const { folder, name, inode } of entries) {
      if (inode === undefined) folder.entries.delete(name);
      else folder.entries.set(name, inode);
      folder.modifiedMs = this.clock.now();
      this.#notify(folder, name);
    }
    return change;
  }

  /** Makes a change durable, and first every earlier one that it builds upon (same folders, or the inode it reuses). */
  #settleChange(change: EntryChange): void {
    const at = this.#pending.indexOf(change);
    if (at < 0) return;
    const folders = new Set(change.entries.map((entry) => entry.folder));
    if (change.after !== undefined) this.#settleChange(change.after);
    for (const earlier of this.#pending.slice(0, this.#pending.indexOf(change)))
      if (earlier.entries.some((entry) => folders.has(entry.folder))) this.#settleChange(earlier);
    this.#pending.splice(this.#pending.indexOf(change), 1);
    for (const { folder, name, inode } of change.entries) {
      if (inode === undefined) folder.durableEntries.delete(name);
      else folder.durableEntries.set(name, inode);
    }
  }

  #loseName(inode: Inode, change: EntryChange): void {
    inode.links -= 1;
    inode.lostBy = change;
    this.#freeIfUnused(inode);
  }

  #freeIfUnused(inode: Inode): void {
    if (inode.links > 0 || inode.openCount > 0) return;
    this.usedBytes -= inode.size;
    this.#freed.set(inode.number, inode.lostBy);
    this.#numbers.push(inode.number);
    this.#numbers.sort((one, other) => other - one);
  }

  #resize(inode: Inode, length: number): void {
    if (length > inode.bytes.length) {
      const grown = Buffer.alloc(Math.max(length, inode.bytes.length * 2, 256));
      inode.bytes.copy(grown, 0, 0, inode.size);
      inode.bytes = grown;
    } else if (length < inode.size) inode.bytes.fill(0, length, inode.size);
    this.usedBytes += length - inode.size;
    inode.size = length;
  }

  #modified(inode: Inode): void {
    inode.modifiedMs = this.clock.now();
    if (this.#watches.size === 0) return;
    for (const watch of this.#watches)
      for (const [name, child] of watch.folder.entries) if (child === inode) this.#notify(watch.folder, name);
  }

  #notify(folder: Inode, name: string): void {
    for (const watch of this.#watches) {
      if (watch.folder !== folder || this.random.chance(this.lostNotifications)) continue;
      const delayMs = this.random.next() * this.notificationDelayMs;
      this.clock.after(delayMs, () => {
        if (this.#watches.has(watch)) watch.onChange(name);
      });
    }
  }

  #reachable(): Set<Inode> {
    return reachable(this.#root, (inode) => inode.entries);
  }

  #durablyReachable(): Set<Inode> {
    return reachable(this.#root, (inode) => inode.durableEntries);
  }
}

/** ext4's usual block. */
export const BLOCK_BYTES = 4096;

export type InodeKind = "file" | "folder" | "link" | "other";

export interface Inode {
  number: number;
  readonly kind: InodeKind;
  links: number;
  openCount: number;
  /** The permission bits forbid it: opening it (a file), using or listing it (a folder) is EACCES. */
  isDenied: boolean;
  readonly birthNs: bigint;
  modifiedMs: number;
  /** Where a symbolic link points to. */
  target: string | undefined;
  /** The change that freed the number this inode got, if it was another's before. */
  readonly takenFrom: EntryChange | undefined;
  lostBy?: EntryChange;
  /** Content now: the first `size` bytes; zeros behind. */
  bytes: Buffer;
  size: number;
  /** Blocks that no sync has looked at since they were written. */
  dirty: Set<number>;
  /** Lowest length it was truncated to since the last good sync. */
  cutTo: number;
  durable: Buffer;
  /** Syncs under way. */
  readonly writebacks: Set<Writeback>;
  entries: Map<string, Inode>;
  readonly durableEntries: Map<string, Inode>;
}

export interface Place {
  readonly folder: Inode;
  readonly name: string;
  /** Undefined: the folder exists, the name in it does not. */
  readonly inode: Inode | undefined;
  /** Without symbolic links (but for the last name, where it was not followed). */
  readonly path: string;
}

export interface Writeback {
  readonly inode: Inode;
  readonly blocks: ReadonlyMap<number, Buffer>;
  readonly length: number;
  readonly cutTo: number;
}

export interface DiskWatch {
  readonly folder: Inode;
  readonly onChange: (name: string) => void;
}

export interface EntryEdit {
  readonly folder: Inode;
  readonly name: string;
  readonly inode: Inode | undefined;
}

export interface EntryChange {
  readonly entries: readonly EntryEdit[];
  readonly after: EntryChange | undefined;
}

/** An error as the platform throws it. */
export function errno(code: string, call: string, path?: string): Error {
  return Object.assign(new Error(`${code}: ${call}${path === undefined ? "" : ` '${path}'`} (simulated)`), {
    code,
    syscall: call,
    ...(path === undefined ? {} : { path }),
  });
}

/** The first `keep` bytes, then zeros up to `length`. */
function resized(bytes: Buffer, keep: number, length: number): Buffer {
  const result = Buffer.alloc(length);
  bytes.copy(result, 0, 0, Math.min(keep, length));
  return result;
}

function reachable(root: Inode, entriesOf: (inode: Inode) => ReadonlyMap<string, Inode>): Set<Inode> {
  const seen = new Set([root]);
  for (const inode of seen) for (const child of entriesOf(inode).values()) seen.add(child);
  return seen;
}
