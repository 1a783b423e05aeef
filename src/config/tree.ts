import type { Mistake } from "../errors.ts";

/** Where a key was set: a file and its line, or a word such as `--set` and no line. */
export interface Place {
  readonly file: string;
  /** 1-based. */
  readonly line?: number;
}

/**
 * A configuration before it is checked: every key with the place that set it. Trees are never changed, only rebuilt;
 * keys live in maps, so that no key (`__proto__`) is special.
 */
export type TreeNode = TableNode | ArrayNode | ValueNode;

export interface TableNode {
  readonly kind: "table";
  readonly place: Place;
  readonly entries: ReadonlyMap<string, TreeNode>;
}

interface ArrayNode {
  readonly kind: "array";
  readonly place: Place;
  readonly items: readonly TreeNode[];
  /** Where a lower layer had set the same key, nearest first. */
  readonly overrides?: readonly Place[];
}

export interface ValueNode {
  readonly kind: "value";
  readonly place: Place;
  /** From TOML a string, number, boolean or Date; from code anything that is no list and no plain table. */
  readonly value: unknown;
  readonly overrides?: readonly Place[];
  /** The value is taken as it stands: `${...}` in it is no substitution. */
  readonly isLiteral?: boolean;
  /** Environment variables that went into the value. */
  readonly variables?: readonly string[];
  /** The string was one whole substitution, so that it takes the type of its key. */
  readonly isWholeSubstitution?: boolean;
  /** As it was written after `--set key=`: for a key that wants a string, `--set token=123` means "123". */
  readonly setText?: string;
}

/** Names of tables and keys from the root on; numbers are array positions. */
export type KeyPath = readonly (string | number)[];

/** Deeper than any real configuration; a bound, so that walking a tree cannot exhaust the stack. */
export const MAX_DEPTH = 64;

export const emptyTable = (place: Place): TableNode => ({ kind: "table", place, entries: new Map() });

/** `a.b."c d"[2]`, as TOML would write the key. */
export function formatKey(path: KeyPath): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else text += `${text === "" ? "" : "."}${/^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part)}`;
  }
  return text;
}

/** The node at `path`, if something was written there. */
export function nodeAt(root: TreeNode, path: KeyPath): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const part of path) {
    if (node?.kind === "table") node = node.entries.get(String(part));
    else if (node?.kind === "array" && typeof part === "number") node = node.items[part];
    else return undefined;
  }
  return node;
}

/** The place of `path`, or of the nearest thing above it that was written somewhere. */
function placeOf(root: TreeNode, path: KeyPath): Place | undefined {
  for (let length = path.length; length > 0; length -= 1) {
    const node = nodeAt(root, path.slice(0, length));
    if (node !== undefined) return node.place;
  }
  return undefined;
}

/** A mistake at `path`, with its file and line. */
export function mistakeAt(root: TreeNode, path: KeyPath, message: string): Mistake {
  return { ...placeOf(root, path), key: formatKey(path), message };
}

/** Plain data without places. Tables have no prototype. */
export function toPlain(node: TreeNode): unknown {
  if (node.kind === "value") return node.value;
  if (node.kind === "array") return node.items.map(toPlain);
  const table = Object.create(null) as { [key: string]: unknown };
  for (const [key, child] of node.entries) table[key] = toPlain(child);
  return table;
}

/** The same tree with the node at `path` replaced. */
export function withNode(root: TableNode, path: KeyPath, node: TreeNode): TableNode {
  return replace(root, path, node) as TableNode;
}

function replace(at: TreeNode, path: KeyPath, node: TreeNode): TreeNode {
  const [head, ...rest] = path;
  if (head === undefined) return node;
  if (at.kind === "table") {
    const child = at.entries.get(String(head));
    if (child === undefined) return at;
    return { ...at, entries: new Map(at.entries).set(String(head), replace(child, rest, node)) };
  }
  if (at.kind === "array" && typeof head === "number") {
    return { ...at, items: at.items.map((item, index) => (index === head ? replace(item, rest, node) : item)) };
  }
  return at;
}

/** A higher layer over a lower one: tables merge deep; anything else, arrays too, replaces. */
export function overlay(lower: TableNode, upper: TableNode): TableNode {
  const entries = new Map(lower.entries);
  for (const [key, node] of upper.entries) {
    const below = entries.get(key);
    if (below?.kind === "table" && node.kind === "table") entries.set(key, overlay(below, node));
    else if (below === undefined || below.kind === "table" || node.kind === "table") entries.set(key, node);
    else entries.set(key, { ...node, overrides: [below.place, ...(below.overrides ?? [])] });
  }
  return { ...lower, entries };
}

/** Two files of one layer: tables merge deep, and a key that both set is a mistake of the second. */
export function joinWithinLayer(
  first: TableNode,
  second: TableNode,
  mistakes: Mistake[],
  path: KeyPath = [],
): TableNode {
  const entries = new Map(first.entries);
  for (const [key, node] of second.entries) {
    const there = entries.get(key);
    const here = [...path, key];
    if (there === undefined) entries.set(key, node);
    else if (there.kind === "table" && node.kind === "table")
      entries.set(key, joinWithinLayer(there, node, mistakes, here));
    else
      mistakes.push({
        ...node.place,
        key: formatKey(here),
        message: `is set twice in one layer; it stands in ${formatPlace(there.place)} already, remove one of the two`,
      });
  }
  return { ...first, entries };
}

export function formatPlace(place: Place): string {
  return place.line === undefined ? place.file : `${place.file}:${place.line}`;
}

/**
 * A tree out of data (a configuration written in TypeScript, or made by a command). Functions and instances of classes,
 * which a stage of a library user may take, stay what they are.
 */
export function treeFrom(
  value: unknown,
  place: Place,
  options: { isLiteral?: boolean; lines?: { lineOf(path: KeyPath): number | undefined } } = {},
): TreeNode | undefined {
  const placeOfKey = (path: KeyPath): Place => {
    const line = options.lines?.lineOf(path);
    return line === undefined ? place : { ...place, line };
  };
  return build(value, { placeOfKey, isLiteral: options.isLiteral === true }, [], new Set());
}

function build(
  value: unknown,
  how: { readonly placeOfKey: (path: KeyPath) => Place; readonly isLiteral: boolean },
  path: KeyPath,
  above: ReadonlySet<unknown>,
): TreeNode | undefined {
  if (value === undefined) return undefined;
  const place = how.placeOfKey(path);
  const isOpen = above.size < MAX_DEPTH && !above.has(value);
  const inside = (child: unknown, key: string | number) => build(child, how, [...path, key], new Set(above).add(value));
  if (isOpen && Array.isArray(value))
    return { kind: "array", place, items: value.map(inside).filter((item) => item !== undefined) };
  if (isOpen && isPlainObject(value)) {
    const entries = new Map<string, TreeNode>();
    for (const [key, child] of Object.entries(value)) {
      const node = inside(child, key);
      if (node !== undefined) entries.set(key, node);
    }
    return { kind: "table", place, entries };
  }
  return { kind: "value", place, value, ...(how.isLiteral ? { isLiteral: true } : {}) };
}

/** `{ ... }`, not an instance of some class. */
export function isPlainObject(value: unknown): value is { readonly [key: string]: unknown } {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value) as unknown;
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}
