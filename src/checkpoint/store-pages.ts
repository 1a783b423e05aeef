import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/**
 * Reads an LMDB file as plain bytes. LMDB maps the file and trusts it: where pages are missing or wrong, the process
 * that opened it dies of SIGBUS, SIGSEGV or SIGABRT. So every page that LMDB could touch is looked at here first.
 *
 * ```
 *  page 0      page 1      page 2 ...                     last page
 *  [hdr|meta]  [hdr|meta]  [hdr| lower-> ... <-upper |nodes] ...      hdr is 24 bytes, little-endian
 *
 *  header   0 page number u64 | 8 transaction u64 | 16 pad u16 | 18 flags u16 | 20 lower u16 | 22 upper u16
 *           (an overflow page has its count of pages, u32, at 20)
 *  meta     0 magic u32 | 4 version u32 | 8 address u64 | 16 map size u64 | 24 free tree | 72 main tree
 *           120 last page u64 | 128 transaction u64
 *  tree     0 pad u32 (free tree: page size) | 4 flags u16 | 6 depth u16 | 8 branch pages u64 | 16 leaf pages u64
 *           24 overflow pages u64 | 32 entries u64 | 40 root u64
 *  node     0 low u16 | 2 high u16 | 4 flags u16 | 6 key size u16 | 8 key, data
 *           in a branch low, high, flags are 48 bits of page number; in a leaf low, high are 32 bits of data size
 * ```
 *
 * The snapshot in force is the meta page with the higher transaction. (lmdb-js keeps a third meta at half of page 0 for
 * its overlapping sync, which this store never turns on.) Pages that no tree reaches are free: their content means
 * nothing, and the file may even end before them.
 */
const HEADER_BYTES = 24;
const MAGIC = 0xbeefc0de;
const FORMAT_VERSION = 2;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
const BRANCH = 0x01;
const LEAF = 0x02;
const OVERFLOW = 0x04;
const META = 0x08;
/** Data of the node lies on overflow pages. */
const BIG_DATA = 0x01;
/** The smallest and largest page that LMDB makes. */
const MIN_PAGE_BYTES = 512;
const MAX_PAGE_BYTES = 65536;
/** More than a store takes before its first transaction is through, the room that store-room.ts makes included. */
const MAX_YOUNG_BYTES = 1024 * 1024;

/** What the pages of a store say. */
export interface PageReport {
  /** Bytes of the file. */
  readonly size: number;
  /** Last committed transaction; 0: none ever was. */
  readonly transaction: bigint;
  /** What is wrong, in plain words; undefined: nothing was found. */
  readonly damage: string | undefined;
}

/** The cheap look: size and meta pages. */
export function inspectMetas(path: string): PageReport {
  return withFile(path, (file) => inspect(file, { walk: false }));
}

/** The full look: every page that a reader or the next writer may touch. About 5 microseconds a page. */
export function inspectPages(path: string): PageReport {
  return withFile(path, (file) => inspect(file, { walk: true }));
}

/** How large a store is, in its last committed transaction. */
export interface StoreShape {
  readonly pageBytes: number;
  /** Number of the last page that was ever used. */
  readonly lastPage: number;
  /** Levels of the deeper tree. */
  readonly depth: number;
  /** Pages of both trees. */
  readonly treePages: number;
  /** Pages of values that have pages of their own. */
  readonly overflowPages: number;
}

/** Of an open store file. @throws Error if its meta pages are damaged. */
export function readShape(descriptor: number): StoreShape {
  const { pageBytes, lastPage, free, main } = checkMetas(storeFile(descriptor));
  return {
    pageBytes,
    lastPage: Number(lastPage),
    depth: Math.max(free.depth, main.depth),
    treePages: Number(free.branchPages + free.leafPages + main.branchPages + main.leafPages),
    overflowPages: Number(free.overflowPages + main.overflowPages),
  };
}

/**
 * True if the file is what a creation that was cut short leaves: no transaction was ever committed. The first
 * transaction is a few pages; its meta page is written only after all else is on disk.
 */
export function isCutShortCreation(path: string): boolean {
  return withFile(path, (file) => {
    const head = file.read(0, Math.min(file.size, HEADER_BYTES + 136)) ?? Buffer.alloc(0);
    const pageBytes = head.length === HEADER_BYTES + 136 && hasMagic(head) ? readMeta(head).pageBytes : 4096;
    if (file.size > MAX_YOUNG_BYTES) return false;
    const bytes = file.read(0, file.size) ?? Buffer.alloc(0);
    for (const start of [0, pageBytes]) {
      const page = bytes.subarray(start, start + pageBytes);
      const isBlank = page.every((byte) => byte === 0);
      if (!isBlank && !(page.length >= HEADER_BYTES + 136 && hasMagic(page) && readMeta(page).transaction === 0n))
        return false;
    }
    return true;
  });
}

interface StoreFile {
  readonly size: number;
  /** Undefined where the file ends too early. */
  read(offset: number, length: number): Buffer | undefined;
}

function withFile<Result>(path: string, look: (file: StoreFile) => Result): Result {
  const descriptor = openSync(path, "r");
  try {
    return look(storeFile(descriptor));
  } finally {
    closeSync(descriptor);
  }
}

function storeFile(descriptor: number): StoreFile {
  return {
    size: fstatSync(descriptor).size,
    read(offset, length) {
      const bytes = Buffer.allocUnsafe(length);
      let filled = 0;
      while (filled < length) {
        const count = readSync(descriptor, bytes, filled, length - filled, offset + filled);
        if (count === 0) return undefined;
        filled += count;
      }
      return bytes;
    },
  };
}

interface Tree {
  readonly depth: number;
  readonly branchPages: bigint;
  readonly leafPages: bigint;
  readonly overflowPages: bigint;
  readonly entries: bigint;
  readonly root: bigint;
}

interface Meta {
  readonly pageBytes: number;
  readonly lastPage: bigint;
  readonly transaction: bigint;
  readonly free: Tree;
  readonly main: Tree;
}

/** Found damage; the message says what. */
class Damage extends Error {}

function inspect(file: StoreFile, { walk }: { walk: boolean }): PageReport {
  let transaction = 0n;
  try {
    const meta = checkMetas(file);
    transaction = meta.transaction;
    if (walk) {
      const seen = new Set<number>();
      walkTree(file, meta, meta.free, seen, "free list");
      walkTree(file, meta, meta.main, seen, "data");
    }
    return { size: file.size, transaction, damage: undefined };
  } catch (error) {
    if (error instanceof Damage) return { size: file.size, transaction, damage: error.message };
    // A disk that cannot give the bytes back: read here it is an error, read through the map it kills the process.
    if (error instanceof Error && "code" in error && error.code === "EIO") {
      return { size: file.size, transaction, damage: `the file cannot be read: ${error.message}` };
    }
    throw error;
  }
}

function hasMagic(page: Buffer): boolean {
  return page.readUInt32LE(HEADER_BYTES) === MAGIC && (page.readUInt16LE(18) & META) !== 0;
}

function checkMetas(file: StoreFile): Meta {
  if (file.size === 0) throw new Damage("the file is empty");
  const first = metaAt(file, 0, 0);
  const { pageBytes } = first;
  if (pageBytes < MIN_PAGE_BYTES || pageBytes > MAX_PAGE_BYTES || (pageBytes & (pageBytes - 1)) !== 0) {
    throw new Damage(`its first page gives a page size of ${pageBytes}`);
  }
  const second = metaAt(file, pageBytes, 1);
  if (second.pageBytes !== pageBytes) throw new Damage("its two meta pages disagree");
  return first.transaction >= second.transaction ? first : second;
}

function metaAt(file: StoreFile, offset: number, index: number): Meta {
  const page = file.read(offset, HEADER_BYTES + 136);
  if (page === undefined) throw new Damage(`the file ends after ${file.size} bytes, inside its meta pages`);
  if (
    !hasMagic(page) ||
    page.readUInt16LE(HEADER_BYTES + 4) !== FORMAT_VERSION ||
    page.readBigUInt64LE(0) !== BigInt(index)
  ) {
    throw new Damage(`page ${index} is no meta page`);
  }
  return readMeta(page);
}

function readMeta(page: Buffer): Meta {
  const at = HEADER_BYTES;
  return {
    pageBytes: page.readUInt32LE(at + 24),
    free: readTree(page, at + 24),
    main: readTree(page, at + 72),
    lastPage: page.readBigUInt64LE(at + 120),
    transaction: page.readBigUInt64LE(at + 128),
  };
}

function readTree(page: Buffer, at: number): Tree {
  return {
    depth: page.readUInt16LE(at + 6),
    branchPages: page.readBigUInt64LE(at + 8),
    leafPages: page.readBigUInt64LE(at + 16),
    overflowPages: page.readBigUInt64LE(at + 24),
    entries: page.readBigUInt64LE(at + 32),
    root: page.readBigUInt64LE(at + 40),
  };
}

/** Looks at every page of one tree. */
function walkTree(file: StoreFile, meta: Meta, tree: Tree, seen: Set<number>, what: string): void {
  if (tree.root === NO_PAGE) {
    if (tree.entries !== 0n) throw new Damage(`the ${what} tree has entries but no page`);
    return;
  }
  const counted = { branchPages: 0n, leafPages: 0n, overflowPages: 0n, entries: 0n };
  const waiting: { number: bigint; level: number }[] = [{ number: tree.root, level: 1 }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { number, level } = next;
    const page = pageAt(file, meta, number, 1n, seen);
    const isLeaf = level === tree.depth;
    if (page.readUInt16LE(18) !== (isLeaf ? LEAF : BRANCH)) {
      throw new Damage(`page ${number} is no ${isLeaf ? "leaf" : "branch"} of the ${what} tree`);
    }
    if (isLeaf) counted.leafPages += 1n;
    else counted.branchPages += 1n;
    for (const node of nodesOf(page, number)) {
      const low = page.readUInt32LE(node);
      const flags = page.readUInt16LE(node + 4);
      const data = node + 8 + page.readUInt16LE(node + 6);
      if (!isLeaf) {
        if (data > page.length) throw new Damage(`page ${number} has a key past its end`);
        waiting.push({ number: BigInt(low) + BigInt(flags) * 0x1_0000_0000n, level: level + 1 });
        continue;
      }
      counted.entries += 1n;
      if ((flags & ~BIG_DATA) !== 0) throw new Damage(`page ${number} holds a node with flags ${flags}`);
      const isBig = flags === BIG_DATA;
      if (data + (isBig ? 24 : low) > page.length) throw new Damage(`page ${number} has a value past its end`);
      if (isBig) {
        // The node names its first page, a transaction, and how many pages there are: a value that shrank keeps them all.
        const first = page.readBigUInt64LE(data);
        const pages = page.readBigUInt64LE(data + 16);
        const big = pageAt(file, meta, first, pages, seen);
        if (big.readUInt16LE(18) !== OVERFLOW || BigInt(big.readUInt32LE(20)) !== pages) {
          throw new Damage(`page ${first} is no overflow page of ${pages} pages`);
        }
        if (BigInt(HEADER_BYTES + low) > pages * BigInt(meta.pageBytes)) {
          throw new Damage(`page ${number} holds a value that is longer than its ${pages} pages`);
        }
        counted.overflowPages += pages;
      }
    }
  }
  for (const [name, count] of Object.entries(counted) as [keyof typeof counted, bigint][]) {
    if (count !== tree[name]) throw new Damage(`the ${what} tree has ${count} ${name}, its root says ${tree[name]}`);
  }
}

/** The bytes of the first of `count` pages, all of which must be there, unseen, and it who it says it is. */
function pageAt(file: StoreFile, meta: Meta, number: bigint, count: bigint, seen: Set<number>): Buffer {
  const last = number + count - 1n;
  if (number < 2n || count < 1n || last > meta.lastPage) throw new Damage(`page ${number} is out of bounds`);
  if ((last + 1n) * BigInt(meta.pageBytes) > BigInt(file.size)) {
    throw new Damage(`the file ends after ${file.size} bytes, before page ${last} of ${meta.pageBytes} bytes`);
  }
  const first = Number(number);
  for (let each = first; each < first + Number(count); each += 1) {
    if (seen.has(each)) throw new Damage(`page ${each} is used twice`);
    seen.add(each);
  }
  const page = file.read(first * meta.pageBytes, meta.pageBytes);
  if (page === undefined) throw new Damage(`the file ends before page ${number}`);
  if (page.readBigUInt64LE(0) !== number) throw new Damage(`page ${number} says it is page ${page.readBigUInt64LE(0)}`);
  if (page.readBigUInt64LE(8) > meta.transaction) throw new Damage(`page ${number} is of a later transaction`);
  return page;
}

/** Where each node of a tree page starts. */
function* nodesOf(page: Buffer, number: bigint): Generator<number, void, undefined> {
  const lower = page.readUInt16LE(20);
  const upper = page.readUInt16LE(22);
  const room = page.length - HEADER_BYTES;
  if (lower % 2 !== 0 || lower > upper || upper > room || lower === 0) {
    throw new Damage(`page ${number} has impossible bounds`);
  }
  for (let at = 0; at < lower; at += 2) {
    const node = page.readUInt16LE(HEADER_BYTES + at);
    if (node < upper || node + 8 > room) throw new Damage(`page ${number} has a node out of bounds`);
    yield HEADER_BYTES + node;
  }
}
