import type { SeededRandom } from "./seeded-random.ts";
import type { Kept } from "./sim-content.ts";
import type { EntryChange, EntryEdit, Inode } from "./sim-inode.ts";

/** What was done to the names of a SimDisk and is not durable yet, in order: the journal of its file system. */
export class EntryChanges {
  #pending: EntryChange[] = [];

  /** Changes names now; durable later, all entries of one change together. */
  make(entries: readonly EntryEdit[], after?: EntryChange): EntryChange {
    const change: EntryChange = { entries, after };
    this.#pending.push(change);
    for (const { folder, name, inode } of entries) {
      if (inode === undefined) folder.entries.delete(name);
      else folder.entries.set(name, inode);
    }
    return change;
  }

  /** fsync of a folder. */
  syncFolder(folder: Inode): void {
    for (const change of this.#pending.filter((one) => one.entries.some((entry) => entry.folder === folder)))
      this.#settle(change);
  }

  syncAll(): void {
    this.#settleFirst(this.#pending.length);
  }

  /** `anything`: the first so many. */
  powerCut(keep: Kept, random: SeededRandom): void {
    const survivors =
      keep === "nothing" ? 0 : keep === "everything" ? this.#pending.length : random.int(0, this.#pending.length);
    this.#settleFirst(survivors);
    this.#pending = [];
  }

  #settleFirst(count: number): void {
    for (const change of this.#pending.slice(0, count)) this.#settle(change);
  }

  /** Makes a change durable, and first every earlier one that it builds upon (same folders, or the inode it reuses). */
  #settle(change: EntryChange): void {
    const at = this.#pending.indexOf(change);
    if (at < 0) return;
    const folders = new Set(change.entries.map((entry) => entry.folder));
    if (change.after !== undefined) this.#settle(change.after);
    for (const earlier of this.#pending.slice(0, this.#pending.indexOf(change)))
      if (earlier.entries.some((entry) => folders.has(entry.folder))) this.#settle(earlier);
    this.#pending.splice(this.#pending.indexOf(change), 1);
    for (const { folder, name, inode } of change.entries) {
      if (inode === undefined) folder.durableEntries.delete(name);
      else folder.durableEntries.set(name, inode);
    }
  }
}
