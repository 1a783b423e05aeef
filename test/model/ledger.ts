/**
 * The tiny model: what was written, and so what must arrive. It knows lines and generations, nothing of how files are
 * read.
 *
 *     generation  one content of one file: born by a creation or a truncation, ended by a truncation or a deletion
 *     family      what a path showed over time: its generations, in order
 *     line        owed (must arrive exactly once), or excusable (its bytes lost their last name: may be missing)
 */
export interface Line {
  /** Unique where it is numbered. */
  readonly text: string;
  readonly isNumbered: boolean;
  /** Its first half stood in the file for a while: that may be delivered where the rest is lost. */
  readonly isHalved: boolean;
  readonly family: string;
  readonly generation: number;
  /** Order in which the family's lines were written. */
  readonly order: number;
  /** Bytes of the content that it takes, its delimiter included. */
  readonly start: number;
  readonly end: number;
  /** When all of it was there, simulated. */
  writtenAtMs: number;
  /** Written into a file that no longer had the family's path: only ordered within its generation. */
  isLate: boolean;
  isExcusable: boolean;
  /** It stood in an archive that was cut short: that it is the same cannot be proved, so it may be repeated, if that is told. */
  isDoubtful: boolean;
  /** The store knew, when the bytes were lost, that they had been there: what is lost of it must be told. */
  isKnown: boolean;
}

/** Behind what stands at the end of an output. */
export const WITHOUT_DELIMITER = " (without a delimiter)";

/** What a `gap` event said. */
export interface ToldGap {
  readonly family: string | undefined;
  readonly file: string;
  readonly offset: number;
  readonly bytes: number | undefined;
}

export class Ledger {
  readonly lines: Line[] = [];
  readonly #byText = new Map<string, Line[]>();
  /** Beginnings of lines whose rest was damaged: may arrive, once each. */
  readonly #pieces = new Set<string>();
  readonly #cutFamilies = new Set<string>();
  readonly #orders = new Map<string, number>();
  #generations = 0;

  newGeneration(): number {
    this.#generations += 1;
    return this.#generations;
  }

  nextOrder(family: string): number {
    const order = (this.#orders.get(family) ?? 0) + 1;
    this.#orders.set(family, order);
    return order;
  }

  wrote(line: Line): void {
    this.lines.push(line);
    const same = this.#byText.get(line.text);
    if (same === undefined) this.#byText.set(line.text, [line]);
    else same.push(line);
  }

  /** An archive was cut short, perhaps in the midst of a line: `piece` can still be read of that. */
  cut(family: string, piece: string): void {
    this.#cutFamilies.add(family);
    if (piece !== "") this.#pieces.add(piece);
  }

  /** True once every owed line is in `arrived`. */
  isPaid(arrived: readonly string[]): boolean {
    const counts = countsOf(arrived);
    for (const [text, lines] of this.#byText) if ((counts.get(text) ?? 0) < owedOf(lines)) return false;
    return true;
  }

  /**
   * What is wrong with what arrived at one sink, in words.
   * @param allowRepeats a sink that is at least once: lines may come again, their first comings are in order
   * @param isConcurrent the sink takes several requests at once: order holds within one file
   * @param repeated families of which the agent said that it repeats, or could not tell: what nobody can tell apart may
   *   come again
   */
  problemsOf(
    arrived: readonly string[],
    options: {
      readonly allowRepeats: boolean;
      readonly isConcurrent: boolean;
      readonly repeated: ReadonlySet<string>;
    },
  ): string[] {
    const lines = this.#unglued(arrived);
    const problems = this.#disorderOf(lines, options);
    const counts = countsOf(lines);
    for (const [text, same] of this.#byText) {
      const count = counts.get(text) ?? 0;
      const owed = owedOf(same);
      const line = same[0]!;
      const cannotTell = !line.isNumbered || same.some(({ isDoubtful }) => isDoubtful);
      const may = options.allowRepeats || (cannotTell && options.repeated.has(line.family));
      if (count > same.length && !may) problems.push(`${count} times instead of ${same.length}: ${nameOf(line)}`);
      if (count >= owed) continue;
      problems.push(
        line.isNumbered ? `missing: ${nameOf(line)}` : `missing: ${owed - count} of ${owed}: ${text.slice(0, 40)}`,
      );
    }
    return problems;
  }

  /**
   * What is wrong with what the agent said about losses: a loss that it could know of is told, with its range, and
   * nothing else is.
   * @param sinks what arrived at each
   */
  untruthsOf(gaps: readonly ToldGap[], sinks: readonly (readonly string[])[]): string[] {
    const missing = this.#missingAt(sinks);
    const problems: string[] = [];
    for (const gap of gaps) {
      // How much an archive held that was cut short, nobody can know.
      const isOpen = gap.bytes === undefined && this.#cutFamilies.has(gap.family ?? "");
      if (!isOpen && !missing.some((line) => isIn(line, gap)))
        problems.push(`a gap of what is not lost: ${gap.file} from ${gap.offset}, ${gap.bytes ?? "?"} bytes`);
    }
    const halves = new Set(sinks.flatMap((lines) => lines.map((text) => this.#halfOf(text))));
    for (const line of missing) {
      const mustBeTold = line.isExcusable && line.isKnown && line.isNumbered && !halves.has(line);
      if (mustBeTold && !gaps.some((gap) => isIn(line, gap)))
        problems.push(`lost without a gap: ${nameOf(line)}, bytes ${line.start} to ${line.end}`);
    }
    return problems;
  }

  /** How many lines had lost their last name and are missing at one sink or more. */
  lostAt(sinks: readonly (readonly string[])[]): number {
    return this.#missingAt(sinks).filter((line) => line.isExcusable).length;
  }

  /** What is left of a line that was cut has no delimiter: the next record stands right behind it. */
  #unglued(arrived: readonly string[]): readonly string[] {
    if (this.#pieces.size === 0) return arrived;
    return arrived.flatMap((text) => {
      if (this.#byText.has(text)) return [text];
      const pieces = [...this.#pieces].filter((one) => text.startsWith(one));
      const piece = pieces.sort((one, other) => other.length - one.length)[0];
      if (piece === undefined) return [text];
      const rest = text.slice(piece.length);
      return rest === "" || rest === WITHOUT_DELIMITER ? [piece] : [piece, rest];
    });
  }

  /** The line that was lost but for this beginning. */
  #halfOf(text: string): Line | undefined {
    if (text === "" || this.#byText.has(text)) return undefined;
    return this.lines.find((line) => line.isHalved && line.isExcusable && line.text.startsWith(text));
  }

  #missingAt(sinks: readonly (readonly string[])[]): Line[] {
    const counts = sinks.map(countsOf);
    return this.lines.filter(({ text }) =>
      counts.some((count) => (count.get(text) ?? 0) < this.#byText.get(text)!.length),
    );
  }

  #disorderOf(
    arrived: readonly string[],
    { allowRepeats, isConcurrent }: { readonly allowRepeats: boolean; readonly isConcurrent: boolean },
  ): string[] {
    const problems: string[] = [];
    const seen = new Set<string>();
    const pieces = new Set(this.#pieces);
    const lastOfGeneration = new Map<number, Line>();
    const lastOfFamily = new Map<string, Line>();
    for (const text of arrived) {
      const line = this.#byText.get(text)?.[0];
      if (line === undefined) {
        if (!(allowRepeats ? this.#pieces.has(text) : pieces.delete(text)) && this.#halfOf(text) === undefined)
          problems.push(`never written: ${JSON.stringify(text.slice(0, 80))}`);
        continue;
      }
      if (!line.isNumbered || seen.has(text)) continue;
      seen.add(text);
      const before = lastOfGeneration.get(line.generation);
      if (before !== undefined && before.order > line.order)
        problems.push(`out of order: ${nameOf(line)} after ${nameOf(before)}`);
      lastOfGeneration.set(line.generation, line);
      if (line.isLate || isConcurrent) continue;
      const neighbour = lastOfFamily.get(line.family);
      if (neighbour !== undefined && neighbour.order > line.order && neighbour !== before)
        problems.push(`out of order across a rotation: ${nameOf(line)} after ${nameOf(neighbour)}`);
      lastOfFamily.set(line.family, line);
    }
    return problems;
  }
}

function isIn(line: Line, { family, offset, bytes }: ToldGap): boolean {
  return line.family === family && line.end > offset && (bytes === undefined || line.start < offset + bytes);
}

function owedOf(lines: readonly Line[]): number {
  let count = 0;
  for (const line of lines) if (!line.isExcusable) count += 1;
  return count;
}

function countsOf(texts: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return counts;
}

function nameOf(line: Line): string {
  const what = line.isNumbered ? `${line.family} ${line.order}` : line.text.slice(0, 20);
  return `${what} (generation ${line.generation}${line.isLate ? ", late" : ""})`;
}
