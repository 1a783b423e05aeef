/** What is wrong with an output, in words that point at the lines; empty where all is right. */
export interface Verdict {
  readonly problems: readonly string[];
  /** Lines that came again. */
  readonly duplicates: number;
  readonly lines: number;
}

/**
 * Compares what arrived with what was written: each line once, in order within its file. With `allowRepeats` a line may
 * come again (it is counted), and the first comings must be in order.
 * @param options.late lines whose place among their neighbours nothing promises
 * @param written file name -> its lines, in order, each starting with "<file> <seq> "
 */
export function verify(
  written: ReadonlyMap<string, readonly string[]>,
  arrived: readonly string[],
  options: { allowRepeats: boolean; late?: ReadonlySet<string> },
): Verdict {
  const problems: string[] = [];
  let duplicates = 0;
  const numbers = new Map<string, Map<string, number>>();
  for (const [file, lines] of written) numbers.set(file, new Map(lines.map((line, index) => [line, index])));
  const seen = new Map<string, Set<number>>([...written.keys()].map((file) => [file, new Set()]));
  const highest = new Map<string, number>();
  for (const [at, line] of arrived.entries()) {
    const file = line.slice(0, Math.max(0, line.indexOf(" ")));
    const number = numbers.get(file)?.get(line);
    if (number === undefined) {
      problems.push(`output line ${at + 1} was never written: ${JSON.stringify(line.slice(0, 120))}`);
      continue;
    }
    const ofFile = seen.get(file)!;
    if (ofFile.has(number)) {
      duplicates += 1;
      if (!options.allowRepeats) problems.push(`duplicate: ${file} ${number + 1}, again at output line ${at + 1}`);
      continue;
    }
    ofFile.add(number);
    if (options.late?.has(line)) continue;
    const last = highest.get(file) ?? -1;
    if (number < last)
      problems.push(`out of order: ${file} ${number + 1} comes after ${last + 1}, at output line ${at + 1}`);
    highest.set(file, Math.max(last, number));
  }
  for (const [file, lines] of written) problems.push(...gapsOf(file, lines.length, seen.get(file)!));
  return { problems, duplicates, lines: arrived.length };
}

function gapsOf(file: string, count: number, seen: ReadonlySet<number>): string[] {
  const gaps: string[] = [];
  for (let number = 0; number < count; number += 1) {
    if (seen.has(number)) continue;
    const first = number;
    while (number + 1 < count && !seen.has(number + 1)) number += 1;
    gaps.push(`missing: ${file} ${first + 1}${number > first ? ` to ${number + 1}` : ""} of ${count}`);
  }
  return gaps;
}

/** The first problems and their number, one a line. */
export function describeProblems(verdict: Verdict): string {
  const shown = verdict.problems.slice(0, 20).join("\n");
  return verdict.problems.length > 20 ? `${shown}\n... and ${verdict.problems.length - 20} more` : shown;
}
