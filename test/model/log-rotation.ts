import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import type { Family, Rotated } from "./family.ts";
import type { LogFiles } from "./log-files.ts";
import type { LogWriters } from "./log-writers.ts";
import { ELSEWHERE, LOGS, type ModelMachine, OLD } from "./machine.ts";

/** logrotate, editors, and whoever else moves, copies, links, packs, damages and deletes the files of the families. */
export class LogRotation {
  readonly #machine: ModelMachine;
  readonly #files: LogFiles;
  readonly #writers: LogWriters;
  readonly #random: SeededRandom;
  readonly #options: { readonly readsSiblings: boolean; readonly isOlddir: boolean };

  constructor(
    machine: ModelMachine,
    files: LogFiles,
    writers: LogWriters,
    random: SeededRandom,
    options: { readonly readsSiblings: boolean; readonly isOlddir: boolean },
  ) {
    this.#machine = machine;
    this.#files = files;
    this.#writers = writers;
    this.#random = random;
    this.#options = options;
  }

  #nameOf(family: Family, number: number): string {
    const folder = this.#options.isOlddir ? OLD : LOGS;
    return `${folder}/${family.name}.log.${number}${family.rotated[number - 1]!.file.isArchive ? ".gz" : ""}`;
  }

  /** logrotate moves N to N + 1, from the oldest to the youngest; gives the name that is free then. */
  #shift(family: Family): string {
    this.finishPacking(family);
    for (let number = family.rotated.length; number > 0; number -= 1) {
      const name = this.#nameOf(family, number);
      this.#files.rename(name, name.replace(`.log.${number}`, `.log.${number + 1}`));
    }
    return `${this.#options.isOlddir ? OLD : LOGS}/${family.name}.log.1`;
  }

  async rename(family: Family, options: { creates?: boolean } = {}): Promise<void> {
    this.#writers.finishLine(family);
    const isForeign = await this.#isForeign(family);
    this.#writers.closeLate(family);
    const file = family.file!;
    const name = this.#shift(family);
    this.#files.rename(family.path, name);
    family.rotated.unshift({ file, isCopy: false, packing: undefined, isDamaged: false });
    if (isForeign) this.#files.disown(file, name);
    if (family.writer !== undefined) family.late = { writer: family.writer, file };
    family.writer = undefined;
    family.file = undefined;
    if (options.creates ?? this.#random.chance(0.7)) this.#writers.open(family);
  }

  async copy(family: Family): Promise<void> {
    this.#writers.finishLine(family);
    if (family.file!.inode.content.size === 0) return;
    const isForeign = await this.#isForeign(family);
    this.#writers.closeLate(family);
    const name = this.#shift(family);
    const file = this.#files.copy(family.path, name);
    family.rotated.unshift({ file, isCopy: true, packing: undefined, isDamaged: false });
    if (isForeign) this.#files.disown(file, name);
    family.isCopied = true;
  }

  async truncateCopied(family: Family): Promise<void> {
    if (!family.isCopied) return;
    family.isCopied = false;
    await this.#files.truncate(family.path);
  }

  compress(family: Family): void {
    const at = family.rotated.findIndex(
      ({ file, packing }) => !file.isArchive && packing === undefined && file.names.size === 1,
    );
    if (at < 0) return;
    const one = family.rotated[at]!;
    if (family.late?.file === one.file) this.#writers.closeLate(family);
    one.packing = this.#files.beginGzip(this.#nameOf(family, at + 1), this.#random.next());
    if (this.#random.chance(0.5)) this.finishPacking(family);
  }

  finishPacking(family: Family): void {
    for (const one of family.rotated) {
      if (one.packing === undefined) continue;
      one.file = one.packing();
      one.packing = undefined;
    }
  }

  async delete(family: Family): Promise<void> {
    this.#writers.finishLine(family);
    await this.#files.unlink(family.path);
    family.file = undefined;
    this.#writers.closeWriter(family);
  }

  async deleteOldest(family: Family): Promise<void> {
    if (family.isLink) {
      const target = family.targets.shift();
      if (target === undefined) return;
      if (family.late?.file === this.#files.at(target)) this.#writers.closeLate(family);
      return this.#files.unlink(target);
    }
    const last = family.rotated.at(-1);
    if (last === undefined || last.packing !== undefined) return;
    if (family.late?.file === last.file) this.#writers.closeLate(family);
    await this.#files.unlink(this.#nameOf(family, family.rotated.length));
    family.rotated.pop();
  }

  /**
   * A path without a checkpoint has no siblings: what is rotated away before the agent has ever noted the path is not
   * for it to read (unless its globs take the new name in). What nobody may read has no place in an order.
   */
  async #isForeign(family: Family): Promise<boolean> {
    // What lies behind an unreadable file need not wait for it.
    if (this.#machine.programs.isDenied(family.path)) for (const line of family.file!.lines) line.isLate = true;
    return !this.#options.readsSiblings && !(await this.#files.knowsPath(family.path));
  }

  /** Archives that are whole; one is made where there is none. */
  async #archives(family: Family): Promise<readonly Rotated[]> {
    const whole = () => family.rotated.filter(({ file, isDamaged }) => file.isArchive && !isDamaged);
    if (whole().length > 0) return whole();
    if (!family.rotated.some(({ packing }) => packing !== undefined)) {
      if (family.file !== undefined && !family.isCopied && !family.isBeating) await this.rename(family);
      this.compress(family);
    }
    this.finishPacking(family);
    return whole();
  }

  #linksOf(family: Family): string[] {
    return [`${LOGS}/${family.name}-link.log`, `${ELSEWHERE}/${family.name}.keep`];
  }

  link(family: Family): void {
    const path = this.#random.pick(this.#linksOf(family));
    const originals = family.rotated.filter(({ file, isCopy, packing }) => !isCopy && !file.isArchive && !packing);
    const file = this.#random.pick([family.file, ...originals.map((one) => one.file)]);
    if (file !== undefined && !this.#files.has(path)) this.#files.link(file, path);
  }

  async unlinkLink(family: Family): Promise<void> {
    const path = this.#random.pick(this.#linksOf(family));
    if (this.#files.has(path)) await this.#files.unlink(path);
  }

  async switch(family: Family, lines: number): Promise<void> {
    const before = family.file;
    if (before === undefined) return this.#writers.writeLines(family, lines);
    this.#writers.finishLine(family);
    const [path] = before.names;
    const isKnown = await this.#files.isKnown(before);
    this.#writers.closeLate(family);
    if (family.writer !== undefined) family.late = { writer: family.writer, file: before };
    family.writer = undefined;
    this.#writers.target(family);
    family.targets.push(path!);
    // What a link led to while nobody looked, nobody can know.
    if (!isKnown) this.#files.disown(before, path!);
    this.#writers.writeLines(family, lines - 1);
  }

  async save(family: Family): Promise<void> {
    this.#writers.finishLine(family);
    if (family.file!.names.size > 1 || family.file!.lines.length === 0) return;
    this.#writers.closeWriter(family);
    const isDenied = this.#machine.programs.isDenied(family.path);
    family.file = await this.#files.save(family.path);
    this.#machine.programs.deny(family.path, isDenied);
    if (this.#random.chance(0.7)) this.#writers.writeLines(family, 1);
  }

  async grow(family: Family): Promise<void> {
    const archives = await this.#archives(family);
    if (archives.length === 0) return;
    const { file } = this.#random.pick(archives);
    const { ledger } = this.#files;
    const order = ledger.nextOrder(family.name);
    const text = family.isBeating
      ? `${family.name} late beat ${order}`
      : `${family.name} ${order} ${this.#writers.payload()}`;
    const [path] = file.names;
    const { start } = this.#files.appendMember(path!, `${text}\n`);
    const end = start + text.length + 1;
    this.#files.wrote(file, { text, isNumbered: true, isHalved: false, order, start, end, isLate: true });
  }

  async damage(family: Family): Promise<void> {
    const archives = await this.#archives(family);
    if (archives.length === 0) return;
    const one = this.#random.pick(archives);
    one.isDamaged = true;
    const [path] = one.file.names;
    await this.#files.cut(path!, this.#random.int(18, one.file.inode.content.size - 1));
  }

  /** As `> file` by a program, again and again. */
  async overwrite(family: Family, times: number): Promise<void> {
    const pauseMs = this.#random.pick([0, 60, 600, 3000]);
    for (let time = 0; time < times; time += 1) {
      if (time > 0) await this.#machine.clock.advance(pauseMs);
      this.#writers.finishLine(family);
      await this.#files.truncate(family.path);
      if (this.#random.chance(0.5)) this.#writers.closeWriter(family);
      this.#writers.writeLines(family, this.#random.int(1, 4));
    }
  }
}
