/**
 * The condition language of `filter`, from text to a tree.
 *
 *     or         = and { "or" and }
 *     and        = not { "and" not }
 *     not        = "not" not | comparison
 *     comparison = operand [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) operand | "=~" regex ]
 *     operand    = field | literal | "exists" "(" field ")" | "(" or ")"
 *     field      = ( name | "[" string "]" ) { "." name | "[" ( string | index ) "]" }
 *     literal    = string | number | "true" | "false" | "null"
 *     regex      = string | "/" ... "/" [ flags ]
 *
 * A name is letters, digits, `_`, `-`, `@` and `$`, not starting with a digit or `-`. Strings stand in ' or " and know
 * the escapes \\ \' \" \/ \n \r \t and \uXXXX; in a string used as a regex, every other escape stays as it is, so that
 * `=~ '^\d+$'` means what it says.
 */

export type FieldPath = readonly (string | number)[];

export type Operand =
  | { readonly kind: "field"; readonly path: FieldPath }
  | { readonly kind: "literal"; readonly value: string | number | boolean | null };

export type ComparisonOperator = "==" | "!=" | "<" | "<=" | ">" | ">=";

export type Condition =
  | { readonly kind: "or" | "and"; readonly left: Condition; readonly right: Condition }
  | { readonly kind: "not"; readonly of: Condition }
  | { readonly kind: "compare"; readonly operator: ComparisonOperator; readonly left: Operand; readonly right: Operand }
  | { readonly kind: "match"; readonly left: Operand; readonly regex: RegExp }
  | { readonly kind: "exists"; readonly path: FieldPath }
  /** A field (true only if it is `true` itself) or a literal that stands alone. */
  | { readonly kind: "truth"; readonly of: Operand };

/** A mistake in a condition; `at` is the index of the character it is about. */
interface ConditionMistake {
  readonly message: string;
  readonly at: number;
}

/** The tree of `text`, or what is wrong with it: place, reason, and the line with a caret under the place. */
export function parseCondition(
  text: string,
): { readonly condition: Condition; readonly mistake?: undefined } | { readonly mistake: string } {
  try {
    return { condition: new Parser(text, tokensOf(text)).parse() };
  } catch (thrown) {
    if (thrown instanceof MistakeSignal) return { mistake: describe(text, thrown.mistake) };
    throw thrown;
  }
}

/** Carries a mistake out of the recursion; never leaves this file. */
class MistakeSignal extends Error {
  readonly mistake: ConditionMistake;

  constructor(message: string, at: number) {
    super(message);
    this.mistake = { message, at };
  }
}

function describe(text: string, { message, at }: ConditionMistake): string {
  const lineStart = text.lastIndexOf("\n", at - 1) + 1;
  const lineEnd = text.indexOf("\n", at) === -1 ? text.length : text.indexOf("\n", at);
  const line = text.slice(0, lineStart).split("\n").length;
  const where = text.trimEnd().includes("\n") ? `line ${line}, column ${at - lineStart + 1}` : `column ${at + 1}`;
  // Tabs are copied into the indent, so that the caret stands right whatever their width is.
  const indent = text.slice(lineStart, at).replace(/[^\t]/g, " ");
  return `${where}: ${message}\n  ${text.slice(lineStart, lineEnd)}\n  ${indent}^`;
}

// ---------------------------------------------------------------- tokens

type Token =
  | { readonly kind: "name" | "symbol" | "end"; readonly text: string; readonly at: number }
  | { readonly kind: "string"; readonly text: string; readonly at: number; readonly source: string }
  | { readonly kind: "number"; readonly text: string; readonly at: number; readonly value: number }
  | {
      readonly kind: "regex";
      readonly text: string;
      readonly at: number;
      readonly source: string;
      readonly flags: string;
    };

const SPACE = /[ \t\r\n]+/y;
const NAME = /[\p{L}_@$][\p{L}\p{N}_@$-]*/uy;
const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const SYMBOL = /==|!=|<=|>=|=~|<|>|\(|\)|\[|\]|\./y;
const REGEX = /\/((?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+)\/([A-Za-z]*)/y;

function tokensOf(text: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(text);
  };
  while (at < text.length) {
    const space = take(SPACE);
    if (space !== null) {
      at += space[0].length;
      continue;
    }
    const character = text[at]!;
    const token = character === "'" || character === '"' ? stringAt(text, at) : tokenAt(take, at);
    if (token === undefined) throw new MistakeSignal(unknownCharacter(text, at), at);
    tokens.push(token);
    at += token.text.length;
  }
  tokens.push({ kind: "end", text: "", at });
  return tokens;
}

function tokenAt(take: (pattern: RegExp) => RegExpExecArray | null, at: number): Token | undefined {
  const name = take(NAME);
  if (name !== null) return { kind: "name", text: name[0], at };
  const number = take(NUMBER);
  if (number !== null) return { kind: "number", text: number[0], at, value: Number(number[0]) };
  const regex = take(REGEX);
  if (regex !== null) return { kind: "regex", text: regex[0], at, source: regex[1]!, flags: regex[2]! };
  const symbol = take(SYMBOL);
  if (symbol !== null) return { kind: "symbol", text: symbol[0], at };
  return undefined;
}

function stringAt(text: string, at: number): Token {
  const quote = text[at]!;
  let end = at + 1;
  while (end < text.length && text[end] !== quote) end += text[end] === "\\" ? 2 : 1;
  if (end >= text.length) throw new MistakeSignal(`this string has no closing ${quote}`, at);
  return { kind: "string", text: text.slice(at, end + 1), at, source: text.slice(at + 1, end) };
}

/** What people write who think of another language. */
const OTHER_LANGUAGES: readonly (readonly [written: string, meant: string])[] = [
  ["&&", "and"],
  ["&", "and"],
  ["||", "or"],
  ["|", "or"],
  ["!~", "not ... =~"],
  ["!", "not"],
  ["=", "=="],
  ["~", "=~"],
];

function unknownCharacter(text: string, at: number): string {
  const meant = OTHER_LANGUAGES.find(([written]) => text.startsWith(written, at));
  if (meant !== undefined) return `${meant[0]} is written ${meant[1]} here`;
  if (text[at] === "/") return "this regular expression has no closing /";
  return `unexpected ${JSON.stringify(String.fromCodePoint(text.codePointAt(at)!))}`;
}

const SIMPLE_ESCAPES: { readonly [letter: string]: string } = { n: "\n", r: "\r", t: "\t" };

/** The value of a string literal; `at` is where its quote stands. */
function unescaped(source: string, at: number): string {
  return source.replace(/\\(u[0-9A-Fa-f]{4}|.)/gs, (whole, letters: string, index: number) => {
    if (letters.length === 5) return String.fromCharCode(Number.parseInt(letters.slice(1), 16));
    const simple = SIMPLE_ESCAPES[letters] ?? (`\\'"/`.includes(letters) ? letters : undefined);
    if (simple === undefined) {
      throw new MistakeSignal(`${whole} is no escape; a backslash itself is written \\\\`, at + 1 + index);
    }
    return simple;
  });
}

// ---------------------------------------------------------------- the tree

const KEYWORDS = new Set(["and", "or", "not", "exists", "true", "false", "null"]);
const OPERATORS = new Set<string>(["==", "!=", "<", "<=", ">", ">="]);

/** Deeper nesting is a mistake (or an attack on the stack), never a condition that somebody reads. */
const MAX_DEPTH = 100;

/** What stands between operators: a thing to compare, or something that is already true or false. */
type Part = { readonly operand: Operand; readonly at: number } | { readonly condition: Condition; readonly at: number };

class Parser {
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(text: string, tokens: readonly Token[]) {
    if (text.trim() === "") throw new MistakeSignal("the condition is empty", 0);
    this.#tokens = tokens;
  }

  parse(): Condition {
    const condition = this.#or();
    const token = this.#peek();
    if (token.kind !== "end") throw new MistakeSignal(afterCondition(token), token.at);
    return condition;
  }

  #peek(): Token {
    return this.#tokens[this.#next]!;
  }

  #take(): Token {
    const token = this.#peek();
    if (token.kind !== "end") this.#next += 1;
    return token;
  }

  #takeIf(kind: "name" | "symbol", text: string): boolean {
    const token = this.#peek();
    if (token.kind !== kind || token.text !== text) return false;
    this.#next += 1;
    return true;
  }

  #expect(text: string, why: string): void {
    const token = this.#peek();
    if (!this.#takeIf("symbol", text)) {
      throw new MistakeSignal(`expected ${text} ${why}, found ${nameOf(token)}`, token.at);
    }
  }

  #or(): Condition {
    let left = this.#and();
    while (this.#takeIf("name", "or")) left = { kind: "or", left, right: this.#and() };
    return left;
  }

  #and(): Condition {
    let left = this.#not();
    while (this.#takeIf("name", "and")) left = { kind: "and", left, right: this.#not() };
    return left;
  }

  #not(): Condition {
    return this.#takeIf("name", "not") ? { kind: "not", of: this.#nested(() => this.#not()) } : this.#comparison();
  }

  #nested<T>(parse: () => T): T {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) throw new MistakeSignal("this is nested too deeply", this.#peek().at);
    const result = parse();
    this.#depth -= 1;
    return result;
  }

  #comparison(): Condition {
    const left = this.#part("a field, a value, not, exists(...) or (");
    const operator = this.#peek();
    if (operator.kind !== "symbol" || !(OPERATORS.has(operator.text) || operator.text === "=~")) return truthOf(left);
    this.#take();
    const comparison: Condition =
      operator.text === "=~"
        ? { kind: "match", left: comparable(left), regex: this.#regex() }
        : {
            kind: "compare",
            operator: operator.text as ComparisonOperator,
            left: comparable(left),
            right: comparable(this.#part(`a value after ${operator.text}`)),
          };
    const next = this.#peek();
    if (next.kind === "symbol" && (OPERATORS.has(next.text) || next.text === "=~")) {
      throw new MistakeSignal("comparisons do not chain; write a < b and b < c", next.at);
    }
    return comparison;
  }

  #part(expected: string): Part {
    const token = this.#take();
    const { at } = token;
    if (token.kind === "string") return { operand: { kind: "literal", value: unescaped(token.source, at) }, at };
    if (token.kind === "number") return { operand: { kind: "literal", value: token.value }, at };
    if (token.kind === "symbol" && token.text === "(") return this.#parenthesis(at);
    if (token.kind === "symbol" && token.text === "[") return { operand: this.#field([this.#bracketName()]), at };
    if (token.kind === "name") {
      if (token.text === "exists") return { condition: this.#exists(), at };
      if (token.text === "true") return { operand: { kind: "literal", value: true }, at };
      if (token.text === "false") return { operand: { kind: "literal", value: false }, at };
      if (token.text === "null") return { operand: { kind: "literal", value: null }, at };
      if (!KEYWORDS.has(token.text)) return { operand: this.#field([token.text]), at };
    }
    if (token.kind === "regex") throw new MistakeSignal("a regular expression stands only behind =~", at);
    throw new MistakeSignal(`expected ${expected}, found ${nameOf(token)}`, at);
  }

  /** A lone operand keeps being one in parentheses: `(a) == 1`. */
  #parenthesis(at: number): Part {
    const first = this.#peek();
    const isLiteral = first.kind === "string" || first.kind === "number";
    if (isLiteral && this.#tokens[this.#next + 1]?.text === ")") {
      const literal = this.#part("a value");
      this.#take();
      return literal;
    }
    const inner = this.#nested(() => this.#or());
    this.#expect(")", `to close the ( of column ${at + 1}`);
    return inner.kind === "truth" ? { operand: inner.of, at } : { condition: inner, at };
  }

  #exists(): Condition {
    this.#expect("(", "after exists");
    const token = this.#take();
    if (token.kind === "symbol" && token.text === "[") {
      const { path } = this.#field([this.#bracketName()]);
      this.#expect(")", "after the field");
      return { kind: "exists", path };
    }
    if (token.kind !== "name" || KEYWORDS.has(token.text)) {
      throw new MistakeSignal(`expected a field, found ${nameOf(token)}`, token.at);
    }
    const { path } = this.#field([token.text]);
    this.#expect(")", "after the field");
    return { kind: "exists", path };
  }

  #field(path: (string | number)[]): { kind: "field"; path: FieldPath } {
    for (;;) {
      if (this.#takeIf("symbol", ".")) {
        const token = this.#take();
        if (token.kind !== "name") {
          throw new MistakeSignal(`expected a field name after the dot, found ${nameOf(token)}`, token.at);
        }
        path.push(token.text);
      } else if (this.#takeIf("symbol", "[")) {
        const token = this.#peek();
        if (token.kind === "number" && Number.isInteger(token.value) && token.value >= 0) {
          this.#take();
          path.push(token.value);
          this.#expect("]", "after the index");
        } else path.push(this.#bracketName());
      } else return { kind: "field", path };
    }
  }

  #bracketName(): string {
    const token = this.#take();
    if (token.kind !== "string") {
      throw new MistakeSignal(`expected a field name in quotes, found ${nameOf(token)}`, token.at);
    }
    this.#expect("]", "after the field name");
    return unescaped(token.source, token.at);
  }

  #regex(): RegExp {
    const token = this.#take();
    if (token.kind !== "string" && token.kind !== "regex") {
      throw new MistakeSignal(`expected a regular expression in quotes or /.../, found ${nameOf(token)}`, token.at);
    }
    const flags = token.kind === "regex" ? token.flags : "";
    // g and y keep a place between two calls: the same record would match only every other time.
    if (/[gy]/.test(flags)) throw new MistakeSignal("the flags g and y have no meaning here", token.at);
    // Within quotes only the quotes themselves and the line breaks need an escape: all others belong to the expression.
    const source =
      token.kind === "regex"
        ? token.source
        : token.source.replace(/\\(.)/gs, (whole, c: string) => (`'"`.includes(c) ? c : whole));
    try {
      return new RegExp(source, flags);
    } catch (thrown) {
      throw new MistakeSignal(`no valid regular expression: ${(thrown as Error).message}`, token.at);
    }
  }
}

function comparable(part: Part): Operand {
  if ("operand" in part) return part.operand;
  throw new MistakeSignal("only fields and values can be compared; join conditions with and, or, not", part.at);
}

function truthOf(part: Part): Condition {
  if ("condition" in part) return part.condition;
  const { operand } = part;
  if (operand.kind === "literal" && typeof operand.value !== "boolean") {
    throw new MistakeSignal(`${JSON.stringify(operand.value)} alone is no condition; compare it with a field`, part.at);
  }
  return { kind: "truth", of: operand };
}

function nameOf(token: Token): string {
  return token.kind === "end" ? "the end" : token.text;
}

function afterCondition(token: Token): string {
  const small = token.text.toLowerCase();
  if (token.kind === "name" && small !== token.text && KEYWORDS.has(small)) {
    return `${token.text} is written ${small} here`;
  }
  if (token.kind === "symbol" && token.text === ")") return "this ) closes nothing";
  return `expected and, or, or the end, found ${nameOf(token)}`;
}
