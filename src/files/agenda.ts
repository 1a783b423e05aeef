import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import { familyOf } from "./family.ts";
import type { FileId } from "./file-id.ts";
import type { FileState } from "./file-state.ts";
import type { Group } from "./sighting.ts";

/** What one step of discovery leaves to a later one, or to the next pass. */
export class Agenda {
  /** Inodes that were seen in this pass, and which file it is is not known yet. */
  readonly groups = new Map<FileId, Group>();
  /** Paths to be looked into again: a tailer found something else there. */
  readonly again = new Set<BytePath>();
  /** Files without a path that matches, to be settled. */
  readonly detached = new Set<FileState>();
  /** Files whose content was not found, and since when (monotonic). */
  readonly missingSince = new Map<FileState, number>();
  /** Tombstones whose size is another than it was. */
  readonly doubted = new Set<FileState>();
  /** Copies under names that match nothing, which changed. */
  readonly copies = new Set<FileState>();
  /** Families (by the path that was rotated) whose order is to be found out again. */
  readonly families = new Set<BytePath>();
  /** Inode numbers that belonged to a known file and now hold something else: surely younger than it. */
  readonly rebornIds = new Set<FileId>();
  readonly #idsAt = new Map<BytePath, FileId>();
  isFirstPass = true;
  /** Wall clock, before the look that this pass is about. */
  lookedAtMs = 0;

  /** Something in the family of this path has changed. */
  touch(path: BytePath): void {
    this.families.add(familyOf(path).base);
  }

  startPass(): void {
    this.groups.clear();
    this.#idsAt.clear();
  }

  /** An inode was seen at a path. */
  enter(path: BytePath, id: FileId, stat: FileStat, isLink: boolean): void {
    this.#idsAt.set(path, id);
    let group = this.groups.get(id);
    if (group === undefined) {
      group = { id, stat, paths: [], isLink: false };
      this.groups.set(id, group);
    }
    if (!group.paths.includes(path)) group.paths.push(path);
    group.isLink ||= isLink;
  }

  /** The path was looked at anew: what was seen there before, in this pass, counts no more. */
  withdraw(path: BytePath): void {
    const id = this.#idsAt.get(path);
    const paths = id === undefined ? undefined : this.groups.get(id)?.paths;
    const at = paths?.indexOf(path) ?? -1;
    if (id === undefined || paths === undefined || at < 0) return;
    paths.splice(at, 1);
    if (paths.length === 0) this.groups.delete(id);
  }

  /** The path that this one was rotated from is to be looked at in the same pass. */
  lookAtBase(path: BytePath): void {
    const { base } = familyOf(path);
    if (base !== path) this.again.add(base);
  }

  touchAll(state: FileState): void {
    for (const name of state.names) this.touch(name);
  }

  /** Nothing more is to be found out about this file. */
  drop(state: FileState): void {
    this.detached.delete(state);
    this.missingSince.delete(state);
    this.doubted.delete(state);
    this.copies.delete(state);
  }

  reborn(id: FileId): void {
    this.rebornIds.add(id);
  }
}
