import type { SimContent } from "./sim-content.ts";

export type InodeKind = "file" | "folder" | "link" | "other";

/** Whatever a name of a SimDisk leads to. */
export interface Inode {
  readonly number: number;
  readonly kind: InodeKind;
  links: number;
  openCount: number;
  /** The permission bits forbid it: opening it (a file), using or listing it (a folder) is EACCES. */
  isDenied: boolean;
  readonly birthNs: bigint;
  modifiedMs: number;
  /** Where a symbolic link points to. */
  target: string | undefined;
  /** The change that freed the number this inode got, if it was another's before. */
  readonly takenFrom: EntryChange | undefined;
  lostBy?: EntryChange;
  /** Empty but in a file. */
  readonly content: SimContent;
  /** What names a folder holds, now and after a power cut. */
  entries: Map<string, Inode>;
  readonly durableEntries: Map<string, Inode>;
}

/** One name of a folder leads elsewhere; undefined: nowhere. */
export interface EntryEdit {
  readonly folder: Inode;
  readonly name: string;
  readonly inode: Inode | undefined;
}

/** What one call does to names; all of it becomes durable together, and not before `after` is. */
export interface EntryChange {
  readonly entries: readonly EntryEdit[];
  readonly after: EntryChange | undefined;
}
