import { posix } from "node:path";
import { errnoOf, toError } from "../../errors.ts";
import { type BytePath, joinPath, pathToText } from "../../runtime/byte-path.ts";
import type { FileHandle, FileSystem } from "../../runtime/file-system.ts";
import type { Logger } from "../../telemetry/log.ts";
import { type Directive, parseLogrotate } from "./logrotate-language.ts";
import { namePattern } from "./logrotate-pattern.ts";

/** Where, and under what names, logrotate keeps the old generations of the files that some patterns match. */
export interface LogrotateRule {
  readonly patterns: readonly string[];
  readonly naming: LogrotateNaming;
}

export interface LogrotateNaming {
  /** As it is written: absolute, or relative to the folder of the log; and where that is written. */
  readonly olddir?: { readonly folder: string; readonly path: BytePath; readonly line: number };
  /** With dates instead of numbers: their format (`-%Y%m%d`). */
  readonly dateFormat?: string;
  /** Stays behind the date or number, if the log has it. */
  readonly extension?: string;
  /** Comes behind the date or number; the log may have it already. */
  readonly addExtension?: string;
  readonly compressExtension: string;
  /** The program's name without its folder. */
  readonly compressCommand: string;
}

interface Settings {
  olddir?: LogrotateNaming["olddir"];
  hasDates: boolean;
  isHourly: boolean;
  dateFormat?: string;
  extension?: string;
  addExtension?: string;
  compressExtension: string;
  compressCommand: string;
}

/** What logrotate knows by itself of programs that compress. */
const COMMAND_EXTENSIONS: { readonly [command: string]: string } = {
  gzip: ".gz",
  bzip2: ".bz2",
  xz: ".xz",
  zstd: ".zst",
  compress: ".Z",
  zip: ".zip",
};

/** Endings of files in an included folder that are not read. */
const TABOO_ENDINGS = (
  ",v .cfsaved .disabled .dpkg-bak .dpkg-del .dpkg-dist .dpkg-new .dpkg-old .rhn-cfg-tmp-* .rpmnew .rpmorig .rpmsave " +
  ".swp .ucf-dist .ucf-new .ucf-old ~"
).split(" ");

// A distribution's whole configuration has a few KiB in some fifty files; nesting is bounded as logrotate bounds it.
const MAX_FILE_BYTES = 256 * 1024;
const MAX_FILES = 1000;
const MAX_RULES = 10_000;
const MAX_NESTING = 16;

export interface LogrotateFiles {
  readonly fileSystem: FileSystem;
  /** Of this process: logrotate's files are another user's to write, and only root's and our own are believed. */
  readonly userId: number;
  readonly log: Logger;
}

/** The rules of a configuration, in the order in which logrotate sees them: of several that match, the first counts. */
export class LogrotateConfig {
  readonly rules: readonly LogrotateRule[];
  readonly #seen: ReadonlyMap<BytePath, string>;

  private constructor(rules: readonly LogrotateRule[], seen: ReadonlyMap<BytePath, string>) {
    this.rules = rules;
    this.#seen = seen;
  }

  /** Of the first of `paths` that exists. Never rejects: what cannot be read, or not believed, says nothing. */
  static async read(paths: readonly BytePath[], files: LogrotateFiles): Promise<LogrotateConfig> {
    const reader = new Reader(files);
    for (const path of paths) if (await reader.read(path, 0)) break;
    return new LogrotateConfig(reader.rules, reader.seen);
  }

  /** Whether all that was read, or looked for, is still as it was. */
  isCurrent(fileSystem: FileSystem): boolean {
    for (const [path, stamp] of this.#seen) if (stampOf(fileSystem, path) !== stamp) return false;
    return true;
  }
}

class Reader {
  readonly rules: LogrotateRule[] = [];
  readonly seen = new Map<BytePath, string>();
  readonly #files: LogrotateFiles;
  #reads = 0;
  /** Names that are not read in a folder, by the directive that says so. */
  readonly #taboo: { [directive in "tabooext" | "taboopat"]: readonly ((name: string) => boolean)[] } = {
    tabooext: TABOO_ENDINGS.map((ending) => namePattern(ending, true)),
    taboopat: [],
  };
  /** What is set outside of blocks counts for all that comes behind it, in other files too. */
  readonly #settings: Settings = {
    hasDates: false,
    isHourly: false,
    compressExtension: ".gz",
    compressCommand: "gzip",
  };

  constructor(files: LogrotateFiles) {
    this.#files = files;
  }

  /**
   * A file with all that it includes; a folder too, where one may be.
   *
   * @returns whether something is there
   */
  async read(path: BytePath, nesting: number, mayBeFolder = false): Promise<boolean> {
    // Taken before the reading: what changes meanwhile is read again.
    if (!this.seen.has(path)) this.seen.set(path, stampOf(this.#files.fileSystem, path));
    this.#reads += 1;
    if (this.#reads > MAX_FILES) return false;
    let text: string;
    try {
      text = await this.#contentOf(path);
    } catch (error) {
      const code = errnoOf(error);
      if (code === "EISDIR" && mayBeFolder) return this.#readFolder(path, nesting);
      if (code === "ENOENT" || code === "ENOTDIR") return false;
      this.#ignore(path, toError(error).message);
      return true;
    }
    for (const statement of parseLogrotate(text)) {
      if (statement.kind === "block") {
        const settings = { ...this.#settings };
        for (const directive of statement.directives) apply(directive, settings, path);
        if (this.rules.length < MAX_RULES)
          this.rules.push({ patterns: statement.patterns, naming: namingOf(settings) });
      } else if (statement.name === "include") {
        await this.#include(statement.value, nesting + 1);
      } else if (statement.name === "tabooext" || statement.name === "taboopat") {
        this.#setTaboo(statement.name, statement.value);
      } else {
        apply(statement, this.#settings, path);
      }
    }
    return true;
  }

  async #include(path: string, nesting: number): Promise<void> {
    // One relative to a home or to where logrotate happens to run says nothing to us.
    if (!path.startsWith("/") || nesting > MAX_NESTING) return;
    await this.read(posix.normalize(path) as BytePath, nesting, true);
  }

  async #readFolder(folder: BytePath, nesting: number): Promise<boolean> {
    try {
      const entries = await this.#files.fileSystem.readdir(folder);
      const names = entries.filter(({ kind }) => kind !== "folder" && kind !== "other").map(({ name }) => name);
      for (const name of names.sort((a, b) => (a < b ? -1 : 1))) {
        if (!this.#isTaboo(name)) await this.read(joinPath(folder, name), nesting);
      }
    } catch (error) {
      this.#ignore(folder, toError(error).message);
    }
    return true;
  }

  async #contentOf(path: BytePath): Promise<string> {
    const handle = await this.#files.fileSystem.open(path, "read");
    try {
      const stat = await handle.stat();
      if (stat.kind === "folder") throw Object.assign(new Error("it is a folder"), { code: "EISDIR" });
      if (stat.kind !== "file") throw new Error("it is no regular file");
      if (stat.size > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
      this.#mustBelieve(handle);
      const bytes = Buffer.alloc(stat.size);
      let length = 0;
      while (length < bytes.length) {
        const count = await handle.read(bytes, length, bytes.length - length, length);
        if (count === 0) break;
        length += count;
      }
      return bytes.toString("latin1", 0, length);
    } finally {
      await handle.close();
    }
  }

  /** Logrotate's own rule: whoever can write such a file could have us read anything as a log's old content. */
  #mustBelieve(handle: FileHandle): void {
    const ownership = handle.ownership?.();
    if (ownership === undefined) return;
    const { userId, permissions } = ownership;
    if (userId !== 0 && userId !== this.#files.userId) throw new Error("it is owned by another user than root");
    if ((permissions & 0o022) !== 0) throw new Error("its group or others may write it");
  }

  #setTaboo(directive: "tabooext" | "taboopat", value: string): void {
    const words = value.split(/[\s,]+/).filter((word) => word !== "");
    const isAdded = words[0] === "+";
    const patterns = (isAdded ? words.slice(1) : words).map((word) => namePattern(word, directive === "tabooext"));
    this.#taboo[directive] = isAdded ? [...this.#taboo[directive], ...patterns] : patterns;
  }

  #isTaboo(name: BytePath): boolean {
    return [...this.#taboo.tabooext, ...this.#taboo.taboopat].some((isTaboo) => isTaboo(name));
  }

  #ignore(path: BytePath, reason: string): void {
    this.#files.log.debug({ file: pathToText(path), reason }, "a file of logrotate's configuration is left out");
  }
}

/** Another size, time or inode is another content. */
function stampOf(fileSystem: FileSystem, path: BytePath): string {
  try {
    const stat = fileSystem.statSync(path);
    return stat === undefined ? "none" : `${stat.device}:${stat.inode}:${stat.size}:${stat.modifiedMs}`;
  } catch {
    return "unknown";
  }
}

function apply({ name, value, line }: Directive, settings: Settings, path: BytePath): void {
  switch (name) {
    case "olddir":
      // Logrotate refuses a value with blanks in it.
      if (value !== "" && !/\s/.test(value)) settings.olddir = { folder: value, path, line };
      return;
    case "noolddir":
      settings.olddir = undefined;
      return;
    case "dateext":
    case "nodateext":
      settings.hasDates = name === "dateext";
      return;
    case "dateformat":
      settings.dateFormat = value;
      return;
    case "hourly":
    case "daily":
    case "weekly":
    case "monthly":
    case "yearly":
      settings.isHourly = name === "hourly";
      return;
    case "extension":
      settings.extension = value;
      return;
    case "addextension":
      settings.addExtension = value;
      return;
    case "compressext":
      settings.compressExtension = value;
      return;
    case "compresscmd":
      settings.compressCommand = posix.basename(value);
      settings.compressExtension = COMMAND_EXTENSIONS[settings.compressCommand] ?? settings.compressExtension;
      return;
  }
}

function namingOf({
  olddir,
  hasDates,
  isHourly,
  dateFormat,
  extension,
  addExtension,
  ...rest
}: Settings): LogrotateNaming {
  return {
    compressExtension: rest.compressExtension,
    compressCommand: rest.compressCommand,
    ...(olddir === undefined ? {} : { olddir }),
    ...(hasDates ? { dateFormat: dateFormat ?? (isHourly ? "-%Y%m%d%H" : "-%Y%m%d") } : {}),
    ...(extension === undefined ? {} : { extension }),
    ...(addExtension === undefined ? {} : { addExtension }),
  };
}
