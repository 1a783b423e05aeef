import type { Mistake } from "../errors.ts";
import { formatKey, type KeyPath, type TableNode, type TreeNode, type ValueNode } from "./tree.ts";

type Environment = { readonly [name: string]: string | undefined };

/**
 * `${VAR}` and `${VAR:-default}` inside strings, never in keys. An empty variable takes the default; an unset one
 * without a default is a mistake. A default may hold substitutions itself. `$${` stands for a plain `${`.
 */
export function substituteTree(tree: TableNode, env: Environment, mistakes: Mistake[]): TableNode {
  return substituteNode(tree, env, mistakes, []) as TableNode;
}

function substituteNode(node: TreeNode, env: Environment, mistakes: Mistake[], path: KeyPath): TreeNode {
  if (node.kind === "table") {
    const entries = new Map<string, TreeNode>();
    for (const [key, child] of node.entries) entries.set(key, substituteNode(child, env, mistakes, [...path, key]));
    return { ...node, entries };
  }
  if (node.kind === "array")
    return { ...node, items: node.items.map((item, at) => substituteNode(item, env, mistakes, [...path, at])) };
  if (typeof node.value !== "string" || node.isLiteral || !node.value.includes("${")) return node;
  const text = new Substitution(env).run(node.value);
  for (const message of text.problems) mistakes.push({ ...node.place, key: formatKey(path), message });
  return { ...node, value: text.value, variables: text.variables, isWholeSubstitution: text.isWhole } as ValueNode;
}

interface Substituted {
  readonly value: string;
  readonly variables: readonly string[];
  readonly problems: readonly string[];
  readonly isWhole: boolean;
}

class Substitution {
  readonly #env: Environment;
  readonly #variables = new Set<string>();
  readonly #problems: string[] = [];

  constructor(env: Environment) {
    this.#env = env;
  }

  run(text: string): Substituted {
    const isWhole = text.startsWith("${") && closingBrace(text, 2) === text.length - 1;
    const value = this.#expand(text);
    return { value, variables: [...this.#variables], problems: this.#problems, isWhole };
  }

  #expand(text: string): string {
    let expanded = "";
    let at = 0;
    while (at < text.length) {
      const start = text.indexOf("${", at);
      if (start < 0) break;
      if (start > at && text[start - 1] === "$") {
        expanded += `${text.slice(at, start - 1)}\${`;
        at = start + 2;
        continue;
      }
      const end = closingBrace(text, start + 2);
      if (end < 0) {
        this.#problems.push(`\`\${\` is not closed; a \`}\` is missing (a plain \`\${\` is written \`$\${\`)`);
        break;
      }
      expanded += text.slice(at, start) + this.#valueOf(text.slice(start + 2, end));
      at = end + 1;
    }
    return expanded + text.slice(at);
  }

  #valueOf(inside: string): string {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/.exec(inside);
    if (match === null) {
      const shown = inside.slice(0, 40);
      this.#problems.push(
        `\`\${${shown}}\` is no substitution; write \${NAME} or \${NAME:-default} (a plain \`\${\` is written \`$\${\`)`,
      );
      return "";
    }
    const [, name, fallback] = match as unknown as [string, string, string | undefined];
    this.#variables.add(name);
    const value = Object.hasOwn(this.#env, name) ? this.#env[name] : undefined;
    if (fallback !== undefined) return value ? value : this.#expand(fallback);
    if (value === undefined)
      this.#problems.push(`environment variable ${name} is not set; set it, or give a default: \${${name}:-something}`);
    return value ?? "";
  }
}

/** Where the `}` of a substitution is whose inside begins at `from`; nested ones are skipped. */
function closingBrace(text: string, from: number): number {
  let depth = 1;
  for (let at = from; at < text.length; at += 1) {
    if (text.startsWith("${", at)) depth += 1;
    else if (text[at] === "}" && --depth === 0) return at;
  }
  return -1;
}
