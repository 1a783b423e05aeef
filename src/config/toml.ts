import { type AST, ParseError, parseTOML } from "toml-eslint-parser";
import type { Mistake } from "../errors.ts";
import { isSecretName } from "../telemetry/redact.ts";
import { DEFINED_TWICE, TextWithDuplicates } from "./toml-duplicates.ts";
import { MAX_DEPTH, type Place, type TableNode, type TreeNode } from "./tree.ts";

/**
 * TOML text as a tree in which every key knows its line; none where a mistake of the syntax stopped the reading. Keys that
 * stand twice are mistakes that stop nothing: the first one counts.
 */
export interface ParsedToml {
  readonly table: TableNode | undefined;
  readonly mistakes: readonly Mistake[];
}

export function parseToml(source: string, file: string): ParsedToml {
  const text = new TextWithDuplicates(source);
  try {
    const mistakes: Mistake[] = [];
    const built = new TreeBuilder(file).build(text.parse().body[0]);
    return { table: text.joined(built, mistakes), mistakes };
  } catch (thrown) {
    return { table: undefined, mistakes: [...text.mistakes(file), syntaxMistake(thrown, text.text, file)] };
  }
}

/** One value as it may stand behind `key =`; undefined if the text is no single TOML value. */
export function parseTomlValue(text: string, place: Place): TreeNode | undefined {
  const parsed = parseToml(`v = ${text}`, place.file);
  if (parsed.mistakes.length > 0 || parsed.table?.entries.size !== 1) return undefined;
  const node = parsed.table.entries.get("v");
  return node === undefined ? undefined : withPlace(node, place);
}

/** `a.b."c d"` as its parts; undefined if the text is no TOML key. */
export function parseTomlKey(text: string): string[] | undefined {
  try {
    const [statement, ...more] = parseTOML(`${text} = 0`).body[0].body;
    if (statement?.type !== "TOMLKeyValue" || more.length > 0) return undefined;
    // A text with an equals sign of its own (`a = 1 #`) would leave another value behind.
    if (statement.value.type !== "TOMLValue" || statement.value.value !== 0 || /[\n#]/.test(text)) return undefined;
    return statement.key.keys.map(keyName);
  } catch {
    return undefined;
  }
}

function withPlace(node: TreeNode, place: Place): TreeNode {
  if (node.kind === "value") return { ...node, place };
  if (node.kind === "array") return { ...node, place, items: node.items.map((item) => withPlace(item, place)) };
  const entries = new Map([...node.entries].map(([key, child]) => [key, withPlace(child, place)]));
  return { ...node, place, entries };
}

class TooDeep extends Error {}

const keyName = (key: AST.TOMLBare | AST.TOMLQuoted): string => (key.type === "TOMLBare" ? key.name : key.value);

/** The parser has already refused what TOML forbids (a table over a value), so this only fills in. */
class TreeBuilder {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  build(top: AST.TOMLTopLevelTable): TableNode {
    const root = { kind: "table", place: { file: this.#file, line: 1 }, entries: new Map<string, TreeNode>() } as const;
    for (const statement of top.body) {
      if (statement.type === "TOMLKeyValue") this.#assign(root, statement, 0);
      else {
        const table = this.#tableAt(root, statement);
        for (const pair of statement.body) this.#assign(table, pair, statement.resolvedKey.length);
      }
    }
    return root;
  }

  #place(node: { loc: AST.HasLocs["loc"] }): Place {
    return { file: this.#file, line: node.loc.start.line };
  }

  #tableAt(root: TableNode, header: AST.TOMLTable): TableNode {
    const place = this.#place(header);
    const path = header.resolvedKey;
    if (path.length > MAX_DEPTH) throw new TooDeep();
    let table = root;
    for (let at = 0; at < path.length; at += 1) {
      const name = String(path[at]);
      const index = path[at + 1];
      if (typeof index !== "number") {
        table = childTable(table, name, place);
        continue;
      }
      let array = table.entries.get(name);
      if (array?.kind !== "array") {
        array = { kind: "array", place, items: [] };
        entriesOf(table).set(name, array);
      }
      const items = array.items as TreeNode[];
      if (items[index] === undefined) items[index] = { kind: "table", place, entries: new Map() };
      table = items[index] as TableNode;
      at += 1;
    }
    return table;
  }

  #assign(table: TableNode, pair: AST.TOMLKeyValue, depth: number): void {
    const place = this.#place(pair.key);
    const names = pair.key.keys.map(keyName);
    if (depth + names.length > MAX_DEPTH) throw new TooDeep();
    let target = table;
    for (const name of names.slice(0, -1)) target = childTable(target, name, place);
    entriesOf(target).set(names.at(-1)!, this.#node(pair.value, place, depth + names.length));
  }

  #node(value: AST.TOMLContentNode, place: Place, depth: number): TreeNode {
    if (depth > MAX_DEPTH) throw new TooDeep();
    if (value.type === "TOMLArray") {
      const items = value.elements.map((element) => this.#node(element, this.#place(element), depth + 1));
      return { kind: "array", place, items };
    }
    if (value.type === "TOMLInlineTable") {
      const table: TableNode = { kind: "table", place, entries: new Map() };
      for (const pair of value.body) this.#assign(table, pair, depth);
      return table;
    }
    return { kind: "value", place, value: value.value };
  }
}

/** While it is being built, and only then, a table's map may grow. */
const entriesOf = (table: TableNode): Map<string, TreeNode> => table.entries as Map<string, TreeNode>;

function childTable(table: TableNode, name: string, place: Place): TableNode {
  const there = table.entries.get(name);
  if (there?.kind === "table") return there;
  // `[list.key]` behind `[[list]]` means the newest item of the list.
  const newest = there?.kind === "array" ? there.items.at(-1) : undefined;
  if (newest?.kind === "table") return newest;
  const made: TableNode = { kind: "table", place, entries: new Map() };
  entriesOf(table).set(name, made);
  return made;
}

/** The parser's words -> ours: what is wrong, and what to do about it. */
const PLAIN_ENGLISH: ReadonlyMap<string, string> = new Map([
  ["Unterminated string constant", "the string has no closing quote"],
  ["Unterminated table-key", "the table name has no closing bracket"],
  ["Unterminated array", "the list is not closed; a `]` is missing"],
  ["Unterminated inline table", "the table in braces is not closed; a `}` is missing"],
  ["Empty bare keys are not allowed", "a key is missing in front of the equals sign"],
  ["Must be a newline", "there is more on this line after the value; put each key on a line of its own"],
  ["Expected equal (=) token", "an equals sign is missing; write `key = value`"],
  ["Unspecified values are invalid", "the value is missing; write `key = value`"],
  ["Expected comma (,) token", "a comma is missing between two items"],
  ["Underscores are allowed between digits", "an underscore in a number must stand between two digits"],
  ["Unexpected spaces", "there must be no space between the two brackets"],
  ["Three or more quotes are not permitted", "three quotes in a row end the string; escape one of them"],
  ["Leading zeros are not allowed", "a number must not begin with a zero"],
  ["Invalid character in escape sequence", "unknown backslash sequence; use single quotes for text with backslashes"],
  ["Unexpected invalid date", "this is no date of the calendar"],
  ["Unexpected invalid time", "this is no time of the day"],
  ["The key, equals sign, and value must be on the same line", "key, equals sign and value must stand on one line"],
]);

function syntaxMistake(thrown: unknown, text: string, file: string): Mistake {
  if (thrown instanceof TooDeep || thrown instanceof RangeError)
    return { file, message: `the tables are nested deeper than ${MAX_DEPTH} levels` };
  if (!(thrown instanceof ParseError)) return { file, message: "the file cannot be read as TOML" };
  const at = { file, line: thrown.lineNumber, column: thrown.column + 1 };
  const line = text.split(/\r\n|\n/)[thrown.lineNumber - 1] ?? "";
  return { ...at, message: inPlainEnglish(thrown.message, line, thrown.column) };
}

function inPlainEnglish(message: string, line: string, column: number): string {
  const known = PLAIN_ENGLISH.get(message);
  if (known !== undefined) return known;
  if (message === DEFINED_TWICE) {
    const name = /^[^\s=\]]+/.exec(line.slice(column))?.[0];
    return `${name === undefined ? "this key" : `\`${name}\``} is defined a second time in this file; write it once`;
  }
  if (message === "Unexpected character" || message === "Unexpected token") {
    const found = line.slice(column, column + 20).trim();
    const isValue = /=\s*$/.test(line.slice(0, column));
    // A line that may hold a password is not repeated.
    const name = /^\s*(?:[\w."'-]*\.)?([\w-]+)\s*=/.exec(line)?.[1] ?? "";
    if (isSecretName(name) || /:\/\/.*@/.test(line))
      return isValue ? "this is no TOML value; text stands in quotes" : "something is not expected here";
    if (isValue) return `\`${found}\` is no TOML value; text stands in quotes: "${found.replaceAll('"', "")}"`;
    return found === "" ? "something is missing at the end of this line" : `\`${found}\` is not expected here`;
  }
  return `${message.charAt(0).toLowerCase()}${message.slice(1)}`;
}
