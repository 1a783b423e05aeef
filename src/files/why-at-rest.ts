import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import type { StoredFiles } from "../stage/define.ts";
import { Contents } from "./contents.ts";
import { type FileId, FileIds, fileId } from "./file-id.ts";
import { isRotatedName } from "./file-registry.ts";
import type { FileFacts } from "./file-report.ts";
import type { PathPatterns } from "./glob.ts";
import { judge } from "./judge.ts";
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
  const stat = files.fileSystem.statSync(path);
  const look = new LookAtRest(path, stat, stored, files);
  const known = await look.recognise();
  // Outside of the patterns a file is followed under the names that rotation gives it only.
  const isFollowed = known !== undefined && (known.entry.names.includes(path) || look.isRotated(known.entry));
  if (verdict.kind === "unmatched" && !isFollowed)
    return { ...asked, answer: "not read: no include pattern matches it" };
  if (known === undefined) {
    if (stat === undefined) return { ...asked, answer: "not found: nothing is there; it is read once it is" };
    if (stat.kind !== "file") return { ...asked, answer: "not read: it is no regular file" };
    return { ...asked, size: stat.size, answer: "not read yet: no agent runs; the next one reads it as a new file" };
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
    answer: alias + sentence(entry, committed, stat),
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

  /** The same inode first, then the same path; either only if it holds what was read. */
  async recognise(): Promise<Known | undefined> {
    const named = this.#known.filter(({ entry }) => entry.names.at(-1) === this.#path);
    if (this.#id === undefined) return named[0];
    const same = this.#known.filter(({ entry }) => this.#isSameInode(entry));
    for (const known of [...same, ...named]) if (await this.#holds(known)) return known;
    return undefined;
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

function sentence(entry: FileEntry, committed: number, stat: FileStat | undefined): string {
  if (entry.tombstoneSinceMs !== undefined)
    return `no agent runs; it was read to its end at byte ${committed}, and would be read on if it grew`;
  if (stat === undefined) return `no agent runs; it is gone, and was delivered up to byte ${committed}`;
  const left = Math.max(0, stat.size - committed);
  return `no agent runs; the next one goes on at byte ${committed}, with ${left} bytes to read`;
}
