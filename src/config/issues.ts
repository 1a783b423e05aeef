import type { z } from "zod";
import type { Mistake } from "../errors.ts";
import { maskUrls } from "../telemetry/redact.ts";
import { expectation, isSecretAt, type Shapes, shapesAt } from "./schema-walk.ts";
import { parseTomlValue } from "./toml.ts";
import {
  formatKey,
  type KeyPath,
  mistakeAt,
  nodeAt,
  type TableNode,
  type TreeNode,
  toPlain,
  withNode,
} from "./tree.ts";

type Issue = z.core.$ZodIssue;

/** One table of the configuration that one schema describes. */
export interface Checked {
  /** Where the table stands; `[]` for the root. */
  readonly path: KeyPath;
  readonly shapes: Shapes;
  readonly schema: z.ZodType;
  /** Keys of the table that another schema describes. */
  readonly without?: readonly string[];
}

export type CheckResult =
  /** `tree` has the values that took the type of their key. */
  { readonly tree: TableNode; readonly value: unknown; readonly mistakes: readonly Mistake[] };

/**
 * Parses one table with its schema. A string that was one whole substitution takes its key's type, and a `--set` value
 * of a key that wants a string stays the text it was. `value` is undefined where there are mistakes.
 */
export function check(tree: TableNode, checked: Checked): CheckResult {
  let current = tree;
  let result = checked.schema.safeParse(plainAt(current, checked));
  if (!result.success) {
    const fitted = fitTypes(current, checked, result.error.issues);
    if (fitted !== current) {
      current = fitted;
      result = checked.schema.safeParse(plainAt(current, checked));
    }
  }
  if (result.success) return { tree: current, value: result.data, mistakes: [] };
  return { tree: current, value: undefined, mistakes: describeIssues(current, checked, result.error.issues) };
}

function plainAt(tree: TableNode, checked: Checked): unknown {
  const node = nodeAt(tree, checked.path);
  const plain = node === undefined ? {} : toPlain(node);
  if (node?.kind === "table")
    for (const key of checked.without ?? []) delete (plain as { [key: string]: unknown })[key];
  return plain;
}

function fitTypes(tree: TableNode, checked: Checked, issues: readonly Issue[]): TableNode {
  let fitted = tree;
  for (const issue of issues) {
    if (issue.code !== "invalid_type" && issue.code !== "invalid_union") continue;
    const path = [...checked.path, ...(issue.path as KeyPath)];
    const node = nodeAt(fitted, path);
    if (node?.kind !== "value") continue;
    const other = inAnotherType(node);
    if (other !== undefined) fitted = withNode(fitted, path, other);
  }
  return fitted;
}

function inAnotherType(node: Extract<TreeNode, { kind: "value" }>): TreeNode | undefined {
  if (typeof node.value !== "string") return node.setText === undefined ? undefined : { ...node, value: node.setText };
  if (!node.isWholeSubstitution) return undefined;
  const typed = parseTomlValue(node.value, node.place);
  if (typed === undefined || (typed.kind === "value" && typeof typed.value === "string")) return undefined;
  return { ...node, ...typed };
}

function describeIssues(tree: TableNode, checked: Checked, issues: readonly Issue[]): Mistake[] {
  const mistakes = new Map<string, Mistake>();
  for (const issue of issues) {
    // Unknown keys are looked for in one place, with their neighbours (unknown-keys.ts).
    if (issue.code === "unrecognized_keys") continue;
    const path = [...checked.path, ...(issue.path as KeyPath)];
    const mistake = mistakeAt(tree, path, messageOf(issue, nodeAt(tree, path), checked));
    // Several checks of one value say the same thing: what the key wants.
    const identity = formatKey(path) + (isOwnWords(issue) ? mistake.message : "");
    if (!mistakes.has(identity)) mistakes.set(identity, mistake);
  }
  return [...mistakes.values()];
}

/** Whether the schema's author wrote the message (zod's own begin with these words). */
const isOwnWords = (issue: Issue): boolean => !/^(?:Invalid|Too (?:small|big)|Unrecognized)/.test(issue.message);

function messageOf(issue: Issue, node: TreeNode | undefined, checked: Checked): string {
  const path = issue.path as KeyPath;
  const wanted = expectation(shapesAt(checked.shapes, path));
  if (node === undefined) return wanted === "" ? lowerFirst(issue.message) : `is missing; give ${wanted}`;
  const shown = isSecretAt(checked.shapes, path) ? undefined : show(node);
  const is = shown === undefined ? "is not as it should be" : `is ${shown}`;
  if (isOwnWords(issue)) return maskUrls(`${is}; ${lowerFirst(issue.message)}`);
  if (node.kind === "array" && issue.code === "too_small") return `is too short; give at least ${issue.minimum}`;
  if (node.kind === "array" && issue.code === "too_big") return `is too long; give at most ${issue.maximum}`;
  if (issue.code === "invalid_format") return `${is}; give ${formatWords(issue)}`;
  return `${is}; give ${wanted === "" ? "another value" : wanted}`;
}

function formatWords(issue: Issue & { code: "invalid_format" }): string {
  if (issue.format === "regex") return `text that fits ${String(issue.pattern)}`;
  return `a valid ${issue.format === "url" ? "URL" : issue.format}`;
}

/** A value as a person wrote it, short, and without the user info of URLs. */
export function show(node: TreeNode): string {
  if (node.kind === "table") return "a table";
  if (node.kind === "array") return "a list";
  if (node.value instanceof Date) return "a date";
  if (typeof node.value === "function") return "a function";
  if (typeof node.value === "object" && node.value !== null) return "an object";
  if (typeof node.value !== "string") return String(node.value);
  const text = maskUrls(node.value);
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}...` : text);
}

const lowerFirst = (text: string): string =>
  /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
