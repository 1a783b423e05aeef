import type { Generation } from "./generation.ts";
import { type LineNumber, lineText, parseLine } from "./numbered-line.ts";

const FIRST_OF_GENERATION = 1;
/** Written to the old file when its successor was already there: its place among the others nothing promises. */
const LATE = 2;

/** What one family wrote: for each line its generation, its place, and how often it came at each sink. */
class FamilyLedger {
  readonly generations: Generation[] = [];
  lines = 0;
  generationOf = new Uint32Array(1024);
  offsetOf = new Float64Array(1024);
  flags = new Uint8Array(1024);
  /** How often each line came, by sink. */
  readonly came = new Map<string, Uint8Array>();
  /** Lines that came at least once, by sink. */
  readonly distinct = new Map<string, number>();

  constructor(sinks: readonly string[]) {
    for (const sink of sinks) {
      this.came.set(sink, new Uint8Array(1024));
      this.distinct.set(sink, 0);
    }
  }

  grow(): void {
    if (this.lines < this.flags.length) return;
    const size = this.flags.length * 2;
    this.generationOf = copied(this.generationOf, new Uint32Array(size));
    this.offsetOf = copied(this.offsetOf, new Float64Array(size));
    this.flags = copied(this.flags, new Uint8Array(size));
    for (const [sink, came] of this.came) this.came.set(sink, copied(came, new Uint8Array(size)));
  }
}

function copied<Numbers extends Uint8Array | Uint32Array | Float64Array>(from: Numbers, to: Numbers): Numbers {
  to.set(from);
  return to;
}

/** Every line that was written, and a counter for each at each sink. */
export class Ledger {
  readonly sinks: readonly string[];
  readonly #families = new Map<string, FamilyLedger>();

  constructor(sinks: readonly string[]) {
    this.sinks = sinks;
  }

  get families(): string[] {
    return [...this.#families.keys()];
  }

  get lines(): number {
    return this.#sum(({ lines }) => lines);
  }

  get generations(): number {
    return this.#sum(({ generations }) => generations.length);
  }

  /** Lines that came at least once. */
  arrived(sink: string): number {
    return this.#sum(({ distinct }) => distinct.get(sink)!);
  }

  beginGeneration(generation: Generation): void {
    const { family } = generation;
    const ledger = this.#families.get(family) ?? new FamilyLedger(this.sinks);
    this.#families.set(family, ledger);
    ledger.generations.push(generation);
  }

  generationsOf(family: string): readonly Generation[] {
    return this.#families.get(family)?.generations ?? [];
  }

  generationOf({ family, number }: LineNumber): Generation {
    const ledger = this.#families.get(family)!;
    return ledger.generations[ledger.generationOf[number]!]!;
  }

  /** The next line of a generation, written at `offset` of its file; its text without the delimiter. */
  write(generation: Generation, offset: number, isLate: boolean): string {
    const ledger = this.#families.get(generation.family)!;
    const number = ledger.lines;
    ledger.grow();
    const isFirst = generation.firstLine === -1;
    ledger.generationOf[number] = generation.number;
    ledger.offsetOf[number] = offset;
    ledger.flags[number] = (isFirst ? FIRST_OF_GENERATION : 0) | (isLate ? LATE : 0);
    ledger.lines += 1;
    if (isFirst) generation.firstLine = number;
    generation.lastLine = number;
    return lineText(generation.family, number, generation.number, isFirst);
  }

  /** Which line this is; undefined where it was never written so. */
  recognise(text: string): LineNumber | undefined {
    const line = parseLine(text);
    if (line === undefined) return undefined;
    const ledger = this.#families.get(line.family);
    if (ledger === undefined || line.number >= ledger.lines) return undefined;
    const { generationOf, flags } = ledger;
    const isFirst = (flags[line.number]! & FIRST_OF_GENERATION) !== 0;
    return lineText(line.family, line.number, generationOf[line.number]!, isFirst) === text ? line : undefined;
  }

  isLate({ family, number }: LineNumber): boolean {
    return (this.#families.get(family)!.flags[number]! & LATE) !== 0;
  }

  offsetOf({ family, number }: LineNumber): number {
    return this.#families.get(family)!.offsetOf[number]!;
  }

  cameTimes(sink: string, { family, number }: LineNumber): number {
    return this.#families.get(family)!.came.get(sink)![number]!;
  }

  count(sink: string, { family, number }: LineNumber): void {
    const ledger = this.#families.get(family)!;
    const came = ledger.came.get(sink)!;
    if (came[number] === 0) ledger.distinct.set(sink, ledger.distinct.get(sink)! + 1);
    if (came[number]! < 255) came[number]! += 1;
  }

  /** Takes one coming back: a crash cut the output. */
  uncount(sink: string, { family, number }: LineNumber): void {
    const ledger = this.#families.get(family)!;
    const came = ledger.came.get(sink)!;
    came[number]! -= 1;
    if (came[number] === 0) ledger.distinct.set(sink, ledger.distinct.get(sink)! - 1);
  }

  forget(sink: string): void {
    for (const ledger of this.#families.values()) {
      ledger.came.get(sink)!.fill(0);
      ledger.distinct.set(sink, 0);
    }
  }

  /** Whether each line of a generation has come at a sink. */
  has(sink: string, generation: Generation): boolean {
    if (generation.firstLine === -1) return true;
    const came = this.#families.get(generation.family)!.came.get(sink)!;
    for (let number = generation.firstLine; number <= generation.lastLine; number += 1)
      if (came[number] === 0) return false;
    return true;
  }

  /** Whether any line of a generation has come at a sink. */
  hasBegun(sink: string, { family, firstLine }: Generation): boolean {
    return firstLine !== -1 && this.#families.get(family)!.came.get(sink)![firstLine]! > 0;
  }

  /** Every line that did not come at a sink, in order of its family. */
  *missing(sink: string): Iterable<LineNumber> {
    for (const [family, { lines, came }] of this.#families) {
      const counts = came.get(sink)!;
      for (let number = 0; number < lines; number += 1) if (counts[number] === 0) yield { family, number };
    }
  }

  /** Comings beyond the first. */
  repeats(sink: string): number {
    return this.#sum(({ lines, came }) => {
      const counts = came.get(sink)!;
      let sum = 0;
      for (let number = 0; number < lines; number += 1) sum += Math.max(0, counts[number]! - 1);
      return sum;
    });
  }

  #sum(of: (ledger: FamilyLedger) => number): number {
    return [...this.#families.values()].reduce((sum, ledger) => sum + of(ledger), 0);
  }
}
