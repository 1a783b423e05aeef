import { PatternError } from "./pattern-error.ts";

/** More words than that from one pattern are a slip of the pen (`{1..99999999}`), and would be looked for each second. */
export const MAX_ALTERNATIVES = 10_000;

/**
 * Brace expansion as bash does it, before anything else is looked at, so that alternatives may hold slashes and wildcards
 * and begin in different folders: `{/a,/b}/*.log`, `x{1..3}`, `{01..12}`, `{a,b{1,2}}`. A backslash takes the meaning
 * away; braces without a comma or a sequence in them are letters like any other.
 *
 * @throws PatternError for more than MAX_ALTERNATIVES words
 */
export function expandBraces(text: string): string[] {
  const opening = openingBrace(text);
  if (opening === undefined) return [text];
  const before = text.slice(0, opening.at);
  const inner = text.slice(opening.at + 1, opening.end);
  const after = text.slice(opening.end + 1);
  const middle = hasComma(inner) ? alternativesOf(inner) : (sequenceOf(inner) ?? [`{${inner}}`]);
  return joined([before], joined(middle, after === "" ? [""] : expandBraces(after)));
}

function joined(heads: readonly string[], tails: readonly string[]): string[] {
  refuseTooMany(heads.length * tails.length);
  return heads.flatMap((head) => tails.map((tail) => head + tail));
}

function refuseTooMany(count: number): void {
  if (count > MAX_ALTERNATIVES) throw new PatternError(`its braces stand for more than ${MAX_ALTERNATIVES} patterns`);
}

/** The first brace that begins an expansion, and its end. */
function openingBrace(text: string): { readonly at: number; readonly end: number } | undefined {
  for (let at = seek(text, 0, "{"); at !== undefined; at = seek(text, at + 1, "{")) {
    const end = seek(text, at + 1, "}");
    if (end !== undefined) return { at, end };
  }
  return undefined;
}

/**
 * The next `wanted` outside of inner braces, or undefined. A closing brace counts only behind a comma or `..`, which is
 * why bash makes `a}` and `b` of `{a},b}`.
 */
function seek(text: string, from: number, wanted: "{" | "}" | ","): number | undefined {
  let level = 0;
  let hasChoice = wanted !== "}";
  for (let at = from; at < text.length; at += 1) {
    const character = text[at]!;
    if (character === "\\") {
      at += 1;
      continue;
    }
    if (character === wanted && level === 0 && hasChoice && !isEmptyPair(text, at)) return at;
    if (character === "{") level += 1;
    else if (character === "}" && level > 0) level -= 1;
    else if (level === 0 && (character === "," || (text.startsWith("..", at) && text[at + 2] !== "}")))
      hasChoice = true;
  }
  return undefined;
}

/** `{}` at the beginning of a word is two letters (as `find -exec` wants it). */
function isEmptyPair(text: string, at: number): boolean {
  return at === 0 && text.startsWith("{}");
}

function hasComma(inner: string): boolean {
  for (let at = 0; at < inner.length; at += 1) {
    if (inner[at] === "\\") at += 1;
    else if (inner[at] === ",") return true;
  }
  return false;
}

function alternativesOf(inner: string): string[] {
  const words: string[] = [];
  let start = 0;
  for (;;) {
    const comma = seek(inner, start, ",");
    words.push(...expandBraces(inner.slice(start, comma)));
    refuseTooMany(words.length);
    if (comma === undefined) return words;
    start = comma + 1;
  }
}

/** `1..5`, `05..1`, `a..e`, each with a step; undefined: no sequence. */
function sequenceOf(inner: string): string[] | undefined {
  const parts = /^(?:([-+]?\d+)\.\.([-+]?\d+)|([A-Za-z])\.\.([A-Za-z]))(?:\.\.([-+]?\d+))?$/.exec(inner);
  if (parts === null) return undefined;
  const [, firstNumber, lastNumber, firstLetter, lastLetter, stepText] = parts;
  const isNumeric = firstNumber !== undefined;
  const first = isNumeric ? Number(firstNumber) : firstLetter!.charCodeAt(0);
  const last = isNumeric ? Number(lastNumber) : lastLetter!.charCodeAt(0);
  const step = Math.abs(Number(stepText ?? 1)) || 1;
  refuseTooMany(Math.floor(Math.abs(last - first) / step) + 1);
  const digits = isNumeric && isPadded(firstNumber, lastNumber!) ? Math.max(firstNumber.length, lastNumber!.length) : 0;
  const words: string[] = [];
  const direction = last < first ? -1 : 1;
  for (let value = first; direction * (last - value) >= 0; value += direction * step) {
    words.push(isNumeric ? padded(value, digits) : String.fromCharCode(value));
  }
  return words;
}

function isPadded(...texts: readonly string[]): boolean {
  return texts.some((text) => /^-?0\d/.test(text));
}

function padded(value: number, digits: number): string {
  return value < 0 ? `-${String(-value).padStart(digits - 1, "0")}` : String(value).padStart(digits, "0");
}
