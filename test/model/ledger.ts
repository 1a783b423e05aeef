/**
 * The tiny model: what was written, and so what must arrive. It knows lines and streams, nothing of how files are read.
 *
 *     stream   one generation of one file: born by a creation or a truncation, ended by a truncation or a deletion
 *     family   what a path showed over time: its streams, in order
 *     line     owed (must arrive exactly once), or excusable (its bytes lost their last name: may be missing)
 */
export interface Line {
  readonly text: string;
  readonly family: string;
  readonly stream: number;
  /** Order in which the family's lines were written. */
  readonly order: number;
  /** Written into a file that no longer had the family's path: only ordered within its stream. */
  isLate: boolean;
  isExcusable: boolean;
}

export class Ledger {
  readonly lines = new Map<string, Line>();
  readonly #excused = new Set<number>();
  #streams = 0;
  readonly #orders = new Map<string, number>();

  newStream(): number {
    this.#streams += 1;
    return this.#streams;
  }

  /** The text of the next line of a family; unique, and every byte of it is checked. */
  write(family: string, stream: number, payload: string, isLate: boolean): Line {
    const order = (this.#orders.get(family) ?? 0) + 1;
    this.#orders.set(family, order);
    const isExcusable = this.#excused.has(stream);
    const line: Line = { text: `${family} ${order} ${payload}`, family, stream, order, isLate, isExcusable };
    this.lines.set(line.text, line);
    return line;
  }

  /**
   * The bytes of a stream have no name any more, or none that leads to them: what of it had not been delivered may be
   * missing, and what is still written into it too.
   */
  excuse(stream: number): void {
    this.#excused.add(stream);
    for (const line of this.lines.values()) if (line.stream === stream) line.isExcusable = true;
  }

  /** Where one file was rotated away before the agent knew of it, nothing says which of the two comes first. */
  freeOrder(stream: number): void {
    for (const line of this.lines.values()) if (line.stream === stream) line.isLate = true;
  }

  get owed(): number {
    let count = 0;
    for (const line of this.lines.values()) if (!line.isExcusable) count += 1;
    return count;
  }

  /** True once every owed line is in `arrived`. */
  isPaid(arrived: ReadonlySet<string>): boolean {
    for (const line of this.lines.values()) if (!line.isExcusable && !arrived.has(line.text)) return false;
    return true;
  }

  /**
   * What is wrong with what arrived, in words.
   * @param allowRepeats a sink that is at least once: lines may come again, their first comings are in order
   */
  problemsOf(arrived: readonly string[], options: { allowRepeats: boolean }): string[] {
    const problems: string[] = [];
    const seen = new Set<string>();
    const lastOfStream = new Map<number, Line>();
    const lastOfFamily = new Map<string, Line>();
    for (const text of arrived) {
      const line = this.lines.get(text);
      if (line === undefined) {
        problems.push(`never written: ${JSON.stringify(text.slice(0, 80))}`);
        continue;
      }
      if (seen.has(text)) {
        if (!options.allowRepeats) problems.push(`twice: ${name(line)}`);
        continue;
      }
      seen.add(text);
      const before = lastOfStream.get(line.stream);
      if (before !== undefined && before.order > line.order)
        problems.push(`out of order: ${name(line)} after ${name(before)}`);
      lastOfStream.set(line.stream, line);
      if (line.isLate) continue;
      const neighbour = lastOfFamily.get(line.family);
      if (neighbour !== undefined && neighbour.order > line.order && neighbour !== before)
        problems.push(`out of order across a rotation: ${name(line)} after ${name(neighbour)}`);
      lastOfFamily.set(line.family, line);
    }
    for (const line of this.lines.values())
      if (!line.isExcusable && !seen.has(line.text)) problems.push(`missing: ${name(line)}`);
    return problems;
  }

  /** Lines that had lost their last name and did not arrive. */
  lost(arrived: ReadonlySet<string>): Line[] {
    return [...this.lines.values()].filter((line) => line.isExcusable && !arrived.has(line.text));
  }
}

function name(line: Line): string {
  return `${line.family} ${line.order} (stream ${line.stream}${line.isLate ? ", late" : ""})`;
}
