import { type BytePath, folderOf, pathFromText, pathToText } from "../runtime/byte-path.ts";
import type { Clock } from "../runtime/clock.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import type { SourcePositions } from "../stage/contract.ts";
import type { Contents } from "./contents.ts";
import type { FileIds } from "./file-id.ts";
import type { FileRegistry, PathUse } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";
import type { PathPatterns } from "./glob.ts";
import { damageText, mendOf, whatElseItIs } from "./plain-words.ts";
import { lookAt } from "./sighting.ts";
import type { Tailer } from "./tailer.ts";

const EMPTY = "data: it is empty";

/** Where one file stands. */
export interface FileStatus {
  readonly key: string;
  readonly generation: number;
  readonly path: string;
  /** All names it was seen under. */
  readonly names: readonly string[];
  readonly phase: FileState["phase"];
  /** Everything below it has been read and sent, in bytes. */
  readonly position: number;
  /** Bytes. */
  readonly size: number;
  readonly lagBytes: number;
  /** Why it cannot be read at the moment. */
  readonly trouble: string | undefined;
}

/** What `why` answers, JSON. Positions are bytes of content (decompressed for an archive). */
export interface FileFacts {
  readonly [fact: string]: unknown;
  readonly path: string;
  /** In plain words. */
  readonly answer: string;
  /** What the patterns say: `included`, `excluded` or `unmatched`. */
  readonly pattern: string;
  /** The pattern that says so. */
  readonly pattern_by?: string;
  readonly key?: string;
  readonly generation?: number;
  readonly names?: readonly string[];
  readonly file_system?: string;
  readonly inode?: string;
  readonly phase?: FileState["phase"];
  readonly position?: number;
  /** Below it every sink is done, durably. */
  readonly committed?: number;
  readonly size?: number;
  readonly lag_bytes?: number;
  /** What it waits for, in plain words. */
  readonly waits_for?: string;
  /** Where its old generations are looked for beside its own folder, and who says so. */
  readonly old_files?: string;
}

interface FileReportOptions {
  readonly fileRegistry: FileRegistry;
  readonly ids: FileIds;
  readonly contents: Contents;
  readonly patterns: PathPatterns;
  readonly positions: SourcePositions;
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly rotateWaitMs: number;
  /** In plain words: where rotation puts the old files of this path, if in another folder. */
  readonly whereKept: (path: BytePath) => string | undefined;
  readonly maxOpenFiles: () => number;
  readonly tailerOf: (state: FileState) => Tailer | undefined;
  /** Why this folder cannot be listed. */
  readonly folderTrouble: (folder: BytePath) => Error | undefined;
  /** The path by which this one is looked at, where several chains of links lead to its folder. */
  readonly lookedAtAs: (path: BytePath) => BytePath | undefined;
  /** It matches, and `max_files` leaves no room for it. */
  readonly isLeftOut: (path: BytePath) => boolean;
}

export function statusOf(state: FileState): FileStatus {
  return {
    key: state.key,
    generation: state.generation,
    path: pathToText(state.path),
    names: state.names.map(pathToText),
    phase: state.phase,
    position: state.offset,
    size: state.size,
    lagBytes: state.phase === "finished" ? 0 : state.lagBytes,
    trouble: state.trouble?.error.message,
  };
}

/** Says of any path why it is, or is not, being read. It only looks: nothing changes by being asked about. */
export class FileReport {
  readonly #options: FileReportOptions;

  constructor(options: FileReportOptions) {
    this.#options = options;
  }

  /** The path that a text stands for: as it is, or, where a known one is shown that way, with `\\xNN` for its bytes. */
  pathOf(text: string): BytePath {
    const { fileRegistry } = this.#options;
    const path = pathFromText(text);
    if (!text.includes("\\x") || fileRegistry.paths.has(path)) return path;
    for (const known of fileRegistry.paths.keys()) if (pathToText(known) === text) return known;
    for (const state of fileRegistry.states) for (const name of state.names) if (pathToText(name) === text) return name;
    return path;
  }

  async why(text: string): Promise<FileFacts> {
    const { fileRegistry, patterns } = this.#options;
    const path = this.pathOf(text);
    const verdict = patterns.judge(path);
    const use = fileRegistry.paths.get(path) ?? fileRegistry.paths.get(this.#options.lookedAtAs(path) ?? path);
    const state = use?.kind === "file" ? use.state : this.#stateAt(path, use);
    const by = verdict.kind === "unmatched" ? {} : { pattern_by: verdict.by };
    const facts = state === undefined ? {} : this.#factsOf(state);
    const isKnown = state !== undefined || (use !== undefined && use.kind !== "unreadable");
    const other = isKnown ? undefined : await whatElseItIs(this.#options.fileSystem, path);
    const answer = other === undefined ? this.#answer(path, use, state, verdict) : `not read: ${other}`;
    return { path: pathToText(path), answer, pattern: verdict.kind, ...by, ...facts };
  }

  /** A file that is looked at under this name though no pattern matches it, or was last seen under it. */
  #stateAt(path: BytePath, use: PathUse | undefined): FileState | undefined {
    const { fileRegistry } = this.#options;
    if (use !== undefined) return undefined;
    let last: FileState | undefined;
    for (const state of fileRegistry.family(path)) {
      if (state.copyOf !== undefined) continue;
      if (state.location === path) return state;
      if (state.names[state.names.length - 1] === path && (last?.order ?? 0) <= (state.order ?? 0)) last = state;
    }
    return last;
  }

  #factsOf(state: FileState): Partial<FileFacts> {
    const waitsFor = this.#waitsFor(state);
    const oldFiles = this.#options.whereKept(state.path);
    return {
      key: state.key,
      generation: state.generation,
      names: state.names.map(pathToText),
      file_system: state.fileSystem,
      inode: state.inode,
      phase: state.phase,
      position: state.offset,
      committed: Math.max(this.#options.positions.committedOf(state.key), state.start),
      size: state.size,
      lag_bytes: state.phase === "finished" ? 0 : state.lagBytes,
      ...(waitsFor === undefined ? {} : { waits_for: waitsFor }),
      ...(oldFiles === undefined ? {} : { old_files: oldFiles }),
    };
  }

  /** What cannot be read now, and archives that were found damaged by this process. */
  unreadable(folders: ReadonlyMap<BytePath, Error>): { readonly path: string; readonly reason: string }[] {
    const { fileRegistry } = this.#options;
    const found = new Map<string, string>();
    for (const [folder, error] of folders) found.set(pathToText(folder), error.message);
    for (const [path, use] of fileRegistry.paths)
      if (use.kind === "unreadable") found.set(pathToText(path), use.error.message);
    for (const state of fileRegistry.states) {
      const path = pathToText(state.location ?? state.path);
      if (state.trouble !== undefined && state.phase !== "finished") found.set(path, state.trouble.error.message);
      else if (state.isDamageNew && state.archive?.damage !== undefined) found.set(path, damageText(state.archive)!);
    }
    return [...found].map(([path, reason]) => ({ path, reason }));
  }

  #answer(
    path: BytePath,
    use: PathUse | undefined,
    state: FileState | undefined,
    verdict: ReturnType<PathPatterns["judge"]>,
  ): string {
    if (state !== undefined) return this.#answerFor(path, state);
    switch (use?.kind) {
      case "copy":
        return `not read: it holds a copy of the first ${use.common} bytes of ${pathToText(use.of.path)}, which gives them already`;
      case "waiting":
        return `not read yet: ${use.reason}`;
      case "ignored":
        return `not read: ${use.reason}`;
      case "unreadable":
        return `cannot be looked at (${use.error.message}); it needs ${mendOf(use.error, path) ?? "patience"}; it is tried again`;
      case "file":
      case undefined:
        break;
    }
    if (verdict.kind === "excluded") return `not read: the exclude pattern ${verdict.by} leaves it out`;
    if (verdict.kind === "unmatched") return "not read: no include pattern matches it";
    return this.#answerForUnseen(path);
  }

  /** Matches, and is not known. */
  #answerForUnseen(path: BytePath): string {
    const { stat, error } = lookAt(this.#options.fileSystem, path);
    const trouble = this.#options.folderTrouble(folderOf(path)) ?? error;
    if (trouble !== undefined)
      return `not read: its folder cannot be looked into (${trouble.message}); it is tried again`;
    if (this.#options.isLeftOut(path)) return "not read: more files match than max_files allows; raise it";
    if (stat !== undefined) return "not read yet: it is there, and the next scan finds it";
    return "not found: nothing is there; it is read once it is";
  }

  #answerFor(path: BytePath, state: FileState): string {
    const name = pathToText(state.location ?? state.path);
    const at = `at byte ${state.offset} of ${this.#isArchive(state) ? "its content" : state.size}`;
    const damage = damageText(state.archive);
    const alias = this.#aliasOf(path, state);
    if (alias !== undefined) return `read once, as ${alias}: both names lead to the same file (${at})`;
    if (state.trouble !== undefined && state.phase !== "finished") {
      const waitMs = Math.max(0, Math.ceil(state.notBeforeMs - this.#options.clock.monotonic()));
      return `cannot be read (${state.trouble.error.message}); its position ${state.offset} is kept, and it is tried again in ${waitMs} ms`;
    }
    switch (state.phase) {
      case "finished":
        if (damage !== undefined)
          return `read as far as it can be decompressed, to byte ${state.offset} of its content: ${damage}; what follows is not read, unless the file changes`;
        return state.location === undefined
          ? `read to its end at byte ${state.offset}, and gone`
          : `read to its end at byte ${state.offset}; nothing more is expected, and what is appended is read`;
      case "missing":
        return `its content is looked for: it is at none of its names; its position ${state.offset} is kept`;
      case "rotated":
        return `rotated (${state.rotation ?? "renamed"}), and read to its end as ${name}, ${at}${this.#because(state)}`;
      case "live":
        return `being read, ${at}${this.#because(state)}`;
    }
  }

  #isArchive(state: FileState): boolean {
    return this.#options.contents.formatOf(state.location ?? state.path) !== undefined;
  }

  /** The name that stands for the file, where `path` is another one of it. */
  #aliasOf(path: BytePath, state: FileState): string | undefined {
    const lookedAtAs = state.paths.has(path) ? undefined : this.#options.lookedAtAs(path);
    if (lookedAtAs !== undefined && state.paths.has(lookedAtAs)) return pathToText(lookedAtAs);
    if (!state.paths.has(path) || state.paths.size < 2) return undefined;
    const [first] = state.paths;
    return first === path ? undefined : pathToText(first!);
  }

  #because(state: FileState): string {
    const waitsFor = this.#waitsFor(state);
    return waitsFor === undefined ? "" : `; waits for ${waitsFor}`;
  }

  #waitsFor(state: FileState): string | undefined {
    const { positions, maxOpenFiles, tailerOf } = this.#options;
    if (state.phase === "finished" || state.phase === "missing") return undefined;
    if (state.trouble !== undefined) return mendOf(state.trouble.error, state.location ?? state.path) ?? "the next try";
    const partialBytes = state.readEnd - state.offset;
    const tailer = tailerOf(state);
    if (tailer?.isIdle && this.#isArchive(state))
      return "more of the archive, or that nobody has written it for rotate_wait_ms";
    if (tailer?.isIdle && partialBytes > 0) return `the end of an unfinished line of ${partialBytes} bytes`;
    if (tailer?.isIdle && state.size === 0) return EMPTY;
    if (tailer !== undefined) return tailer.waitsFor;
    if (state.predecessor !== undefined)
      return `${pathToText(state.predecessor.location ?? state.predecessor.path)}, which is older`;
    if (state.isBlocked && !state.isReleased) return "an older file beside it of which it is not known yet what it is";
    if (!positions.hasRoom(state.key)) return "sinks: too many of its batches have ended out of order or not at all";
    if (state.lagBytes > 0 || state.phase === "rotated")
      return `a free descriptor (${maxOpenFiles()} files may be open)`;
    return state.size === 0 ? EMPTY : "more data: it is read to its end";
  }
}
