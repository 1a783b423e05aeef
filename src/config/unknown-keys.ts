import type { Mistake } from "../errors.ts";
import { suggestion } from "./nearest.ts";
import { childShapes, isTable, keysOf, type Shapes, shapesAt, takesAnyKey } from "./schema-walk.ts";
import { formatKey, type KeyPath, mistakeAt, type TableNode, type TreeNode } from "./tree.ts";

/**
 * Every key that the schema does not know, each with what was probably meant:
 *
 * - the section of a channel without its prefix: `[task_readiness.event_channel]`
 * - a size in its old place: `event_systems.task_readiness.metadata.event_channel.buffer_size`
 * - a slip of the pen: the nearest neighbour at that place
 */
export function unknownKeys(
  tree: TableNode,
  root: Shapes,
  isReportedElsewhere: (path: KeyPath) => boolean = () => false,
): Mistake[] {
  const search = new UnknownKeys(tree, root, isReportedElsewhere);
  search.visit(tree, root, []);
  return search.mistakes;
}

class UnknownKeys {
  readonly mistakes: Mistake[] = [];
  readonly #tree: TableNode;
  readonly #root: Shapes;
  readonly #isReportedElsewhere: (path: KeyPath) => boolean;

  constructor(tree: TableNode, root: Shapes, isReportedElsewhere: (path: KeyPath) => boolean) {
    this.#tree = tree;
    this.#root = root;
    this.#isReportedElsewhere = isReportedElsewhere;
  }

  visit(node: TreeNode, shapes: Shapes, path: KeyPath): void {
    if (node.kind === "array") {
      for (const [at, item] of node.items.entries()) this.visit(item, childShapes(shapes, at), [...path, at]);
    }
    // What is a table but should be none is the schema's to report.
    if (node.kind !== "table" || !isTable(shapes)) return;
    const known = keysOf(shapes);
    for (const [key, child] of node.entries) {
      const here = [...path, key];
      if (known.includes(key)) this.visit(child, childShapes(shapes, key), here);
      else if (!takesAnyKey(shapes)) this.#unknown(here, child, known);
      else this.visit(child, childShapes(shapes, key), here);
    }
  }

  #unknown(path: readonly (string | number)[], node: TreeNode, known: readonly string[]): void {
    if (this.#isReportedElsewhere(path) || this.#isMovedOrUnprefixed(path, node)) return;
    const key = String(path.at(-1));
    if (path[0] === "sources" && path.length === 3 && key === "inputs") {
      this.#add(path, "a source reads from no other component; `inputs` belongs to transforms and sinks");
      return;
    }
    this.#add(path, `unknown key; ${suggestion(key, known)}`);
  }

  /** Whether a channel's key or section stands here without its prefix or in its old place; then it is reported. */
  #isMovedOrUnprefixed(path: KeyPath, node: TreeNode): boolean {
    if (path[0] === "event_systems") return this.#isOldPlace(path, node);
    if (path[0] === "mpsc_channels") return false;
    const full = ["mpsc_channels", ...path];
    if (shapesAt(this.#root, full).length === 0) return false;
    for (const section of sectionsOf(node, path)) {
      const meant = formatKey(["mpsc_channels", ...section.path]);
      const name = section.isTable ? `[${meant}]` : meant;
      this.#add(section.path, `this is the section of a channel without its prefix; write ${name}`);
    }
    return true;
  }

  #isOldPlace(path: KeyPath, node: TreeNode): boolean {
    const moved = ["mpsc_channels", ...path.slice(1).filter((part) => part !== "metadata")];
    if (shapesAt(this.#root, moved).length === 0) return false;
    if (node.kind === "table") {
      for (const [key, child] of node.entries) this.#unknown([...path, key], child, []);
      return true;
    }
    this.#add(path, `sizes of channels have moved; write ${formatKey(moved)}`);
    return true;
  }

  #add(path: KeyPath, message: string): void {
    this.mistakes.push(mistakeAt(this.#tree, path, message));
  }
}

/** The deepest tables that hold keys: what a person wrote between brackets. */
function sectionsOf(node: TreeNode, path: KeyPath): { path: KeyPath; isTable: boolean }[] {
  if (node.kind !== "table") return [{ path, isTable: false }];
  const tables = [...node.entries].filter(([, child]) => child.kind === "table");
  if (tables.length === 0 || tables.length < node.entries.size) return [{ path, isTable: true }];
  return tables.flatMap(([key, child]) => sectionsOf(child, [...path, key]));
}
