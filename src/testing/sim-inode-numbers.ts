import type { EntryChange, Inode } from "./sim-inode.ts";

/** Inode numbers: handed out again as soon as they are free, lowest first, as ext4 does, or the one freed last. */
export class InodeNumbers {
  /** The next one is taken from the end. */
  #free: number[] = [];
  /** The number freed last goes to the very next file. */
  isLastFreedFirst = false;
  /** The change that took its last name from the inode that had the number. */
  readonly #freedBy = new Map<number, EntryChange | undefined>();
  #highest = 1;

  take(): { readonly number: number; readonly takenFrom: EntryChange | undefined } {
    let number = this.#free.pop();
    if (number === undefined) {
      this.#highest += 1;
      number = this.#highest;
    }
    const takenFrom = this.#freedBy.get(number);
    this.#freedBy.delete(number);
    return { number, takenFrom };
  }

  free({ number, lostBy }: Inode): void {
    this.#freedBy.set(number, lostBy);
    this.#free.push(number);
    if (!this.isLastFreedFirst) this.#free.sort((one, other) => other - one);
  }

  /** After a power cut only these are there; what freed the others is durable, or never happened. */
  keepOnly(alive: ReadonlySet<Inode>): void {
    const taken = new Set([...alive].map((inode) => inode.number));
    this.#freedBy.clear();
    this.#free = [];
    for (let number = this.#highest; number > 1; number -= 1) if (!taken.has(number)) this.#free.push(number);
  }
}
