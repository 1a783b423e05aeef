/**
 * The number of single edits (insert, delete, replace, swap of two neighbours) between two words: Damerau-Levenshtein
 * in its "optimal string alignment" form, which never edits one place twice. Case counts as half an edit, so that
 * `Path` is nearer to `path` than `math` is.
 */
export function editDistance(from: string, to: string): number {
  const width = to.length + 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: width }, (_, at) => at);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column < width; column += 1) {
      let best = Math.min(
        last[column]! + 1,
        current[column - 1]! + 1,
        last[column - 1]! + replaceCost(from[row - 1]!, to[column - 1]!),
      );
      const isSwap = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      if (isSwap) best = Math.min(best, beforeLast[column - 2]! + 1);
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length]!;
}

function replaceCost(a: string, b: string): number {
  if (a === b) return 0;
  return a.toLowerCase() === b.toLowerCase() ? 0.5 : 1;
}

export interface Neighbour {
  readonly word: string;
  /** Near enough to be what was probably meant: about one edit in three characters. */
  readonly isLikely: boolean;
}

/** The nearest of `candidates`; among equals the first. Words longer than 200 characters are compared by their start. */
export function nearest(word: string, candidates: Iterable<string>): Neighbour | undefined {
  const short = word.slice(0, 200);
  let found: { word: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(short, candidate.slice(0, 200));
    if (found === undefined || distance < found.distance) found = { word: candidate, distance };
  }
  if (found === undefined) return undefined;
  const longer = Math.max(short.length, found.word.length);
  return { word: found.word, isLikely: found.distance <= Math.max(1, Math.ceil(longer / 3)) };
}

/**
 * "did you mean `x`?" when one is likely; else the nearest and (up to 12) what there is. Always names the nearest
 * neighbour where there is any candidate.
 */
export function suggestion(word: string, candidates: Iterable<string>): string {
  const all = [...new Set(candidates)];
  const neighbour = nearest(word, all);
  if (neighbour === undefined) return "there is none to choose from";
  if (neighbour.isLikely) return `did you mean \`${neighbour.word}\`?`;
  const listed = all.length <= 12 ? `; there is ${all.join(", ")}` : "";
  return `the nearest is \`${neighbour.word}\`${listed}`;
}
