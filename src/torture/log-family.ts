import {
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import type { SeededRandom } from "../testing/seeded-random.ts";
import { Generation } from "./generation.ts";
import type { Ledger } from "./ledger.ts";

export interface FamilyOptions {
  readonly name: string;
  /** What the program writes to. */
  readonly path: string;
  /** Whether it opens with O_APPEND; without, a copytruncate leaves a hole. */
  readonly append: boolean;
  readonly naming: "numbers" | "dates" | "symlink";
  /** Whether rotated files are compressed at all. */
  readonly compress: boolean;
  /** Rotated names that are kept at least. */
  readonly keep: number;
}

/** A rotated file. */
export interface Kept {
  path: string;
  readonly generation: Generation;
  /** How long the agent had it within its reach since it was rotated, milliseconds. */
  reachedMs: number;
}

/** One program's log: it writes numbered lines, and things are done to its file. Every step is told to its generation. */
export class LogFamily {
  readonly name: string;
  readonly path: string;
  readonly options: FamilyOptions;
  readonly random: SeededRandom;
  /** Rotated files, youngest first. */
  readonly kept: Kept[] = [];
  /** A step of a rotation is under way. */
  isBusy = false;
  /** The program stands still: between a copy and a truncation what it writes would never exist for anybody. */
  isPaused = false;
  generation: Generation;
  readonly #ledger: Ledger;
  #descriptor = -1;
  #offset = 0;
  #isLate = false;
  #rest = "";
  #links: string[] = [];
  #targets = 0;
  #linkNumber = 0;

  constructor(options: FamilyOptions, ledger: Ledger, random: SeededRandom) {
    this.options = options;
    this.name = options.name;
    this.path = options.path;
    this.random = random;
    this.#ledger = ledger;
    this.generation = this.#nextGeneration();
    if (options.naming === "symlink") this.#pointAt(this.#nextTarget());
    this.openAnew("the program starts");
  }

  /** The live file itself, not the symlink that leads to it. */
  get livePath(): string {
    return this.options.naming === "symlink" ? this.#targetPath(this.#targets) : this.path;
  }

  /** Writes so many lines at once; now and then the last one in two pieces, the second with the next call. */
  write(lines: number): void {
    if (this.isPaused || this.#descriptor === -1) return;
    let text = this.#takeRest();
    let at = this.#offset + text.length;
    for (let count = 0; count < lines; count += 1) {
      const line = `${this.#ledger.write(this.generation, at, this.#isLate)}\n`;
      at += line.length;
      text += line;
    }
    if (text !== "" && this.random.chance(0.1)) {
      const cut = text.length - this.random.int(1, Math.min(40, text.length - 1));
      this.#rest = text.slice(cut);
      text = text.slice(0, cut);
    }
    this.#put(text);
  }

  /** Writes what is left of a line. */
  finishLine(): void {
    this.#put(this.#takeRest());
  }

  /** Where the next byte goes. */
  get offset(): number {
    return this.#offset;
  }

  get size(): number {
    return fstatSync(this.#descriptor).size;
  }

  tell(what: string): void {
    this.generation.tell(what);
  }

  /** `inode 123, 4567 bytes` of what is at a path. */
  look(path: string): string {
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? "nothing there" : `inode ${stat.ino}, ${stat.size} bytes`;
  }

  /** The program opens its path again, which is created where it is missing. */
  openAnew(why: string): void {
    this.finishLine();
    if (this.#descriptor !== -1) closeSync(this.#descriptor);
    const { append } = this.options;
    // "r+" does not create, "w" would truncate what a rotation has created and somebody has filled.
    if (!append && !existsSync(this.path)) closeSync(openSync(this.path, "a"));
    this.#descriptor = openSync(this.path, append ? "a" : "r+");
    this.#offset = this.size;
    this.#isLate = false;
    this.#named();
    this.tell(`${why}: ${this.livePath} is open, ${this.look(this.livePath)}`);
  }

  /** From now on another content counts: what comes next begins with a header. */
  beginGeneration(): Generation {
    const before = this.generation;
    before.endedAtMs = Date.now();
    this.generation = this.#nextGeneration();
    return before;
  }

  /** Lines to the old file come after its successor is there. */
  writeLate(): void {
    this.#isLate = true;
  }

  /** After a truncation by somebody else: a program with O_APPEND writes at 0, another at its own offset. */
  wasTruncated(): void {
    if (this.options.append) this.#offset = 0;
    this.#named();
  }

  /** After the program truncated its file itself. */
  rewind(): void {
    this.#offset = 0;
    this.#named();
  }

  /** Makes room for the name of the youngest, and gives that name; undefined where it is taken. */
  freeName(): string | undefined {
    if (this.options.naming === "dates") {
      const path = `${this.path}-20261130-${Math.floor(Date.now() / 1000)}`;
      return [path, `${path}.gz`].some((each) => existsSync(each)) ? undefined : path;
    }
    for (let index = this.kept.length - 1; index >= 0; index -= 1) {
      const kept = this.kept[index]!;
      const ending = kept.path.endsWith(".gz") ? ".gz" : "";
      this.renameKept(kept, `${this.path}.${index + 2}${ending}`);
    }
    return `${this.path}.1`;
  }

  renameKept(kept: Kept, path: string): void {
    if (kept.path === path) return;
    renameSync(kept.path, path);
    kept.generation.tell(`${basename(kept.path)} is renamed to ${basename(path)}`);
    kept.generation.names.add(path);
    kept.path = path;
  }

  keep(generation: Generation, path: string): Kept {
    const kept: Kept = { path, generation, reachedMs: 0 };
    generation.names.add(path);
    this.kept.unshift(kept);
    return kept;
  }

  /** Deletes rotated files from the oldest on, as long as `mayGo` says so. */
  deleteOldest(mayGo: (kept: Kept) => boolean): void {
    while (this.kept.length > this.options.keep && mayGo(this.kept.at(-1)!)) {
      const { path, generation } = this.kept.pop()!;
      generation.tell(`${basename(path)} is deleted: ${this.look(path)}`);
      rmSync(path);
    }
  }

  /** A second name, matching the pattern of the live files. */
  link(folder: string): void {
    this.#linkNumber += 1;
    const path = join(folder, `${basename(this.path, ".log")}-link${this.#linkNumber}.log`);
    linkSync(this.livePath, path);
    this.#links.push(path);
    this.generation.names.add(path);
    this.tell(`hard link ${basename(path)}: ${this.look(path)}`);
  }

  get hasLinks(): boolean {
    return this.#links.length > 0;
  }

  /** Second names go, all of them: a copy of what they lead to would be a file of its own. */
  unlink(): void {
    for (const path of this.#links) {
      this.tell(`hard link ${basename(path)} is removed: ${this.look(path)}`);
      rmSync(path);
    }
    this.#links = [];
  }

  /** Points the symlink at a new target; gives the old one. */
  switchTarget(): string {
    const before = this.livePath;
    this.#pointAt(this.#nextTarget());
    return before;
  }

  close(): void {
    if (this.#descriptor !== -1) closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  /** Names of its folder that it left there; for a report. */
  listing(): string {
    const folder = dirname(this.livePath);
    return readdirSync(folder)
      .filter((name) => name.startsWith(basename(this.path, ".log")))
      .map((name) => `${name} (${this.look(join(folder, name))})`)
      .join("\n");
  }

  /** The live content is at its path, and at what that leads to. */
  #named(): void {
    this.generation.names.add(this.path).add(this.livePath);
  }

  #nextGeneration(): Generation {
    const generation = new Generation(this.name, this.#ledger.generationsOf(this.name).length);
    this.#ledger.beginGeneration(generation);
    return generation;
  }

  #targetPath(number: number): string {
    return join(dirname(dirname(this.path)), "real", `${basename(this.path, ".log")}-run${number}.dat`);
  }

  #nextTarget(): string {
    this.#targets += 1;
    const target = this.#targetPath(this.#targets);
    closeSync(openSync(target, "a"));
    return target;
  }

  #pointAt(target: string): void {
    const aside = `${this.path}.aside`;
    symlinkSync(target, aside);
    renameSync(aside, this.path);
  }

  #takeRest(): string {
    const rest = this.#rest;
    this.#rest = "";
    return rest;
  }

  #put(text: string): void {
    if (text === "") return;
    const { append } = this.options;
    writeSync(this.#descriptor, text, append ? null : this.#offset);
    this.#offset += text.length;
  }
}
