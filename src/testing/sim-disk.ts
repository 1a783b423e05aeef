import type { FolderChange } from "../runtime/file-system.ts";
import { ManualClock } from "./manual-clock.ts";
import { SeededRandom } from "./seeded-random.ts";
import { type Kept, SimContent } from "./sim-content.ts";
import { EntryChanges } from "./sim-entry-changes.ts";
import type { EntryChange, EntryEdit, Inode, InodeKind } from "./sim-inode.ts";
import { InodeNumbers } from "./sim-inode-numbers.ts";

/**
 * A machine's disk in memory, together with the page cache above it. Every file and every folder exists twice:
 *
 *     now      what all processes see
 *     durable  what a power cut leaves
 *
 *     file     now --sync of the file--> durable     blocks of 4 KiB and the length (SimContent)
 *     folder   now --sync of the folder--> durable   one change of entries after the other, in order (EntryChanges)
 *
 * Syncing a file does not make its name durable, and syncing a folder does not make what is in its files durable
 * (`man 2 fsync`). `powerCut` keeps, by seed, anything between nothing and everything that was not synced. A failed sync
 * marks the pages clean although they never reached the disk, as Linux does: the next sync succeeds and the bytes are
 * gone at the next power cut.
 */
export class SimDisk {
  readonly clock: ManualClock;
  readonly random: SeededRandom;
  readonly #birthTimes: boolean;
  readonly #numbers = new InodeNumbers();
  readonly #changes = new EntryChanges();
  readonly #watches = new Set<DiskWatch>();
  readonly #root: Inode;
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

  constructor(
    options: { clock?: ManualClock; random?: SeededRandom; birthTimes?: boolean; lastFreedFirst?: boolean } = {},
  ) {
    this.clock = options.clock ?? new ManualClock();
    this.random = options.random ?? new SeededRandom(1);
    this.#birthTimes = options.birthTimes ?? true;
    this.#numbers.isLastFreedFirst = options.lastFreedFirst ?? false;
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
   */
  write(inode: Inode, bytes: Uint8Array, offset: number, options: { isRoot?: boolean } = {}): number {
    const capacityBytes = options.isRoot ? Number.POSITIVE_INFINITY : this.capacityBytes;
    const { content } = inode;
    const room = capacityBytes - this.usedBytes + Math.max(0, content.size - offset);
    const length = Math.min(bytes.length, room - Math.max(0, offset - content.size));
    if (length <= 0 && bytes.length > 0) throw errno("ENOSPC", "write");
    this.#modify(inode, () => content.write(bytes.subarray(0, length), offset));
    return length;
  }

  truncate(inode: Inode, length: number): void {
    const { content } = inode;
    if (length > content.size && length - content.size > this.capacityBytes - this.usedBytes)
      throw errno("ENOSPC", "truncate");
    this.#modify(inode, () => content.truncate(length));
  }

  /** fsync of a file in one step. */
  syncFile(path: string): void {
    this.inodeAt(path).content.sync();
  }

  syncFolder(folder: Inode): void {
    this.#changes.syncFolder(folder);
  }

  /** sync(1): everything is durable. */
  syncAll(): void {
    this.#changes.syncAll();
    for (const inode of this.#reachable()) inode.content.sync();
  }

  // ------------------------------------------------------------ descriptors and watches

  retain(inode: Inode): void {
    inode.openCount += 1;
  }

  release(inode: Inode): void {
    inode.openCount -= 1;
    this.#freeIfUnused(inode);
  }

  watch(folder: Inode, onChange: (name: string, change: FolderChange) => void): DiskWatch {
    const watch = { folder, onChange };
    this.#watches.add(watch);
    return watch;
  }

  unwatch(watch: DiskWatch): void {
    this.#watches.delete(watch);
  }

  // ------------------------------------------------------------ power

  /**
   * The machine goes down and comes up again. `keep` says what becomes of all that was not synced: `anything` keeps a
   * prefix of the changes of names and, of each file, any of the dirty blocks and a length between the durable one and
   * the present one.
   */
  powerCut(keep: Kept = "anything"): void {
    this.#changes.powerCut(keep, this.random);
    this.#watches.clear();
    this.locks.clear();
    this.boot += 1;
    const before = this.#reachable();
    const seen = new Set<Inode>();
    const restore = (inode: Inode) => {
      inode.links += 1;
      if (seen.has(inode)) return;
      seen.add(inode);
      if (inode.kind === "file") inode.content.powerCut(keep, this.random);
      inode.entries = new Map(inode.durableEntries);
      for (const child of inode.entries.values()) restore(child);
    };
    for (const inode of [...before, ...this.#durablyReachable()]) {
      inode.links = 0;
      inode.openCount = 0;
    }
    restore(this.#root);
    this.usedBytes = 0;
    for (const inode of seen) this.usedBytes += inode.content.size;
    this.#numbers.keepOnly(seen);
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
    const { number, takenFrom } = this.#numbers.take();
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
      content: new SimContent(),
      entries: new Map(),
      durableEntries: new Map(),
    };
  }

  #change(entries: readonly EntryEdit[], after?: EntryChange): EntryChange {
    const change = this.#changes.make(entries, after);
    for (const { folder, name } of entries) {
      folder.modifiedMs = this.clock.now();
      this.#notify(folder, name, "entry");
    }
    return change;
  }

  #loseName(inode: Inode, change: EntryChange): void {
    inode.links -= 1;
    inode.lostBy = change;
    this.#freeIfUnused(inode);
  }

  #freeIfUnused(inode: Inode): void {
    if (inode.links > 0 || inode.openCount > 0) return;
    this.usedBytes -= inode.content.size;
    this.#numbers.free(inode);
  }

  #modify(inode: Inode, change: () => void): void {
    const before = inode.content.size;
    change();
    this.usedBytes += inode.content.size - before;
    inode.modifiedMs = this.clock.now();
    if (this.#watches.size === 0) return;
    for (const watch of this.#watches)
      for (const [name, child] of watch.folder.entries)
        if (child === inode) this.#notify(watch.folder, name, "content");
  }

  #notify(folder: Inode, name: string, change: FolderChange): void {
    for (const watch of this.#watches) {
      if (watch.folder !== folder || this.random.chance(this.lostNotifications)) continue;
      const delayMs = this.random.next() * this.notificationDelayMs;
      this.clock.after(delayMs, () => {
        if (this.#watches.has(watch)) watch.onChange(name, change);
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

export interface Place {
  readonly folder: Inode;
  readonly name: string;
  /** Undefined: the folder exists, the name in it does not. */
  readonly inode: Inode | undefined;
  /** Without symbolic links (but for the last name, where it was not followed). */
  readonly path: string;
}

export interface DiskWatch {
  readonly folder: Inode;
  readonly onChange: (name: string, change: FolderChange) => void;
}

/** An error as the platform throws it. */
export function errno(code: string, call: string, path?: string): Error {
  return Object.assign(new Error(`${code}: ${call}${path === undefined ? "" : ` '${path}'`} (simulated)`), {
    code,
    syscall: call,
    ...(path === undefined ? {} : { path }),
  });
}

function reachable(root: Inode, entriesOf: (inode: Inode) => ReadonlyMap<string, Inode>): Set<Inode> {
  const seen = new Set([root]);
  for (const inode of seen) for (const child of entriesOf(inode).values()) seen.add(child);
  return seen;
}
