import { errnoOf, StageError } from "../errors.ts";
import { type BytePath, folderOf, pathToText } from "../runtime/byte-path.ts";
import type { FileHandle, FileStat } from "../runtime/file-system.ts";
import type { SinkContext } from "../stage/index.ts";
import type { FileSinkOptions } from "./options.ts";
import { Output } from "./output.ts";
import { RefusedPath } from "./output-folder.ts";
import { identityOf, isSameFile } from "./output-mark.ts";
import type { MarkChange, OutputMarks } from "./output-marks.ts";
import { freeName } from "./rotated-name.ts";

/** Between looking at a path and opening it others may act; so often it is tried again. */
const MAX_RACES = 5;

/** Folders remembered as synced; a path with placeholders may name ever new ones, and to sync one again is only slow. */
const MAX_DURABLE_FOLDERS = 10_000;
/** New folders of outputs; the umask takes its part. */
const FOLDER_MODE = 0o755;

/**
 * Opens outputs, each locked for us alone. An output that is not yet recorded gets its mark before its first byte:
 *
 *     look --nothing--> create O_EXCL, fsync, fsync folder --.
 *       |--empty------> open, fsync folder ------------------+--> commit {identity, length} --> open for appends
 *       |--full-------> append | rotate | refuse ------------'
 *       '--recorded---> open, compare the length ----------------------------------------------^
 */
export class OutputOpener {
  readonly #context: SinkContext;
  readonly #options: FileSinkOptions;
  readonly #marks: OutputMarks;
  readonly #durableFolders = new Set<BytePath>();

  constructor(context: SinkContext, options: FileSinkOptions, marks: OutputMarks) {
    this.#context = context;
    this.#options = options;
    this.#marks = marks;
  }

  /**
   * The output at `path`, which must be free of symbolic links.
   * @throws StageError `TR_OUTPUT_FOREIGN` if it is longer than recorded, `TR_STAGE_OPEN` if it is locked, RefusedPath if it is no file;
   * else what the file system says.
   */
  async open(path: BytePath): Promise<Output> {
    const { fileSystem, events } = this.#context;
    const mark = this.#marks.outputs.get(path);
    if (mark === undefined) return this.begin(path);
    const stat = await this.look(path);
    if (stat === undefined || !isSameFile(mark, identityOf(stat, fileSystem))) {
      this.reportGone(path, stat !== undefined);
      return this.begin(path);
    }
    const { handle, stat: own } = await this.#lockedHandle(path, await fileSystem.open(path, "write"));
    const output = new Output(path, handle, own, identityOf(own, fileSystem), mark);
    if (own.size > mark.length) {
      await handle.close();
      throw this.foreign(path, own.size, mark.length);
    }
    if (own.size < mark.length) {
      events.emit("output_foreign", shorterMessage(path, own.size, mark.length), {
        path: pathToText(path),
        size: own.size,
        length: mark.length,
      });
      output.adopt(own.size);
    }
    return output;
  }

  /** Begins an output that has no record (or whose record is void); `change` is committed together with its mark. */
  async begin(path: BytePath, change: Omit<MarkChange, "output"> = {}): Promise<Output> {
    const { fileSystem, clock } = this.#context;
    for (let races = 0; races < MAX_RACES; races += 1) {
      const opened = await this.#beginHandle(path);
      if (opened === undefined) continue;
      const { handle, stat } = opened;
      try {
        const identity = identityOf(stat, fileSystem);
        const now = clock.now();
        const mark = { ...identity, length: stat.size, createdAtMs: now, writtenAtMs: now };
        // Dying here leaves an empty output without a record: the next start takes it as its own.
        await this.#marks.save(path, { ...change, output: mark });
        return new Output(path, handle, stat, identity, mark);
      } catch (error) {
        await handle.close();
        throw error;
      }
    }
    throw new Error(
      `${pathToText(path)} cannot be created: something is there, and is not (a symbolic link to nothing?)`,
    );
  }

  /** What is at the path; undefined where nothing is. @throws RefusedPath where it is no file. */
  async look(path: BytePath): Promise<FileStat | undefined> {
    try {
      const stat = await this.#context.fileSystem.stat(path);
      if (stat.kind === "file") return stat;
      const what = stat.kind === "folder" ? "a folder" : "no regular file (a pipe, a device or a socket)";
      throw new RefusedPath(`${pathToText(path)} is ${what}; exactly-once output needs a regular file`);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  /** A new descriptor of an output whose old one is in doubt; undefined if its path shows another file by now. */
  async reopen(output: Output): Promise<FileHandle | undefined> {
    try {
      const handle = await this.#context.fileSystem.open(output.path, "write");
      if (output.isFile(await handle.stat())) return handle;
      await handle.close();
      return undefined;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  /** A writable, locked handle of a file that is there. @throws StageError if somebody else writes to it. */
  async lock(path: BytePath): Promise<{ handle: FileHandle; stat: FileStat }> {
    return this.#lockedHandle(path, await this.#context.fileSystem.open(path, "write"));
  }

  reportGone(path: BytePath, isReplaced: boolean): void {
    const text = pathToText(path);
    if (isReplaced)
      this.#context.events.emit("output_foreign", `${text} was renamed or replaced; it is begun anew`, {
        path: text,
      });
    else
      this.#context.events.emit(
        "output_missing",
        `${text} is gone; it is begun anew, what was delivered stays delivered`,
        { path: text },
      );
  }

  foreign(path: BytePath, size: number, length: number): StageError {
    return new StageError(
      "TR_OUTPUT_FOREIGN",
      this.#context.name,
      `${pathToText(path)} has ${size} bytes where ${length} are recorded, so somebody else writes to it; stop that, and move the file out of its folder (a new one is begun) or bring back its length`,
    );
  }

  /** One try; undefined if somebody was faster. */
  async #beginHandle(path: BytePath): Promise<{ handle: FileHandle; stat: FileStat } | undefined> {
    const { fileSystem, log } = this.#context;
    const folder = folderOf(path);
    const stat = await this.look(path);
    if (stat === undefined) {
      await fileSystem.mkdirs(folder, FOLDER_MODE);
      try {
        const handle = await fileSystem.open(path, "create", Number.parseInt(this.#options.mode, 8));
        const opened = await this.#lockedHandle(path, handle);
        await this.#syncNew(opened.handle, folder);
        return opened;
      } catch (error) {
        if (errnoOf(error) === "EEXIST") return undefined;
        throw error;
      }
    }
    if (stat.size > 0) {
      if (this.#options.existing === "refuse") {
        throw this.#openError(
          `${pathToText(path)} holds ${stat.size} bytes that are not recorded and existing = "refuse"; move it away, or write existing = "append" or "rotate"`,
        );
      }
      if (this.#options.existing === "rotate") {
        const to = await freeName(fileSystem, path, this.#context.clock.now());
        await fileSystem.renameNoReplace(path, to);
        // Dying here leaves the path free: the next start creates it.
        await fileSystem.syncFolder(folder);
        return undefined;
      }
      log.warn(
        { path: pathToText(path), bytes: stat.size },
        "the output holds bytes that are not recorded; it is appended to",
      );
    }
    const opened = await this.#lockedHandle(path, await fileSystem.open(path, "write"));
    // An empty one may be what we created and could not record: its entry need not be durable yet.
    await this.#syncNew(opened.handle, folder);
    return opened;
  }

  async #syncNew(handle: FileHandle, folder: BytePath): Promise<void> {
    try {
      await handle.sync();
      await this.#context.fileSystem.syncFolder(folder);
      await this.#syncAncestors(folder);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * A folder that is there may have been made by a run that died before the fsync of its parent: then a power cut would
   * take it away with all that is recorded in it. Each is synced once by this process.
   */
  async #syncAncestors(folder: BytePath): Promise<void> {
    for (let at = folder; at !== "/" && !this.#durableFolders.has(at); at = folderOf(at)) {
      try {
        await this.#context.fileSystem.syncFolder(folderOf(at));
      } catch (error) {
        // Where we may not even read the parent, we did not make the folder.
        if (!["EACCES", "EPERM", "EROFS"].includes(errnoOf(error) ?? "")) throw error;
      }
      if (this.#durableFolders.size >= MAX_DURABLE_FOLDERS) this.#durableFolders.clear();
      this.#durableFolders.add(at);
    }
  }

  async #lockedHandle(path: BytePath, handle: FileHandle): Promise<{ handle: FileHandle; stat: FileStat }> {
    try {
      const isLocked = (await handle.tryLock?.()) ?? true;
      if (!isLocked) {
        throw this.#openError(`${pathToText(path)} is written by another sink or process; give each its own file`);
      }
      return { handle, stat: await handle.stat() };
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  #openError(message: string): StageError {
    return new StageError("TR_STAGE_OPEN", this.#context.name, message);
  }
}

export function shorterMessage(path: BytePath, size: number, length: number): string {
  return `${pathToText(path)} has ${size} bytes where ${length} are recorded: somebody else cut it; it goes on from there`;
}
