/**
 * The lines that torture writes: `B 0001234 g00017 xxxxxx.`, a family (a letter, or two), a number that only grows within it, the generation
 * of the file, and padding that follows from the number, so that a torn or glued line is seen to be one. The first line of
 * a generation has 1 KiB of equal bytes in front: no two files differ in the part that identifies short ones.
 */
const HEADER = "#".repeat(1024);

export interface LineNumber {
  readonly family: string;
  readonly number: number;
}

export function lineText(family: string, number: number, generation: number, isFirst: boolean): string {
  const padding = "x".repeat(30 + ((number * 7) % 60));
  const text = `${family} ${String(number).padStart(7, "0")} g${String(generation).padStart(5, "0")} ${padding}.`;
  return isFirst ? `${HEADER} ${text}` : text;
}

/** What a delivered line says it is; undefined where it is none of ours. Whether it is whole, the ledger says. */
export function parseLine(text: string): LineNumber | undefined {
  const found = /(?:^|[^A-Za-z])([A-Z][a-z]?) (\d{7}) g\d{5} x/.exec(text);
  return found === null ? undefined : { family: found[1]!, number: Number(found[2]) };
}

/** Every line of ours in a body, whatever is around it: JSON of any shape, or bare lines. */
export function linesIn(body: string): string[] {
  return body.match(/(?:#{1024} )?[A-Z][a-z]? \d{7} g\d{5} x+\./g) ?? [];
}
