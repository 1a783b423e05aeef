import { gzipSync } from "node:zlib";
import type { SimDisk } from "./sim-disk.ts";
import type { Inode } from "./sim-inode.ts";

/**
 * The other programs on a simulated machine: those that write logs and those that rotate them. They act at once, between
 * two steps of the code under test, and as root (no permission and no full disk stops them).
 */
export class SimPrograms {
  readonly #disk: SimDisk;

  constructor(disk: SimDisk) {
    this.#disk = disk;
  }

  /** open(O_APPEND | O_CREAT), write, close. */
  append(path: string, bytes: Uint8Array | string): void {
    const inode = this.#orMake(path);
    this.#disk.write(inode, asBytes(bytes), inode.content.size, AS_ROOT);
  }

  /** A program that keeps its file open: it goes on writing wherever the file is moved to, or when it is deleted. */
  openWriter(path: string, options: { append?: boolean } = {}): SimWriter {
    return new SimWriter(this.#disk, this.#orMake(path), options.append ?? true);
  }

  create(path: string, bytes: Uint8Array | string = ""): void {
    this.#disk.write(this.#disk.make(path, "file"), asBytes(bytes), 0, AS_ROOT);
  }

  mkdirs(path: string): void {
    let at = "";
    for (const name of path.split("/").filter((one) => one !== "")) {
      at += `/${name}`;
      if (!this.exists(at)) this.#disk.make(at, "folder");
    }
  }

  /** Makes something that is no file to read: a socket, a FIFO. */
  makeOther(path: string): void {
    this.#disk.make(path, "other");
  }

  symlink(target: string, path: string): void {
    this.#disk.make(path, "link", target);
  }

  link(existing: string, path: string): void {
    this.#disk.link(existing, path);
  }

  rename(from: string, to: string): void {
    this.#disk.rename(from, to);
  }

  unlink(path: string): void {
    this.#disk.unlink(path);
  }

  truncate(path: string, length = 0): void {
    this.#disk.truncate(this.#disk.inodeAt(path), length);
  }

  /** cp: replaces the content where the target exists. */
  copy(from: string, to: string): void {
    const bytes = this.read(from);
    const target = this.#orMake(to);
    this.#disk.truncate(target, 0);
    this.#disk.write(target, bytes, 0, AS_ROOT);
  }

  /** gzip: writes `path.gz`, then removes `path`. */
  gzip(path: string): void {
    this.beginGzip(path).finish();
  }

  /** gzip half-way: `path.gz` holds the first part of its bytes and `path` is still there, until `finish`. */
  beginGzip(path: string, part = 0.5): { finish(): void } {
    const packed = gzipSync(this.read(path));
    const half = Math.floor(packed.length * part);
    this.create(`${path}.gz`, packed.subarray(0, half));
    return {
      finish: () => {
        this.append(`${path}.gz`, packed.subarray(half));
        this.unlink(path);
      },
    };
  }

  /** chmod 000, or back: opening (and, for a folder, anything below it) is EACCES for the code under test. */
  deny(path: string, isDenied = true): void {
    this.#disk.inodeAt(path).isDenied = isDenied;
  }

  isDenied(path: string): boolean {
    return this.#disk.inodeAt(path).isDenied;
  }

  read(path: string): Buffer {
    const inode = this.#disk.inodeAt(path);
    return Buffer.from(inode.content.bytes);
  }

  exists(path: string): boolean {
    try {
      this.#disk.inodeAt(path, { followLast: false });
      return true;
    } catch {
      return false;
    }
  }

  /** Names in a folder, sorted. */
  list(folder: string): string[] {
    return [...this.#disk.inodeAt(folder).entries.keys()].sort();
  }

  #orMake(path: string): Inode {
    return this.#disk.lookup(path).inode ?? this.#disk.make(path, "file");
  }
}

/** An open descriptor of another program. */
export class SimWriter {
  readonly #disk: SimDisk;
  readonly #inode: Inode;
  readonly #isAppending: boolean;
  #offset: number;
  #boot: number;
  #isOpen = true;

  constructor(disk: SimDisk, inode: Inode, isAppending: boolean) {
    this.#disk = disk;
    this.#inode = inode;
    this.#isAppending = isAppending;
    this.#offset = inode.content.size;
    this.#boot = disk.boot;
    disk.retain(inode);
  }

  get inode(): Inode {
    return this.#inode;
  }

  /** Writes at the end of the file, or, without O_APPEND, where this program stands. */
  write(bytes: Uint8Array | string): void {
    if (!this.#isOpen || this.#boot !== this.#disk.boot) throw new Error("this program's descriptor is gone");
    const data = asBytes(bytes);
    this.#disk.write(this.#inode, data, this.#isAppending ? this.#inode.content.size : this.#offset, AS_ROOT);
    this.#offset = this.#isAppending ? this.#inode.content.size : this.#offset + data.length;
  }

  close(): void {
    if (this.#isOpen && this.#boot === this.#disk.boot) this.#disk.release(this.#inode);
    this.#isOpen = false;
  }
}

const AS_ROOT = { isRoot: true };

function asBytes(bytes: Uint8Array | string): Uint8Array {
  return typeof bytes === "string" ? Buffer.from(bytes) : bytes;
}
