import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import { toError } from "../errors.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { StoredFiles } from "../stage/define.ts";
import { Contents } from "./contents.ts";
import { type FileId, FileIds, fileId } from "./file-id.ts";
import { isRotatedName } from "./file-registry.ts";
import type { FileFacts } from "./file-report.ts";
import type { PathPatterns } from "./glob.ts";
import { judge } from "./judge.ts";
import { damageText, mendOf, whatElseItIs } from "./plain-words.ts";
import { lookAt } from "./sighting.ts";

interface Known {
  readonly key: string;
  readonly entry: FileEntry;
  /** Bytes below which every sink is done. */
  readonly committed: number;
}

/** What `why` answers while no agent runs: from the patterns, from what is stored and from what is there. */
export async function whyAtRest(
  path: BytePath,
  patterns: PathPatterns,
  stored: StoredFiles,
  files: { readonly fileSystem: FileSystem; readonly readsArchives: boolean },
): Promise<FileFacts> {
  const verdict = patterns.judge(path);
  const by = verdict.kind === "unmatched" ? {} : { pattern_by: verdict.by };
  const asked = { path: pathToText(path), pattern: verdict.kind, ...by };
  if (verdict.kind === "excluded")
    return { ...asked, answer: `not read: the exclude pattern ${verdict.by} leaves it out` };
  let stat: FileStat | undefined;
  try {
    stat = files.fileSystem.statSync(path);
  } catch (error) {
    const needs = mendOf(toError(error), path) ?? "patience";
    return { ...asked, answer: `cannot be looked at (${toError(error).message}); it needs ${needs}` };
  }
  const look = new LookAtRest(path, stat, stored, files);
  const known = await look.recognise();
  const isFile = stat?.kind === "file" || (stat === undefined && known !== undefined);
  const nature = isFile ? undefined : await whatElseItIs(files.fileSystem, path);
  if (nature !== undefined) return { ...asked, answer: `not read: ${nature}` };
  // Outside of the patterns a file is followed under the names that rotation gives it only.
  const isFollowed = known !== undefined && (known.entry.names.includes(path) || look.isRotated(known.entry));
  if (verdict.kind === "unmatched" && !isFollowed)
    return { ...asked, answer: "not read: no include pattern matches it" };
  if (known === undefined) {
    if (stat === undefined) return { ...asked, answer: "not found: nothing is there; it is read once it is" };
    const empty = stat.size === 0 ? "it is empty, and " : "";
    const answer = `not read yet: ${empty}no agent runs; the next one reads it as a new file`;
    return { ...asked, size: stat.size, answer: (await look.trouble()) ?? answer };
  }
  const { key, entry, committed } = known;
  const other = look.otherName(entry);
  const alias = other === undefined ? "" : `read once, as ${pathToText(other)}: both names lead to the same file; `;
  return {
    ...asked,
    key,
    generation: entry.generation,
    names: entry.names.map((name) => pathToText(name as BytePath)),
    file_system: entry.fileSystem,
    inode: entry.inode,
    phase: entry.tombstoneSinceMs === undefined ? "live" : "finished",
    position: committed,
    committed,
    size: stat?.size ?? entry.lastSize,
    answer: alias + ((await look.trouble(committed)) ?? sentence(entry, committed, stat, look.isArchive)),
  };
}

/** Recognises a file as a source does that starts now (delivery contract, section 4), and changes nothing. */
class LookAtRest {
  readonly #path: BytePath;
  readonly #stat: FileStat | undefined;
  readonly #known: readonly Known[];
  readonly #fileSystem: FileSystem;
  readonly #ids: FileIds;
  readonly #contents: Contents;
  readonly #id: FileId | undefined;

  constructor(
    path: BytePath,
    stat: FileStat | undefined,
    { entries, committedOf }: StoredFiles,
    { fileSystem, readsArchives }: { readonly fileSystem: FileSystem; readonly readsArchives: boolean },
  ) {
    this.#path = path;
    this.#stat = stat;
    this.#known = [...entries]
      .map(([key, entry]) => ({ key, entry, committed: Math.max(committedOf(key), entry.start ?? 0) }))
      .sort((one, other) => other.entry.lastSeenMs - one.entry.lastSeenMs);
    this.#fileSystem = fileSystem;
    this.#ids = new FileIds(fileSystem);
    this.#contents = new Contents(fileSystem, this.#ids, readsArchives);
    this.#id = stat?.kind === "file" ? this.#ids.idOf(stat) : undefined;
  }

  get isArchive(): boolean {
    return this.#contents.formatOf(this.#path) !== undefined;
  }

  /** The same inode first, then the same path; either only if it holds what was read. */
  async recognise(): Promise<Known | undefined> {
    const named = this.#known.filter(({ entry }) => entry.names.at(-1) === this.#path);
    if (this.#id === undefined) return named[0];
    const same = this.#known.filter(({ entry }) => this.#isSameInode(entry));
    for (const known of [...same, ...named]) if (await this.#holds(known)) return known;
    return undefined;
  }

  /** What keeps this user from reading it now; it is opened to see, and an archive begun. */
  async trouble(position?: number): Promise<string | undefined> {
    if (this.#stat === undefined) return undefined;
    const kept = position === undefined ? "" : `its position ${position} is kept, and `;
    try {
      const content = await this.#contents.open(this.#path);
      try {
        const count = await content.read(Buffer.alloc(1), 0, 1, 0);
        const damage = count === 0 && this.#stat.size > 0 ? damageText(content.archive) : undefined;
        return damage === undefined ? undefined : `cannot be decompressed: ${damage}`;
      } finally {
        await content.close();
      }
    } catch (error) {
      const mend = mendOf(toError(error), this.#path);
      const needs = mend === undefined ? "" : `it needs ${mend}; `;
      return `cannot be read by this user (${toError(error).message}); ${kept}${needs}no agent runs`;
    }
  }

  isRotated({ names }: FileEntry): boolean {
    return isRotatedName(this.#path, names as readonly BytePath[]);
  }

  /** The name that stands for it, where that is another one: the first that it was read under and that leads to it now. */
  otherName({ names }: FileEntry): BytePath | undefined {
    if (this.#id === undefined) return undefined;
    const first = (names as readonly BytePath[]).find((name) => {
      const { stat } = lookAt(this.#fileSystem, name);
      return stat !== undefined && this.#ids.idOf(stat) === this.#id;
    });
    return first === this.#path ? undefined : first;
  }

  #isSameInode({ fileSystem, inode }: FileEntry): boolean {
    return fileId(fileSystem, inode) === this.#id;
  }

  async #holds({ entry, committed }: Known): Promise<boolean> {
    const isPlain = this.#contents.formatOf(this.#path) === undefined;
    if (entry.fingerprint.length === 0) return isPlain && this.#isSameInode(entry);
    if (isPlain && this.#stat!.size < committed) return false;
    try {
      const content = await this.#contents.open(this.#path);
      try {
        const { fingerprint, guard: mark, guardEnd: end } = entry;
        const known = { evidence: { fingerprint, guard: { end, mark } }, given: committed };
        return ["same", "alike"].includes(await judge(content, isPlain ? this.#stat!.size : undefined, known));
      } finally {
        await content.close();
      }
    } catch {
      // What cannot be opened now is proved by whoever opens it.
      return true;
    }
  }
}

function sentence(entry: FileEntry, committed: number, stat: FileStat | undefined, isArchive: boolean): string {
  const damage = damageText(entry.archive);
  const { archive, tombstoneSinceMs } = entry;
  const isChanged = archive !== undefined && (stat?.size !== archive.bytes || stat.modifiedMs !== archive.modifiedMs);
  if (tombstoneSinceMs !== undefined && stat !== undefined && isArchive && isChanged)
    return `no agent runs; the archive was read to byte ${committed} of its content and has changed since: the next one reads what is new in it`;
  if (entry.tombstoneSinceMs !== undefined && damage !== undefined)
    return `no agent runs; it was read as far as it can be decompressed, to byte ${committed} of its content: ${damage}; what follows is not read, unless the file changes`;
  if (entry.tombstoneSinceMs !== undefined)
    return `no agent runs; it was read to its end at byte ${committed}, and would be read on if it grew`;
  if (stat === undefined) return `no agent runs; it is gone, and was delivered up to byte ${committed}`;
  if (isArchive) return `no agent runs; the next one goes on at byte ${committed} of its content`;
  const left = Math.max(0, stat.size - committed);
  return `no agent runs; the next one goes on at byte ${committed}, with ${left} bytes to read`;
}
