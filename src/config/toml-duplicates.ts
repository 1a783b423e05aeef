import { type AST, ParseError, parseTOML } from "toml-eslint-parser";
import type { Mistake } from "../errors.ts";
import { formatKey, formatPlace, joinWithinLayer, type KeyPath, type TableNode, type TreeNode } from "./tree.ts";

/** The parser's word for a key or a table that stands twice. */
export const DEFINED_TWICE = "Defining a key multiple times is invalid";

/** The text is read once more for each; somebody who has more of them than this mends those first. */
const MOST = 100;

/** A key as it is written: bare, or in either quotes. */
const KEY = /^(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\w-]+)/;

/**
 * A text in which keys may stand twice, where the parser stops at the first of them. Each second one gets a name that
 * nobody uses, and the text is read again; in the tree they are found by those names, with what they were defined beside.
 *
 *     [api]                    [api]
 *     enabled = true           enabled = true
 *     enabled = false   -->    twice-0 = false      (lines stay where they are)
 */
export class TextWithDuplicates {
  #text: string;
  readonly #prefix: string;
  readonly #written: { readonly name: string; readonly line: number }[] = [];

  constructor(text: string) {
    this.#text = text;
    let prefix = "twice-";
    while (text.includes(prefix)) prefix = `${prefix}-`;
    this.#prefix = prefix;
  }

  /** As the parser has read it last. */
  get text(): string {
    return this.#text;
  }

  /** @throws ParseError of any other kind, or once there are too many. */
  parse(): AST.TOMLProgram {
    for (;;) {
      try {
        return parseTOML(this.#text);
      } catch (thrown) {
        if (!(thrown instanceof ParseError) || thrown.message !== DEFINED_TWICE || !this.#rename(thrown)) throw thrown;
      }
    }
  }

  #rename({ index, lineNumber: line }: ParseError): boolean {
    const [key] = KEY.exec(this.#text.slice(index)) ?? [];
    if (key === undefined || this.#written.length >= MOST) return false;
    this.#text = `${this.#text.slice(0, index)}${this.#prefix}${this.#written.length}${this.#text.slice(index + key.length)}`;
    this.#written.push({ name: plainName(key), line });
    return true;
  }

  /** What was renamed, where no tree can be had that would say more. */
  mistakes(file: string): Mistake[] {
    return this.#written.map(({ name, line }) => ({ file, line, message: secondOf(name) }));
  }

  /** The tree in which the first definition counts, and a table that was opened twice is one. */
  joined(table: TableNode, mistakes: Mistake[], path: KeyPath = []): TableNode {
    if (this.#written.length === 0) return table;
    const firsts = new Map<string, TreeNode>();
    const seconds: [name: string, node: TreeNode][] = [];
    for (const [key, node] of table.entries) {
      const written = key.startsWith(this.#prefix) ? this.#written[Number(key.slice(this.#prefix.length))] : undefined;
      const name = written?.name ?? key;
      const inside = this.#inside(node, mistakes, [...path, name]);
      if (written === undefined) firsts.set(name, inside);
      else seconds.push([name, inside]);
    }
    let joined: TableNode = { ...table, entries: firsts };
    for (const [name, node] of seconds) {
      const first = joined.entries.get(name);
      const key = [...path, name];
      if (first?.kind === "table" && node.kind === "table")
        mistakes.push({
          ...node.place,
          key: formatKey(key),
          message: `this table begins twice in one file; it stands in ${formatPlace(first.place)} already, make them one`,
        });
      // A second without its first would otherwise be taken for right.
      if (first === undefined) mistakes.push({ ...node.place, key: formatKey(key), message: secondOf(name) });
      joined = joinWithinLayer(joined, { ...table, entries: new Map([[name, node]]) }, mistakes, path);
    }
    return joined;
  }

  #inside(node: TreeNode, mistakes: Mistake[], path: KeyPath): TreeNode {
    if (node.kind === "table") return this.joined(node, mistakes, path);
    if (node.kind === "value") return node;
    return { ...node, items: node.items.map((item, at) => this.#inside(item, mistakes, [...path, at])) };
  }
}

const secondOf = (name: string): string => `\`${name}\` is defined a second time in this file; write it once`;

/** Without its quotes, and with what its escapes stand for. */
function plainName(key: string): string {
  const [pair] = parseTOML(`${key} = 0`).body[0].body;
  const [name] = pair?.type === "TOMLKeyValue" ? pair.key.keys : [];
  return name?.type === "TOMLQuoted" ? name.value : key;
}
