import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import type { SimWriter } from "../../src/testing/sim-programs.ts";
import type { Action, Kind } from "./actions.ts";
import type { Ledger } from "./ledger.ts";
import { type LogFile, LogFiles } from "./log-files.ts";
import { ELSEWHERE, LOGS, type ModelMachine, OLD, OUTPUT, REAL } from "./machine.ts";

export interface ScriptOptions {
  readonly kinds: ReadonlySet<Kind>;
  /** The agent's globs take rotated names in too. */
  readonly readsSiblings: boolean;
  /** Of the second sink, if there is one. */
  readonly moods: { mood: "well" | "down" | "hanging" };
}

/** A rotated file of a family; its place in the list is its number, less one. */
interface Rotated {
  file: LogFile;
  isCopy: boolean;
  packing: (() => LogFile) | undefined;
  isDamaged: boolean;
}

class Family {
  readonly name: string;
  readonly path: string;
  /** The live path is a symbolic link. */
  readonly isLink: boolean;
  /** Nothing but equal lines. */
  readonly isBeating: boolean;
  /** What is at the live path. */
  file: LogFile | undefined;
  writer: SimWriter | undefined;
  /** The second half of a line whose first half is in the file. */
  rest = "";
  late: { writer: SimWriter; file: LogFile } | undefined;
  /** copytruncate between its copy and its truncation: the writer is paused. */
  isCopied = false;
  rotated: Rotated[] = [];
  /** What the link led to before, oldest first. */
  targets: string[] = [];

  constructor(name: string, options: { isLink: boolean; isBeating: boolean }) {
    this.name = name;
    this.path = `${LOGS}/${name}.log`;
    this.isLink = options.isLink;
    this.isBeating = options.isBeating;
  }
}

/** What happens to a family of equal lines: with any other rotation nobody could tell its generations apart. */
const OF_BEATS: ReadonlySet<Action["kind"]> = new Set([
  "write",
  "write_half",
  "copy",
  "truncate_copied",
  "compress",
  "finish_compress",
  "delete_oldest",
  "deny",
  "allow",
  "open_fails",
]);
/** What happens to a family behind a symbolic link. */
const OF_LINKS: ReadonlySet<Action["kind"]> = new Set(["write", "write_half", "write_late", "switch", "delete_oldest"]);
/** What happens to the machine, whichever family was drawn. */
const OF_ALL: ReadonlySet<Action["kind"]> = new Set([
  "kill",
  "power_cut",
  "stop",
  "start",
  "commits_fail",
  "sync_fails",
  "disk_full",
  "disk_free",
  "wait",
  "sink_down",
  "sink_hangs",
  "sink_up",
  "crashes",
  "reload",
]);

function concerns({ kind }: Action, { isLink, isBeating }: Family): boolean {
  if (OF_ALL.has(kind)) return true;
  return isLink ? OF_LINKS.has(kind) : !isBeating || OF_BEATS.has(kind);
}

/** Longer than the windows that identify a file (1 KiB and 256 bytes). */
const HEADER = `#Fields: ${"date time s-ip cs-method cs-uri-stem cs-uri-query s-port c-ip ".repeat(21)}`;

/** Carries out actions on the machine and keeps the ledger. An action that makes no sense at the time does nothing. */
export class Script {
  readonly #files: LogFiles;
  readonly #machine: ModelMachine;
  readonly #families: readonly Family[];
  readonly #random: SeededRandom;
  readonly #options: ScriptOptions;

  constructor(machine: ModelMachine, ledger: Ledger, random: SeededRandom, options: ScriptOptions) {
    this.#machine = machine;
    this.#files = new LogFiles(machine, ledger);
    this.#random = random;
    this.#options = options;
    const { kinds } = options;
    this.#families = [
      new Family("a", { isLink: false, isBeating: kinds.has("beats") }),
      new Family("b", { isLink: false, isBeating: false }),
      ...(kinds.has("symlinks") ? [new Family("c", { isLink: true, isBeating: false })] : []),
    ];
  }

  async run(action: Action): Promise<void> {
    // There is no third one in a story that does without symbolic links.
    const family = this.#families[action.family];
    if (family !== undefined && concerns(action, family)) await this.#act(action, family);
    await this.#machine.clock.advance(action.pauseMs);
  }

  /** Everything that was begun is finished and every obstacle removed, so that all that is owed can arrive. */
  async mend(): Promise<void> {
    const { programs, disk, files } = this.#machine;
    for (const folder of [LOGS, REAL, OLD])
      for (const name of programs.list(folder))
        if (this.#files.has(`${folder}/${name}`)) programs.deny(`${folder}/${name}`, false);
    for (const family of this.#families) {
      await this.#truncateCopied(family);
      if (family.writer !== undefined) this.#finishLine(family);
      this.#finishPacking(family);
    }
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    this.#machine.failingCommits = 0;
    this.#options.moods.mood = "well";
    files?.mend();
    await this.#machine.clock.settle();
  }

  async #act({ kind, amount }: Action, family: Family): Promise<void> {
    const machine = this.#machine;
    const { programs, disk } = machine;
    const isThere = family.file !== undefined && !family.isCopied;
    switch (kind) {
      case "write":
        if (!family.isCopied) this.#writeLines(family, amount);
        return;
      case "write_half":
        if (!family.isCopied) this.#writeHalf(family);
        return;
      case "write_late":
        if (family.late !== undefined) this.#line(family, family.late.writer, family.late.file, { isLate: true });
        return;
      case "rename":
        if (isThere) await this.#rename(family);
        return;
      case "copy":
        if (isThere) await this.#copy(family);
        return;
      case "truncate_copied":
        return this.#truncateCopied(family);
      case "compress":
        return this.#compress(family);
      case "finish_compress":
        return this.#finishPacking(family);
      case "truncate":
        if (!isThere) return;
        this.#finishLine(family);
        return this.#files.truncate(family.path);
      case "delete":
        if (isThere) await this.#delete(family);
        return;
      case "delete_oldest":
        return this.#deleteOldest(family);
      case "deny":
        if (programs.exists(family.path)) programs.deny(family.path);
        return;
      case "allow":
        if (programs.exists(family.path)) programs.deny(family.path, false);
        return;
      case "kill":
        return machine.kill();
      case "power_cut":
        for (const one of this.#families) this.#dropDescriptors(one);
        return machine.powerCut();
      case "stop":
        if (!machine.isUp) return;
        // A graceful stop waits for the disk, and for its sinks.
        disk.capacityBytes = Number.POSITIVE_INFINITY;
        this.#options.moods.mood = "well";
        return machine.stop();
      case "start":
        if (!machine.isUp) await machine.start();
        return;
      case "commits_fail":
        machine.failingCommits = amount;
        return;
      case "sync_fails":
        machine.files?.failCall("datasync", "EIO", { times: Math.ceil(amount / 2), path: OUTPUT as never });
        return;
      case "disk_full":
        disk.capacityBytes = disk.usedBytes + amount * 10;
        return;
      case "disk_free":
        disk.capacityBytes = Number.POSITIVE_INFINITY;
        return;
      case "open_fails":
        machine.files?.failCall("open", this.#random.pick(["EMFILE", "EACCES", "EIO"]), {
          times: amount,
          path: family.path as never,
        });
        return;
      case "wait":
        return;
      case "link":
        return this.#link(family);
      case "unlink_link":
        return this.#unlinkLink(family);
      case "switch":
        return this.#switch(family, amount);
      case "save":
        if (isThere) await this.#save(family);
        return;
      case "grow":
        return this.#grow(family);
      case "damage":
        return this.#damage(family);
      case "sink_down":
        this.#options.moods.mood = "down";
        return;
      case "sink_hangs":
        this.#options.moods.mood = "hanging";
        return;
      case "sink_up":
        this.#options.moods.mood = "well";
        return;
      case "steal":
        return this.#steal(family);
      case "overwrite":
        if (isThere) await this.#overwrite(family, amount);
        return;
      case "recreate":
        if (!isThere) return;
        await this.#delete(family);
        return this.#writeLines(family, amount);
      case "missed":
        return this.#missed(family, amount);
      case "flurry":
        return this.#flurry(family, amount);
      case "crashes":
        return this.#crashes(amount);
      case "reload":
        return machine.reload();
    }
  }

  // ------------------------------------------------------------ lines

  #writeLines(family: Family, count: number): void {
    for (let line = 0; line < count; line += 1) {
      this.#finishLine(family);
      const { writer, file } = this.#open(family);
      this.#line(family, writer, file, { isLate: false });
    }
  }

  #writeHalf(family: Family): void {
    this.#finishLine(family);
    const { writer, file } = this.#open(family);
    family.rest = this.#line(family, writer, file, { isLate: false, isHalf: true });
  }

  #finishLine(family: Family): void {
    if (family.rest !== "") this.#open(family).writer.write(family.rest);
    family.rest = "";
  }

  /** Writes the next line, of the first half of it; gives what is left to write. */
  #line(
    family: Family,
    writer: SimWriter,
    file: LogFile,
    { isLate, isHalf = false }: { isLate: boolean; isHalf?: boolean },
  ): string {
    const { ledger } = this.#files;
    const header = this.#options.kinds.has("headers") && file.lines.length === 0 ? `${HEADER}\n` : "";
    const headerOrder = header === "" ? 0 : ledger.nextOrder(family.name);
    const order = ledger.nextOrder(family.name);
    const text = family.isBeating
      ? `${family.name} beat ${".".repeat(60)}`
      : `${family.name} ${order} ${this.#payload()}`;
    const bytes = `${text}\n`;
    const written = header + (isHalf ? bytes.slice(0, this.#random.int(1, text.length - 1)) : bytes);
    writer.write(written);
    const start = file.inode.content.size - written.length;
    if (header !== "") {
      const end = start + header.length;
      this.#files.wrote(file, {
        text: HEADER,
        isNumbered: false,
        isHalved: false,
        order: headerOrder,
        start,
        end,
        isLate,
      });
    }
    const from = start + header.length;
    const isNumbered = !family.isBeating;
    const end = from + bytes.length;
    this.#files.wrote(file, { text, isNumbered, isHalved: isHalf, order, start: from, end, isLate });
    return bytes.slice(written.length - header.length);
  }

  #payload(): string {
    // Most lines are short; some make a file pass the windows that identify it (256 bytes, 1 KiB) or a block.
    const length = this.#random.weighted({ "3": 6, "40": 3, "300": 1, "1500": 0.3, "5000": 0.1 });
    return this.#random.hex(Math.ceil(Number(length) / 2));
  }

  /** The file at the live path, made where there is none, and the program that writes into it. */
  #open(family: Family): { readonly writer: SimWriter; readonly file: LogFile } {
    if (family.file === undefined) {
      if (family.isLink) this.#target(family);
      else family.file = this.#files.create(family.path, family.name);
    }
    const append = !this.#options.kinds.has("holes");
    family.writer ??= this.#machine.programs.openWriter(family.path, { append });
    return { writer: family.writer, file: family.file! };
  }

  #closeWriter(family: Family): void {
    family.writer?.close();
    family.writer = undefined;
  }

  // ------------------------------------------------------------ rotation

  #nameOf(family: Family, number: number): string {
    const folder = this.#options.kinds.has("olddir") ? OLD : LOGS;
    return `${folder}/${family.name}.log.${number}${family.rotated[number - 1]!.file.isArchive ? ".gz" : ""}`;
  }

  /** logrotate moves N to N + 1, from the oldest to the youngest; gives the name that is free then. */
  #shift(family: Family): string {
    this.#finishPacking(family);
    for (let number = family.rotated.length; number > 0; number -= 1) {
      const name = this.#nameOf(family, number);
      this.#files.rename(name, name.replace(`.log.${number}`, `.log.${number + 1}`));
    }
    return `${this.#options.kinds.has("olddir") ? OLD : LOGS}/${family.name}.log.1`;
  }

  async #rename(family: Family, options: { creates?: boolean } = {}): Promise<void> {
    this.#finishLine(family);
    const isForeign = await this.#isForeign(family);
    this.#closeLate(family);
    const file = family.file!;
    const name = this.#shift(family);
    this.#files.rename(family.path, name);
    family.rotated.unshift({ file, isCopy: false, packing: undefined, isDamaged: false });
    if (isForeign) this.#files.disown(file, name);
    if (family.writer !== undefined) family.late = { writer: family.writer, file };
    family.writer = undefined;
    family.file = undefined;
    if (options.creates ?? this.#random.chance(0.7)) this.#open(family);
  }

  async #copy(family: Family): Promise<void> {
    this.#finishLine(family);
    if (family.file!.inode.content.size === 0) return;
    const isForeign = await this.#isForeign(family);
    this.#closeLate(family);
    const name = this.#shift(family);
    const file = this.#files.copy(family.path, name);
    family.rotated.unshift({ file, isCopy: true, packing: undefined, isDamaged: false });
    if (isForeign) this.#files.disown(file, name);
    family.isCopied = true;
  }

  async #truncateCopied(family: Family): Promise<void> {
    if (!family.isCopied) return;
    family.isCopied = false;
    await this.#files.truncate(family.path);
  }

  #compress(family: Family): void {
    const at = family.rotated.findIndex(
      ({ file, packing }) => !file.isArchive && packing === undefined && file.names.size === 1,
    );
    if (at < 0) return;
    const one = family.rotated[at]!;
    if (family.late?.file === one.file) this.#closeLate(family);
    one.packing = this.#files.beginGzip(this.#nameOf(family, at + 1), this.#random.next());
    if (this.#random.chance(0.5)) this.#finishPacking(family);
  }

  #finishPacking(family: Family): void {
    for (const one of family.rotated) {
      if (one.packing === undefined) continue;
      one.file = one.packing();
      one.packing = undefined;
    }
  }

  async #delete(family: Family): Promise<void> {
    this.#finishLine(family);
    await this.#files.unlink(family.path);
    family.file = undefined;
    this.#closeWriter(family);
  }

  async #deleteOldest(family: Family): Promise<void> {
    if (family.isLink) {
      const target = family.targets.shift();
      if (target === undefined) return;
      if (family.late?.file === this.#files.at(target)) this.#closeLate(family);
      return this.#files.unlink(target);
    }
    const last = family.rotated.at(-1);
    if (last === undefined || last.packing !== undefined) return;
    if (family.late?.file === last.file) this.#closeLate(family);
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

  #closeLate(family: Family): void {
    family.late?.writer.close();
    family.late = undefined;
  }

  // ------------------------------------------------------------ what else happens to files

  #linksOf(family: Family): string[] {
    return [`${LOGS}/${family.name}-link.log`, `${ELSEWHERE}/${family.name}.keep`];
  }

  #link(family: Family): void {
    const path = this.#random.pick(this.#linksOf(family));
    const originals = family.rotated.filter(({ file, isCopy, packing }) => !isCopy && !file.isArchive && !packing);
    const file = this.#random.pick([family.file, ...originals.map((one) => one.file)]);
    if (file !== undefined && !this.#files.has(path)) this.#files.link(file, path);
  }

  async #unlinkLink(family: Family): Promise<void> {
    const path = this.#random.pick(this.#linksOf(family));
    if (this.#files.has(path)) await this.#files.unlink(path);
  }

  /** A new target for the link, under a name that no rotation gives. */
  #target(family: Family): void {
    const { programs } = this.#machine;
    const target = `${REAL}/build-${this.#random.hex(4)}.log`;
    family.file = this.#files.create(target, family.name);
    // It may be noted under the name of the link too.
    family.file.allNames.add(family.path);
    if (programs.exists(family.path)) programs.unlink(family.path);
    programs.symlink(target, family.path);
  }

  async #switch(family: Family, lines: number): Promise<void> {
    const before = family.file;
    if (before === undefined) return this.#writeLines(family, lines);
    this.#finishLine(family);
    const [path] = before.names;
    const isKnown = await this.#files.isKnown(before);
    this.#closeLate(family);
    if (family.writer !== undefined) family.late = { writer: family.writer, file: before };
    family.writer = undefined;
    this.#target(family);
    family.targets.push(path!);
    // What a link led to while nobody looked, nobody can know.
    if (!isKnown) this.#files.disown(before, path!);
    this.#writeLines(family, lines - 1);
  }

  async #save(family: Family): Promise<void> {
    this.#finishLine(family);
    if (family.file!.names.size > 1 || family.file!.lines.length === 0) return;
    this.#closeWriter(family);
    const isDenied = this.#machine.programs.isDenied(family.path);
    family.file = await this.#files.save(family.path);
    this.#machine.programs.deny(family.path, isDenied);
    if (this.#random.chance(0.7)) this.#writeLines(family, 1);
  }

  async #grow(family: Family): Promise<void> {
    const archives = await this.#archives(family);
    if (archives.length === 0) return;
    const { file } = this.#random.pick(archives);
    const { ledger } = this.#files;
    const order = ledger.nextOrder(family.name);
    const text = family.isBeating ? `${family.name} late beat ${order}` : `${family.name} ${order} ${this.#payload()}`;
    const [path] = file.names;
    const { start } = this.#files.appendMember(path!, `${text}\n`);
    const end = start + text.length + 1;
    this.#files.wrote(file, { text, isNumbered: true, isHalved: false, order, start, end, isLate: true });
  }

  /** Archives that are whole; one is made where there is none. */
  async #archives(family: Family): Promise<readonly Rotated[]> {
    const whole = () => family.rotated.filter(({ file, isDamaged }) => file.isArchive && !isDamaged);
    if (whole().length > 0) return whole();
    if (!family.rotated.some(({ packing }) => packing !== undefined)) {
      if (family.file !== undefined && !family.isCopied && !family.isBeating) await this.#rename(family);
      this.#compress(family);
    }
    this.#finishPacking(family);
    return whole();
  }

  async #damage(family: Family): Promise<void> {
    const archives = await this.#archives(family);
    if (archives.length === 0) return;
    const one = this.#random.pick(archives);
    one.isDamaged = true;
    const [path] = one.file.names;
    await this.#files.cut(path!, this.#random.int(18, one.file.inode.content.size - 1));
  }

  /** The inode number of a file that goes is the next one's, of another family. */
  async #steal(family: Family): Promise<void> {
    const other = this.#families.find((one) => one !== family && !one.isLink && !one.isBeating);
    if (other === undefined || other.isCopied) return;
    if (family.rotated.length > 0) await this.#deleteOldest(family);
    else if (!family.isLink && family.file !== undefined && !family.isCopied) await this.#delete(family);
    if (other.file !== undefined) await this.#rename(other, { creates: true });
    this.#writeLines(other, this.#random.int(1, 3));
  }

  async #overwrite(family: Family, lines: number): Promise<void> {
    this.#finishLine(family);
    await this.#files.truncate(family.path);
    if (this.#random.chance(0.5)) this.#closeWriter(family);
    this.#writeLines(family, lines);
  }

  async #missed(family: Family, rotations: number): Promise<void> {
    this.#machine.kill();
    for (let rotation = 0; rotation < Math.min(3, rotations); rotation += 1) {
      if (family.isCopied) await this.#truncateCopied(family);
      this.#writeLines(family, this.#random.int(1, 3));
      if (this.#random.chance(0.6)) await this.#rename(family);
      else {
        await this.#copy(family);
        await this.#truncateCopied(family);
      }
      if (this.#random.chance(0.3)) this.#compress(family);
    }
    if (this.#random.chance(0.7)) this.#writeLines(family, this.#random.int(1, 2));
    await this.#machine.start();
  }

  async #flurry(family: Family, rotations: number): Promise<void> {
    for (let rotation = 0; rotation < rotations * 2; rotation += 1) {
      if (family.isCopied) return;
      this.#writeLines(family, 1);
      await this.#rename(family, { creates: true });
      while (family.rotated.length > 3) await this.#deleteOldest(family);
      await this.#machine.clock.advance(60);
    }
  }

  // ------------------------------------------------------------ the machine

  async #crashes(times: number): Promise<void> {
    const machine = this.#machine;
    for (let time = 0; time < times; time += 1) {
      if (!machine.isUp) await machine.start();
      machine.killAfter(this.#random.pick([1, 2, 3, 5, 8, 13, 20, 30, 50, 80]));
      await machine.clock.advance(this.#random.pick([0, 1, 10, 60, 400]));
    }
    if (!machine.isUp && this.#random.chance(0.7)) await machine.start();
  }

  /** A power cut ends the writers too; half a line stays half a line until somebody writes the rest. */
  #dropDescriptors(family: Family): void {
    this.#finishLine(family);
    family.writer = undefined;
    family.late = undefined;
    this.#finishPacking(family);
  }
}
