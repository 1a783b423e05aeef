import { type BytePath, pathFromText, pathToBytes } from "../runtime/byte-path.ts";
import { PatternError } from "./pattern-error.ts";

type Token =
  | { readonly kind: "character"; readonly character: string }
  | { readonly kind: "any" }
  | { readonly kind: "star" }
  | BracketToken;

interface BracketToken {
  readonly kind: "bracket";
  readonly isNegated: boolean;
  /** First and last of each range, code points. */
  readonly ranges: readonly (readonly [number, number])[];
  readonly classes: readonly RegExp[];
  /** Bytes of a name that is no UTF-8 are no letters, nor anything else that has a class. */
  readonly isOfBytes: boolean;
}

/** As far as bash asks for them; what is no ASCII is classed as Unicode does. */
const CLASSES: ReadonlyMap<string, RegExp> = new Map([
  ["alnum", /[\p{Alphabetic}\p{Nd}]/u],
  ["alpha", /\p{Alphabetic}/u],
  ["ascii", /\p{ASCII}/u],
  ["blank", /[\t\p{Zs}]/u],
  ["cntrl", /\p{Cc}/u],
  ["digit", /[0-9]/],
  ["graph", /[^\p{Z}\p{C}]/u],
  ["lower", /\p{Lowercase}/u],
  ["print", /[^\p{C}\p{Zl}\p{Zp}]/u],
  ["punct", /[\p{P}\p{S}]/u],
  ["space", /\s/],
  ["upper", /\p{Uppercase}/u],
  ["word", /[_\p{Alphabetic}\p{Nd}]/u],
  ["xdigit", /[0-9A-Fa-f]/],
]);

/** Has a wildcard, escapes aside. */
export function isMagic(part: string): boolean {
  return /[*?[]/.test(part.replace(/\\./gs, ""));
}

export function withoutEscapes(part: string): string {
  return part.replace(/\\(.)/gs, "$1");
}

/**
 * The pattern of one name (between two slashes), with bash's meaning of `*`, `?`, `[...]`, `[!...]`, `[[:class:]]` and
 * backslash. A name that is UTF-8 is compared by characters, any other one by bytes.
 */
export class NamePattern {
  readonly #part: string;
  readonly #tokens: readonly Token[];
  readonly #matchesDot: boolean;
  #byteTokens: readonly Token[] | undefined;

  /**
   * @param matchesDot `*`, `?` and `[...]` match a leading dot, too
   * @throws PatternError
   */
  constructor(part: string, matchesDot: boolean) {
    this.#part = part;
    this.#tokens = tokensOf(part, false);
    this.#matchesDot = matchesDot;
  }

  matches(name: BytePath): boolean {
    if (name.startsWith(".") && !this.#matchesDot) {
      const [first] = this.#tokens;
      if (first?.kind !== "character" || first.character !== ".") return false;
    }
    if (isAscii(name)) return matchAll(this.#tokens, name);
    const text = utf8TextOf(name);
    if (text !== undefined) return matchAll(this.#tokens, HAS_PAIRS.test(text) ? Array.from(text) : text);
    this.#byteTokens ??= tokensOf(pathFromText(this.#part), true);
    return matchAll(this.#byteTokens, name);
  }
}

/** Goes back to the last star only, so that no pattern takes longer than its length times that of the name. */
function matchAll(tokens: readonly Token[], name: ArrayLike<string>): boolean {
  let at = 0;
  let token = 0;
  let starToken = -1;
  let starAt = 0;
  while (at < name.length) {
    const next = tokens[token];
    if (next?.kind === "star") {
      starToken = token;
      starAt = at;
      token += 1;
    } else if (next !== undefined && matchOne(next, name[at]!)) {
      token += 1;
      at += 1;
    } else if (starToken >= 0) {
      starAt += 1;
      at = starAt;
      token = starToken + 1;
    } else {
      return false;
    }
  }
  while (tokens[token]?.kind === "star") token += 1;
  return token === tokens.length;
}

function matchOne(token: Exclude<Token, { kind: "star" }>, character: string): boolean {
  if (token.kind === "any") return true;
  if (token.kind === "character") return token.character === character;
  const code = character.codePointAt(0)!;
  const isIn =
    token.ranges.some(([first, last]) => code >= first && code <= last) ||
    ((code < 0x80 || !token.isOfBytes) && token.classes.some((pattern) => pattern.test(character)));
  return isIn !== token.isNegated;
}

function tokensOf(part: string, isOfBytes: boolean): Token[] {
  const characters = Array.from(part);
  const tokens: Token[] = [];
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at]!;
    if (character === "\\") {
      at += 1;
      const escaped = characters[at];
      if (escaped === undefined) throw new PatternError("the \\ at the end of a name escapes nothing; leave it out");
      tokens.push({ kind: "character", character: escaped });
    } else if (character === "*") {
      // Stars in a row mean no more than one.
      if (tokens[tokens.length - 1]?.kind !== "star") tokens.push({ kind: "star" });
    } else if (character === "?") {
      tokens.push({ kind: "any" });
    } else if (character === "[") {
      const bracket = bracketOf(characters, at, isOfBytes);
      tokens.push(bracket.token);
      at = bracket.end;
    } else {
      tokens.push({ kind: "character", character });
    }
  }
  return tokens;
}

/** The bracket expression that begins at `start`; `end` is the place of its closing bracket. */
function bracketOf(
  characters: readonly string[],
  start: number,
  isOfBytes: boolean,
): { token: BracketToken; end: number } {
  const ranges: [number, number][] = [];
  const classes: RegExp[] = [];
  let at = start + 1;
  const isNegated = characters[at] === "!" || characters[at] === "^";
  if (isNegated) at += 1;
  const firstAt = at;
  for (;;) {
    if (characters[at] === "]" && at > firstAt) break;
    if (characters[at] === "[" && characters[at + 1] === ":") {
      const named = namedIn(characters, at, ":");
      if (named !== undefined) {
        const pattern = CLASSES.get(named.text);
        if (pattern === undefined) {
          throw new PatternError(
            `[:${named.text}:] is no class of characters; there are ${[...CLASSES.keys()].join(", ")}`,
          );
        }
        classes.push(pattern);
        at = named.end;
        continue;
      }
    }
    const first = elementOf(characters, at);
    at = first.end;
    if (characters[at] !== "-" || characters[at + 1] === "]" || characters[at + 1] === undefined) {
      ranges.push([first.code, first.code]);
      continue;
    }
    const last = elementOf(characters, at + 1);
    if (last.code < first.code) {
      const range = characters.slice(at - 1, last.end).join("");
      throw new PatternError(`the range ${range} is empty: its end comes before its beginning; swap them`);
    }
    ranges.push([first.code, last.code]);
    at = last.end;
  }
  return { token: { kind: "bracket", isNegated, ranges, classes, isOfBytes }, end: at };
}

/** One character of a bracket expression: itself, escaped, `[=a=]` or `[.a.]`. */
function elementOf(characters: readonly string[], at: number): { code: number; end: number } {
  for (const mark of ["=", "."]) {
    if (characters[at] !== "[" || characters[at + 1] !== mark) continue;
    const named = namedIn(characters, at, mark);
    if (named === undefined) continue;
    const [only, more] = Array.from(named.text);
    if (only === undefined || more !== undefined) {
      throw new PatternError(`[${mark}${named.text}${mark}] names no single character; write the character itself`);
    }
    return { code: only.codePointAt(0)!, end: named.end };
  }
  const isEscape = characters[at] === "\\";
  const character = characters[isEscape ? at + 1 : at];
  if (character === undefined) {
    throw new PatternError(
      "a [ has no closing ] before the next slash or the end; write [[] for a bracket that is part of the name",
    );
  }
  return { code: character.codePointAt(0)!, end: at + (isEscape ? 2 : 1) };
}

/** What stands between `[:` and `:]`, and the place behind it. */
function namedIn(characters: readonly string[], at: number, mark: string): { text: string; end: number } | undefined {
  for (let end = at + 2; end + 1 < characters.length; end += 1) {
    if (characters[end] === mark && characters[end + 1] === "]") {
      return { text: characters.slice(at + 2, end).join(""), end: end + 2 };
    }
  }
  return undefined;
}

const HAS_PAIRS = /[\ud800-\udfff]/;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isAscii(name: string): boolean {
  for (let at = 0; at < name.length; at += 1) if (name.charCodeAt(at) > 0x7f) return false;
  return true;
}

function utf8TextOf(name: BytePath): string | undefined {
  try {
    return strictUtf8.decode(pathToBytes(name));
  } catch {
    return undefined;
  }
}
