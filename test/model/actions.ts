import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import type { SimWriter } from "../../src/testing/sim-programs.ts";
import { Ledger } from "./ledger.ts";
import { LOGS, type ModelMachine, OUTPUT } from "./machine.ts";

/** One thing that happens; drawn before the run, so that a schedule can be shown, replayed and cut down. */
export interface Action {
  readonly kind: ActionKind;
  /** Which family. */
  readonly family: number;
  /** How much, in the action's own sense. */
  readonly amount: number;
  /** Simulated milliseconds that pass afterwards. */
  readonly pauseMs: number;
}

/** Action -> how often it is drawn. */
const ACTIONS = {
  write: 30,
  write_half: 5,
  write_late: 4,
  rename: 8,
  copy: 6,
  truncate_copied: 6,
  compress: 6,
  finish_compress: 5,
  truncate: 2,
  delete: 2,
  delete_oldest: 2,
  deny: 2,
  allow: 3,
  kill: 6,
  power_cut: 4,
  stop: 2,
  start: 14,
  commits_fail: 3,
  sync_fails: 2,
  disk_full: 2,
  disk_free: 4,
  open_fails: 2,
  wait: 6,
} as const;

type ActionKind = keyof typeof ACTIONS;

export function drawActions(random: SeededRandom, families: number): Action[] {
  return Array.from({ length: random.int(4, 24) }, () => ({
    kind: random.weighted(ACTIONS),
    family: random.int(0, families - 1),
    amount: random.int(1, 5),
    pauseMs: random.pick([0, 0, 1, 10, 60, 150, 400, 2000]),
  }));
}

/** A rotated file of a family; its place in the list is its number, less one. */
interface Rotated {
  readonly stream: number;
  isPacked: boolean;
  packing: { finish(): void } | undefined;
}

class Family {
  readonly name: string;
  readonly path: string;
  stream = 0;
  writer: SimWriter | undefined;
  /** The second half of a line whose first half is in the file. */
  rest = "";
  late: { writer: SimWriter; stream: number } | undefined;
  /** copytruncate between its copy and its truncation: the writer is paused. */
  isCopied = false;
  rotated: Rotated[] = [];

  constructor(name: string) {
    this.name = name;
    this.path = `${LOGS}/${name}.log`;
  }
}

/** Carries out actions on the machine and keeps the ledger. An action that makes no sense at the time does nothing. */
export class Script {
  readonly ledger = new Ledger();
  readonly #machine: ModelMachine;
  readonly #families: readonly Family[];
  readonly #random: SeededRandom;
  readonly #readsSiblings: boolean;

  constructor(machine: ModelMachine, random: SeededRandom, families: number, readsSiblings: boolean) {
    this.#machine = machine;
    this.#random = random;
    this.#readsSiblings = readsSiblings;
    this.#families = Array.from({ length: families }, (_, index) => new Family(String.fromCharCode(97 + index)));
  }

  async run(action: Action): Promise<void> {
    await this.#act(action, this.#families[action.family]!);
    await this.#machine.clock.advance(action.pauseMs);
  }

  /** Everything that was begun is finished and every obstacle removed, so that all that is owed can arrive. */
  async mend(): Promise<void> {
    const { programs, disk, files } = this.#machine;
    for (const name of programs.list(LOGS)) programs.deny(`${LOGS}/${name}`, false);
    for (const family of this.#families) {
      this.#truncateCopied(family);
      if (family.writer !== undefined) this.#finishLine(family);
      for (const one of family.rotated) finishPacking(one);
    }
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    this.#machine.failingCommits = 0;
    files?.mend();
    await this.#machine.clock.settle();
  }

  async #act({ kind, amount }: Action, family: Family): Promise<void> {
    const machine = this.#machine;
    const { programs, disk } = machine;
    switch (kind) {
      case "write":
        if (!family.isCopied) for (let line = 0; line < amount; line += 1) this.#write(family);
        return;
      case "write_half":
        if (!family.isCopied) this.#writeHalf(family);
        return;
      case "write_late":
        if (family.late !== undefined) this.#line(family, family.late.writer, family.late.stream, true);
        return;
      case "rename":
        return this.#rename(family);
      case "copy":
        return this.#copy(family);
      case "truncate_copied":
        return this.#truncateCopied(family);
      case "compress":
        return this.#compress(family);
      case "finish_compress":
        for (const one of family.rotated) finishPacking(one);
        return;
      case "truncate":
        if (!programs.exists(family.path) || family.isCopied) return;
        this.#finishLine(family);
        programs.truncate(family.path);
        this.ledger.excuse(family.stream);
        family.stream = this.ledger.newStream();
        return;
      case "delete":
        if (!programs.exists(family.path) || family.isCopied) return;
        this.#finishLine(family);
        this.#closeLate(family);
        programs.unlink(family.path);
        this.ledger.excuse(family.stream);
        family.writer?.close();
        family.writer = undefined;
        return;
      case "delete_oldest": {
        const last = family.rotated.at(-1);
        if (last === undefined || last.packing !== undefined) return;
        if (family.late?.stream === last.stream) this.#closeLate(family);
        programs.unlink(this.#nameOf(family, family.rotated.length));
        family.rotated.pop();
        // A stream whose copy was deleted may still be there under its own name.
        if (!(family.isCopied && family.stream === last.stream)) this.ledger.excuse(last.stream);
        return;
      }
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
        // A graceful stop waits for the disk.
        disk.capacityBytes = Number.POSITIVE_INFINITY;
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
    }
  }

  #write(family: Family): void {
    this.#finishLine(family);
    const writer = this.#writerOf(family);
    if (writer !== undefined) this.#line(family, writer, family.stream, false);
  }

  #line(family: Family, writer: SimWriter, stream: number, isLate: boolean): void {
    writer.write(`${this.ledger.write(family.name, stream, this.#payload(), isLate).text}\n`);
  }

  #writeHalf(family: Family): void {
    this.#finishLine(family);
    const writer = this.#writerOf(family);
    if (writer === undefined) return;
    const text = `${this.ledger.write(family.name, family.stream, this.#payload(), false).text}\n`;
    const half = this.#random.int(1, text.length - 1);
    writer.write(text.slice(0, half));
    family.rest = text.slice(half);
  }

  #finishLine(family: Family): void {
    if (family.rest !== "") this.#writerOf(family)?.write(family.rest);
    family.rest = "";
  }

  #payload(): string {
    // Most lines are short; some make a file pass the windows that identify it (256 bytes, 1 KiB) or a block.
    const length = this.#random.weighted({ "3": 6, "40": 3, "300": 1, "1500": 0.3, "5000": 0.1 });
    return this.#random.hex(Math.ceil(Number(length) / 2));
  }

  #writerOf(family: Family): SimWriter | undefined {
    if (family.writer === undefined) {
      if (!this.#machine.programs.exists(family.path)) family.stream = this.ledger.newStream();
      family.writer = this.#machine.programs.openWriter(family.path);
    }
    return family.writer;
  }

  #nameOf(family: Family, number: number): string {
    const one = family.rotated[number - 1]!;
    return `${family.path}.${number}${one.isPacked ? ".gz" : ""}`;
  }

  /** logrotate moves N to N + 1, from the oldest to the youngest. */
  #shift(family: Family): void {
    for (const one of family.rotated) finishPacking(one);
    for (let number = family.rotated.length; number > 0; number -= 1) {
      const name = this.#nameOf(family, number);
      this.#machine.programs.rename(name, name.replace(`.log.${number}`, `.log.${number + 1}`));
    }
  }

  async #rename(family: Family): Promise<void> {
    const { programs } = this.#machine;
    if (!programs.exists(family.path) || family.isCopied) return;
    await this.#excuseUnknown(family);
    this.#finishLine(family);
    this.#closeLate(family);
    this.#shift(family);
    programs.rename(family.path, `${family.path}.1`);
    family.rotated.unshift({ stream: family.stream, isPacked: false, packing: undefined });
    if (family.writer !== undefined) family.late = { writer: family.writer, stream: family.stream };
    family.writer = undefined;
    if (this.#random.chance(0.7)) this.#writerOf(family);
  }

  async #copy(family: Family): Promise<void> {
    const { programs } = this.#machine;
    if (!programs.exists(family.path) || family.isCopied) return;
    this.#finishLine(family);
    if (programs.read(family.path).length === 0) return;
    await this.#excuseUnknown(family);
    this.#closeLate(family);
    this.#shift(family);
    programs.copy(family.path, `${family.path}.1`);
    family.rotated.unshift({ stream: family.stream, isPacked: false, packing: undefined });
    family.isCopied = true;
  }

  #truncateCopied(family: Family): void {
    if (!family.isCopied) return;
    family.isCopied = false;
    this.#machine.programs.truncate(family.path);
    // Its copy may have been deleted meanwhile.
    if (!family.rotated.some((one) => one.stream === family.stream)) this.ledger.excuse(family.stream);
    family.stream = this.ledger.newStream();
  }

  #compress(family: Family): void {
    const at = family.rotated.findIndex((one) => !one.isPacked && one.packing === undefined);
    if (at < 0) return;
    const one = family.rotated[at]!;
    if (family.late?.stream === one.stream) this.#closeLate(family);
    const packing = this.#machine.programs.beginGzip(this.#nameOf(family, at + 1), this.#random.next());
    one.packing = packing;
    if (this.#random.chance(0.5)) finishPacking(one);
  }

  /**
   * A path without a checkpoint has no siblings: what is rotated away before the agent has ever noted the path is not
   * for it to read (unless its globs take the new name in).
   */
  async #excuseUnknown(family: Family): Promise<void> {
    const { programs } = this.#machine;
    if (programs.isDenied(family.path)) this.ledger.freeOrder(family.stream);
    if (await this.#machine.knows(family.path)) return;
    this.ledger.freeOrder(family.stream);
    if (!this.#readsSiblings) this.ledger.excuse(family.stream);
  }

  #closeLate(family: Family): void {
    family.late?.writer.close();
    family.late = undefined;
  }

  /** A power cut ends the writers too; half a line stays half a line until somebody writes the rest. */
  #dropDescriptors(family: Family): void {
    this.#finishLine(family);
    family.writer = undefined;
    family.late = undefined;
    for (const one of family.rotated) finishPacking(one);
  }
}

function finishPacking(one: Rotated): void {
  if (one.packing === undefined) return;
  one.packing.finish();
  one.packing = undefined;
  one.isPacked = true;
}
