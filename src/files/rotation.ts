import type { CompressionFormat } from "../codec/decompress.ts";
import { errnoOf } from "../errors.ts";
import { type BytePath, baseName, folderOf, joinPath } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import { ArchiveContent, formatOf, isWholeArchive } from "./archive.ts";
import type { Content } from "./content.ts";
import { familyOf, siblingsOf } from "./family.ts";
import type { FileId, FileIds } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import { marksMatch } from "./fingerprint.ts";

/** A file beside a path, under a name that rotation gives. */
export interface SiblingFile {
  readonly path: BytePath;
  readonly stat: FileStat;
  readonly id: FileId;
  readonly format: CompressionFormat | undefined;
  /** The same name without its compression exists too: the archive may not be finished. */
  readonly hasPlainTwin: boolean;
}

/** Where the content of a file was found. */
export interface Found {
  readonly sibling: SiblingFile;
  /** Index in `siblings`. */
  readonly rank: number;
  readonly siblings: readonly SiblingFile[];
}

export interface FindOptions {
  readonly isOther: (sibling: SiblingFile) => boolean;
  readonly onReused: (id: FileId) => void;
}

/** How often a folder is looked at again while its names are being shifted. */
const MAX_LOOKS = 5;

/** Looks for content among the siblings of a path (delivery contract, section 4). */
export class Rotation {
  readonly #fileSystem: FileSystem;
  readonly #ids: FileIds;
  /** A reload may change it. */
  readsArchives: boolean;

  constructor(fileSystem: FileSystem, ids: FileIds, readsArchives: boolean) {
    this.#fileSystem = fileSystem;
    this.#ids = ids;
    this.readsArchives = readsArchives;
  }

  /** Paths whose rotation may have moved a file with these names. */
  basesOf(names: readonly BytePath[]): BytePath[] {
    return [...new Set(names.flatMap((name) => [name, familyOf(name).base]))];
  }

  /**
   * The siblings of `base` on disk, oldest first; those that vanish while looking are left out. A listing is no snapshot:
   * while names are being shifted a file may be seen twice or not at all, so it counts when two looks agree.
   *
   * @returns undefined if the folder cannot be read: nothing can be told
   */
  async siblings(base: BytePath): Promise<SiblingFile[] | undefined> {
    let before = await this.#look(base);
    for (let tries = 0; before !== undefined && tries < MAX_LOOKS; tries += 1) {
      const now = await this.#look(base);
      if (now === undefined || isSameLook(before, now)) return now;
      before = now;
    }
    return before;
  }

  async #look(base: BytePath): Promise<SiblingFile[] | undefined> {
    const folder = folderOf(base);
    const names = await this.#list(folder);
    if (names === undefined) return undefined;
    const stats = new Map<BytePath, FileStat | undefined>();
    const statOf = (name: BytePath): FileStat | undefined => {
      if (!stats.has(name)) stats.set(name, this.#statFile(joinPath(folder, name)));
      return stats.get(name);
    };
    const found: SiblingFile[] = [];
    const present = new Set(names);
    for (const sibling of siblingsOf(baseName(base), names, (name) => statOf(name)?.modifiedMs)) {
      const stat = statOf(sibling.name);
      if (stat === undefined) continue;
      if (sibling.compression !== undefined && !this.readsArchives) continue;
      found.push({
        path: joinPath(folder, sibling.name),
        stat,
        id: this.#ids.idOf(stat),
        format: sibling.compression,
        hasPlainTwin: sibling.compression !== undefined && present.has(sibling.plainName),
      });
    }
    return found;
  }

  /**
   * The sibling that holds the content of `state` up to its offset: the same inode first, then a plain file, then an
   * archive; always proved by content.
   *
   * @param options.isOther true for a file that is known to be another one
   * @param options.onReused the inode number of `state` was found, with other content
   * @returns "unknown" if a folder could not be read
   */
  async find(state: FileState, options: FindOptions): Promise<Found | "unknown" | undefined> {
    const simple = this.#simplyRenamed(state);
    if (simple !== undefined && (await this.#holds(simple.sibling, state)) === "yes") return simple;
    let canTell = true;
    for (const base of this.basesOf(state.names)) {
      const siblings = await this.siblings(base);
      if (siblings === undefined) {
        canTell = false;
        continue;
      }
      const order = siblings
        .map((sibling, rank) => ({ sibling, rank }))
        .filter(({ sibling }) => sibling.id === state.id || !options.isOther(sibling))
        .sort((a, b) => preference(b.sibling, state) - preference(a.sibling, state) || b.rank - a.rank);
      for (const { sibling, rank } of order) {
        const isSameInode = sibling.id === state.id;
        const holds = await this.#holds(sibling, state);
        // What cannot be opened now is proved by the tailer that opens it.
        if (holds === "yes" || (holds === "unknown" && isSameInode)) return { sibling, rank, siblings };
        if (holds === "no" && isSameInode) options.onReused(sibling.id);
      }
    }
    return canTell ? undefined : "unknown";
  }

  /** The compression that a path's name tells, if archives are read at all. */
  formatOf(path: BytePath): CompressionFormat | undefined {
    return this.readsArchives ? formatOf(path) : undefined;
  }

  /** Opens a file as content: decompressed if it is an archive. */
  async open(path: BytePath): Promise<Content> {
    const format = this.formatOf(path);
    const handle = await this.#fileSystem.open(path, "read");
    return format === undefined ? handle : new ArchiveContent(handle, format);
  }

  /** Opens the content of a file where it was last; undefined: another file is there. */
  async openAs(state: FileState): Promise<Content | undefined> {
    const path = state.location!;
    const handle = await this.#fileSystem.open(path, "read");
    try {
      const stat = await handle.stat();
      if (stat.kind !== "file" || this.#ids.idOf(stat) !== state.id) {
        await handle.close();
        return undefined;
      }
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
    const format = this.formatOf(path);
    return format === undefined ? handle : new ArchiveContent(handle, format);
  }

  /** Whether an archive is finished; a file that is none always is. */
  async isWhole(path: BytePath): Promise<boolean> {
    const format = this.formatOf(path);
    if (format === undefined) return true;
    const handle = await this.#fileSystem.open(path, "read");
    try {
      return await isWholeArchive(handle, format);
    } finally {
      await handle.close();
    }
  }

  async #holds(sibling: SiblingFile, state: FileState): Promise<"yes" | "no" | "unknown"> {
    if (state.fingerprint.length === 0) {
      // An archive is never the file it was made of.
      return sibling.id === state.id && sibling.format === undefined && sibling.stat.size >= state.size ? "yes" : "no";
    }
    if (sibling.format === undefined && sibling.stat.size < state.offset) return "no";
    let content: Content | undefined;
    try {
      content = await this.open(sibling.path);
      if ((await marksMatch(content, state.identity)) !== "match") return "no";
      // The guard may end before the offset: the content must reach that far.
      if (state.offset > 0 && (await content.read(Buffer.alloc(1), 0, 1, state.offset - 1)) === 0) return "no";
      return !sibling.hasPlainTwin || (await this.isWhole(sibling.path)) ? "yes" : "no";
    } catch {
      // Gone meanwhile, unreadable or damaged: not here.
      return "unknown";
    } finally {
      await content?.close().catch(() => undefined);
    }
  }

  /** The common case without a listing: the last generation, just renamed from `x` to `x.1`. */
  #simplyRenamed(state: FileState): Found | undefined {
    const path = `${state.names[state.names.length - 1]!}.1` as BytePath;
    const stat = this.#statFile(path);
    if (stat === undefined || this.#ids.idOf(stat) !== state.id || stat.size < state.offset) return undefined;
    const sibling = { path, stat, id: state.id, format: undefined, hasPlainTwin: false };
    return { sibling, rank: 0, siblings: [sibling] };
  }

  async #list(folder: BytePath): Promise<readonly BytePath[] | undefined> {
    try {
      return (await this.#fileSystem.readdir(folder)).map((entry) => entry.name);
    } catch (error) {
      const code = errnoOf(error);
      return code === "ENOENT" || code === "ENOTDIR" ? [] : undefined;
    }
  }

  #statFile(path: BytePath): FileStat | undefined {
    try {
      const stat = this.#fileSystem.statSync(path);
      return stat?.kind === "file" ? stat : undefined;
    } catch {
      return undefined;
    }
  }
}

function preference(sibling: SiblingFile, state: FileState): number {
  if (sibling.id === state.id) return 2;
  return sibling.format === undefined ? 1 : 0;
}

function isSameLook(a: readonly SiblingFile[], b: readonly SiblingFile[]): boolean {
  return (
    a.length === b.length && a.every((sibling, index) => sibling.path === b[index]!.path && sibling.id === b[index]!.id)
  );
}
