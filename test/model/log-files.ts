import { gunzipSync, gzipSync, constants as zlibConstants } from "node:zlib";
import type { FileEntry } from "../../src/checkpoint/checkpoint-store.ts";
import { contentMark, GUARD_BYTES } from "../../src/files/fingerprint.ts";
import type { Inode } from "../../src/testing/sim-inode.ts";
import type { Ledger, Line } from "./ledger.ts";
import { ELSEWHERE, type ModelMachine } from "./machine.ts";

/** One file with log lines, by whatever names. */
export interface LogFile {
  readonly inode: Inode;
  readonly family: string;
  /** Of the content; a truncation begins another. */
  generation: number;
  /** What can be read out of it. */
  lines: Line[];
  /** Names that it has, and all that it ever had. */
  readonly names: Set<string>;
  readonly allNames: Set<string>;
  /** Of its names, those that the agent is not asked to look under. */
  readonly foreignNames: Set<string>;
  readonly isArchive: boolean;
}

/** A line as its writer knows it. */
type NewLine = Pick<Line, "text" | "isNumbered" | "isHalved" | "order" | "start" | "end" | "isLate">;

/** What is written where, on the disk and in the ledger; what loses its last name is excused there. */
export class LogFiles {
  readonly ledger: Ledger;
  readonly #machine: ModelMachine;
  readonly #files = new Set<LogFile>();
  /** Without a name, and held open by the agent: owed for as long as it lives. */
  readonly #held = new Set<LogFile>();
  /** Gone after the agent must have read it: owed too, unless it is killed before it has arrived. */
  readonly #read = new Set<Line>();

  constructor(machine: ModelMachine, ledger: Ledger) {
    this.#machine = machine;
    this.ledger = ledger;
    machine.onEnd = (isGraceful) => this.#dropHeld(isGraceful);
  }

  /** The file at a path, which is there. */
  at(path: string): LogFile {
    for (const file of this.#files) if (file.names.has(path)) return file;
    throw new Error(`the model knows of no file at ${path}`);
  }

  has(path: string): boolean {
    return this.#machine.programs.exists(path);
  }

  create(path: string, family: string, options: { generation?: number; isArchive?: boolean } = {}): LogFile {
    const { programs, disk } = this.#machine;
    programs.create(path);
    const file: LogFile = {
      inode: disk.inodeAt(path),
      family,
      generation: options.generation ?? this.ledger.newGeneration(),
      lines: [],
      names: new Set([path]),
      allNames: new Set([path]),
      foreignNames: new Set(isElsewhere(path) ? [path] : []),
      isArchive: options.isArchive ?? false,
    };
    this.#files.add(file);
    return file;
  }

  /** Notes a line whose last byte was written just now. */
  wrote(file: LogFile, line: NewLine): void {
    const { family, generation } = file;
    const writtenAtMs = this.#machine.clock.monotonic();
    const noted: Line = {
      ...line,
      family,
      generation,
      isExcusable: false,
      isKnown: false,
      isDoubtful: false,
      writtenAtMs,
    };
    this.ledger.wrote(noted);
    file.lines.push(noted);
    this.#excuse([noted]);
  }

  rename(from: string, to: string): void {
    const file = this.at(from);
    const replaced = this.has(to) ? this.at(to) : undefined;
    if (replaced === file) return;
    this.#machine.programs.rename(from, to);
    file.names.delete(from);
    if (file.foreignNames.delete(from) && !isElsewhere(from)) file.foreignNames.add(to);
    if (isElsewhere(to)) file.foreignNames.add(to);
    file.names.add(to);
    file.allNames.add(to);
    if (replaced === undefined) return;
    replaced.names.delete(to);
    replaced.foreignNames.delete(to);
    this.#lostName(replaced);
  }

  async unlink(path: string): Promise<void> {
    const file = this.at(path);
    await this.#witness(file);
    this.#machine.programs.unlink(path);
    file.names.delete(path);
    file.foreignNames.delete(path);
    this.#lostName(file);
  }

  link(file: LogFile, path: string): void {
    this.#machine.programs.link([...file.names][0]!, path);
    file.names.add(path);
    file.allNames.add(path);
    if (isElsewhere(path)) file.foreignNames.add(path);
  }

  /** A copy under another name, with the same lines. */
  copy(from: string, to: string): LogFile {
    const file = this.at(from);
    const { programs } = this.#machine;
    const copy = this.create(to, file.family, { generation: file.generation });
    programs.append(to, programs.read(from));
    copy.lines = [...file.lines];
    if (file.foreignNames.has(from)) copy.foreignNames.add(to);
    return copy;
  }

  async truncate(path: string): Promise<void> {
    const file = this.at(path);
    await this.#witness(file);
    const before = file.lines;
    this.#machine.programs.truncate(path);
    file.lines = [];
    file.generation = this.ledger.newGeneration();
    this.#excuse(before);
  }

  /** Saved by an editor: the same content under a new inode, which takes the path over. */
  async save(path: string): Promise<LogFile> {
    const file = this.at(path);
    const aside = `${ELSEWHERE}/saved`;
    const saved = this.copy(path, aside);
    await this.#witness(file);
    this.rename(aside, path);
    return saved;
  }

  /** Half of `path.gz` is written; the rest, and the end of `path`, come with the returned function. */
  beginGzip(path: string, part: number): () => LogFile {
    const file = this.at(path);
    const { programs } = this.#machine;
    const packed = gzipSync(programs.read(path));
    const half = Math.floor(packed.length * part);
    const archive = this.create(`${path}.gz`, file.family, { generation: file.generation, isArchive: true });
    programs.append(`${path}.gz`, packed.subarray(0, half));
    return () => {
      programs.append(`${path}.gz`, packed.subarray(half));
      archive.lines = [...file.lines];
      if (file.foreignNames.delete(path)) archive.foreignNames.add(`${path}.gz`);
      programs.unlink(path);
      file.names.delete(path);
      this.#lostName(file);
      return archive;
    };
  }

  /** What a `gzip >>` adds to an archive. */
  appendMember(path: string, text: string): { readonly start: number } {
    const start = this.content(this.at(path)).length;
    this.#machine.programs.append(path, gzipSync(text));
    return { start };
  }

  /** An archive is cut short; `keep` of its bytes are left. */
  async cut(path: string, keep: number): Promise<void> {
    const file = this.at(path);
    await this.#witness(file);
    this.#machine.programs.truncate(path, keep);
    const { length } = this.content(file);
    const before = file.lines;
    file.lines = before.filter((line) => line.end <= length);
    const half = before.find((line) => line.start < length && line.end > length);
    this.ledger.cut(file.family, half === undefined ? "" : half.text.slice(0, length - half.start));
    for (const line of before) line.isDoubtful = true;
    this.#excuse(before);
  }

  /** What a file holds, unpacked, as far as that goes. */
  content({ inode, isArchive }: LogFile): Buffer {
    const bytes = Buffer.from(inode.content.bytes);
    if (!isArchive) return bytes;
    if (bytes.length === 0) return bytes;
    return gunzipSync(bytes, { finishFlush: zlibConstants.Z_SYNC_FLUSH });
  }

  /** Whether the store holds an entry that proves to be of this very content. */
  async isKnown(file: LogFile): Promise<boolean> {
    return (await this.#knownBytes(file)) !== undefined;
  }

  /** Whether the store holds an entry of a file that was seen under this path. */
  async knowsPath(path: string): Promise<boolean> {
    const { files } = await this.#machine.stored();
    return files.some(({ value }) => value.names.includes(path));
  }

  /** The content is about to go: what the store knows of it, the next process can tell. */
  async #witness(file: LogFile): Promise<void> {
    const bytes = await this.#knownBytes(file);
    if (bytes !== undefined) for (const line of file.lines) if (line.start < bytes) line.isKnown = true;
  }

  async #knownBytes(file: LogFile): Promise<number | undefined> {
    const { files } = await this.#machine.stored();
    let content: Buffer | undefined;
    let known: number | undefined;
    for (const { value } of files) {
      if (value.tombstoneSinceMs !== undefined || !value.names.some((name) => file.allNames.has(name))) continue;
      content ??= this.content(file);
      // What all generations have in common proves nothing.
      const ownFrom = file.lines.find(({ isNumbered }) => isNumbered)?.start ?? 0;
      if (value.guardEnd > ownFrom && isOf(content, value)) known = Math.max(known ?? 0, value.lastSize);
    }
    return known;
  }

  #lostName(file: LogFile): void {
    if (this.#hasNames(file)) return;
    if (this.#machine.holds(file.inode)) this.#held.add(file);
    else this.#excuse(file.lines);
  }

  #dropHeld(isGraceful: boolean): void {
    const dropped = [...this.#held].flatMap(({ lines }) => lines);
    this.#held.clear();
    this.#excuse([...dropped, ...(isGraceful ? [] : this.#read)]);
    this.#read.clear();
  }

  /** Excuses those of these lines that no file holds any more. */
  #excuse(lines: readonly Line[]): void {
    const alive = new Set<Line>();
    for (const file of this.#files)
      if (this.#hasNames(file) || this.#held.has(file)) for (const line of file.lines) alive.add(line);
    for (const line of lines) {
      if (alive.has(line)) continue;
      if (this.#machine.hadTimeSince(line.writtenAtMs)) this.#read.add(line);
      else line.isExcusable = true;
    }
  }

  /** Names that nobody reads under do not count. */
  #hasNames({ names, foreignNames }: LogFile): boolean {
    return names.size > foreignNames.size;
  }

  /** Nobody looks for it under this name (it left its path before there was a checkpoint). */
  disown(file: LogFile, path: string): void {
    file.foreignNames.add(path);
    this.#excuse(file.lines);
    // What is read of it under another name is a file beside the family.
    for (const line of file.lines) line.isLate = true;
  }
}

function isElsewhere(path: string): boolean {
  return path.startsWith(`${ELSEWHERE}/`);
}

function isOf(content: Buffer, { fingerprint, guard, guardEnd }: FileEntry): boolean {
  if (fingerprint.length === 0 || content.length < fingerprint.length) return false;
  if (contentMark(content.subarray(0, fingerprint.length)).hash !== fingerprint.hash) return false;
  // Headers are equal: only what was read proves it.
  if (guard.length === 0 || guard.length > GUARD_BYTES) return false;
  return contentMark(content.subarray(guardEnd - guard.length, guardEnd)).hash === guard.hash;
}
