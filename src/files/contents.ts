import type { CompressionFormat } from "../codec/decompress.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { ArchiveContent, formatOf, isWholeArchive } from "./archive.ts";
import type { Content } from "./content.ts";
import type { FileIds } from "./file-id.ts";
import type { FileState } from "./file-state.ts";

/** Opens files as content: plain, or decompressed where the name tells an archive and archives are read at all. */
export class Contents {
  readonly #fileSystem: FileSystem;
  readonly #ids: FileIds;
  /** A reload may change it. */
  readsArchives: boolean;

  constructor(fileSystem: FileSystem, ids: FileIds, readsArchives: boolean) {
    this.#fileSystem = fileSystem;
    this.#ids = ids;
    this.readsArchives = readsArchives;
  }

  /** The compression that a path's name tells, if archives are read at all. */
  formatOf(path: BytePath): CompressionFormat | undefined {
    return this.readsArchives ? formatOf(path) : undefined;
  }

  /** Opens whatever lies at the path. */
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
}
