import type { SeededRandom } from "../../src/testing/seeded-random.ts";
import type { SimWriter } from "../../src/testing/sim-programs.ts";
import type { Kind } from "./actions.ts";
import type { Family } from "./family.ts";
import type { LogFile, LogFiles } from "./log-files.ts";
import { type ModelMachine, REAL } from "./machine.ts";

/** Longer than the windows that identify a file (1 KiB and 256 bytes). */
const HEADER = `#Fields: ${"date time s-ip cs-method cs-uri-stem cs-uri-query s-port c-ip ".repeat(21)}`;

/** The programs that write the lines of the families. */
export class LogWriters {
  readonly #machine: ModelMachine;
  readonly #files: LogFiles;
  readonly #random: SeededRandom;
  readonly #kinds: ReadonlySet<Kind>;

  constructor(machine: ModelMachine, files: LogFiles, random: SeededRandom, kinds: ReadonlySet<Kind>) {
    this.#machine = machine;
    this.#files = files;
    this.#random = random;
    this.#kinds = kinds;
  }

  writeLines(family: Family, count: number): void {
    for (let line = 0; line < count; line += 1) {
      this.finishLine(family);
      const { writer, file } = this.open(family);
      this.line(family, writer, file, { isLate: false });
    }
  }

  writeHalf(family: Family): void {
    this.finishLine(family);
    const { writer, file } = this.open(family);
    family.rest = this.line(family, writer, file, { isLate: false, isHalf: true });
  }

  finishLine(family: Family): void {
    if (family.rest === "") return;
    const { writer, file } = this.open(family);
    writer.write(family.rest);
    family.rest = "";
    file.lines.at(-1)!.writtenAtMs = this.#machine.clock.monotonic();
  }

  /** Writes the next line, of the first half of it; gives what is left to write. */
  line(
    family: Family,
    writer: SimWriter,
    file: LogFile,
    { isLate, isHalf = false }: { isLate: boolean; isHalf?: boolean },
  ): string {
    const { ledger } = this.#files;
    const header = this.#kinds.has("headers") && file.lines.length === 0 ? `${HEADER}\n` : "";
    const headerOrder = header === "" ? 0 : ledger.nextOrder(family.name);
    const order = ledger.nextOrder(family.name);
    const text = family.isBeating
      ? `${family.name} beat ${".".repeat(60)}`
      : `${family.name} ${order} ${this.payload()}`;
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

  payload(): string {
    // Most lines are short; some make a file pass the windows that identify it (256 bytes, 1 KiB) or a block.
    const length = this.#random.weighted({ "12": 6, "40": 3, "300": 1, "1500": 0.3, "5000": 0.1 });
    return this.#random.hex(Math.ceil(Number(length) / 2));
  }

  /** The file at the live path, made where there is none, and the program that writes into it. */
  open(family: Family): { readonly writer: SimWriter; readonly file: LogFile } {
    if (family.file === undefined) {
      if (family.isLink) this.target(family);
      else family.file = this.#files.create(family.path, family.name);
    }
    const append = !this.#kinds.has("holes");
    family.writer ??= this.#machine.programs.openWriter(family.path, { append });
    return { writer: family.writer, file: family.file! };
  }

  closeWriter(family: Family): void {
    family.writer?.close();
    family.writer = undefined;
  }

  closeLate(family: Family): void {
    family.late?.writer.close();
    family.late = undefined;
  }

  /** A new target for the link, under a name that no rotation gives. */
  target(family: Family): void {
    const { programs } = this.#machine;
    const target = `${REAL}/build-${this.#random.hex(4)}.log`;
    family.file = this.#files.create(target, family.name);
    // It may be noted under the name of the link too.
    family.file.allNames.add(family.path);
    if (programs.exists(family.path)) programs.unlink(family.path);
    programs.symlink(target, family.path);
  }

  /** A power cut ends the writers too; half a line stays half a line until somebody writes the rest. */
  powerCut(family: Family): void {
    this.finishLine(family);
    family.writer = undefined;
    family.late = undefined;
  }
}
