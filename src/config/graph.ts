import type { Mistake } from "../errors.ts";
import type { Component } from "./components.ts";
import { nearest, suggestion } from "./nearest.ts";
import { mistakeAt, nodeAt, type TableNode } from "./tree.ts";

/**
 * Whether the components join up: inputs that exist, no cycle, nobody left alone. It looks at the tree, not at checked
 * components, so that a wrong option elsewhere does not hide a wrong input.
 */
export function checkGraph(tree: TableNode, components: readonly Component[], mistakes: Mistake[]): void {
  const graph = new Graph(tree, components, mistakes);
  graph.checkInputs();
  graph.checkCycles();
  graph.checkOrphans();
}

class Graph {
  readonly #tree: TableNode;
  readonly #byName = new Map<string, Component>();
  readonly #components: readonly Component[];
  readonly #mistakes: Mistake[];
  /** Names that somebody reads from, or very probably meant to. */
  readonly #isRead = new Set<string>();
  readonly #inputs = new Map<Component, string[]>();

  constructor(tree: TableNode, components: readonly Component[], mistakes: Mistake[]) {
    this.#tree = tree;
    this.#components = components;
    this.#mistakes = mistakes;
    for (const component of components)
      if (!this.#byName.has(component.name)) this.#byName.set(component.name, component);
  }

  checkInputs(): void {
    const readable = this.#components.filter(({ section }) => section !== "sinks").map(({ name }) => name);
    for (const component of this.#components) {
      if (component.section === "sources") continue;
      const node = nodeAt(this.#tree, [...component.path, "inputs"]);
      if (node !== undefined && node.kind !== "array") {
        // `inputs = "app"` is the schema's to report; that nobody reads app would be a second mistake out of one.
        if (node.kind === "value") this.#isRead.add(String(node.value));
        continue;
      }
      const seen = new Set<string>();
      this.#inputs.set(component, []);
      for (const [at, item] of (node?.items ?? []).entries()) {
        // What is no string is the schema's to report.
        if (item.kind !== "value" || typeof item.value !== "string") continue;
        const input = item.value;
        const path = [...component.path, "inputs", at];
        if (seen.has(input)) this.#add(path, `"${input}" is named twice`);
        seen.add(input);
        this.#checkInput(component, input, path, readable);
      }
      if ((node?.items.length ?? 0) === 0)
        this.#add(
          [...component.path, "inputs"],
          `this ${component.section.slice(0, -1)} reads from nothing; name its inputs${readable.length > 0 ? `, such as ["${readable[0]}"]` : ""}`,
        );
    }
  }

  #checkInput(component: Component, input: string, path: (string | number)[], readable: readonly string[]): void {
    const found = this.#byName.get(input);
    if (found !== undefined && found.section !== "sinks") {
      this.#isRead.add(input);
      this.#inputs.get(component)!.push(input);
      return;
    }
    if (found !== undefined) {
      this.#add(path, `"${input}" is a sink; only sources and transforms can be read from`);
      return;
    }
    const neighbour = nearest(input, readable);
    // One slip of the pen is one mistake: what was meant is not reported as an orphan too.
    if (neighbour?.isLikely) this.#isRead.add(neighbour.word);
    const others = readable.filter((name) => name !== component.name);
    this.#add(path, `there is no component "${input}"; ${suggestion(input, others)}`);
  }

  checkOrphans(): void {
    for (const { section, name, path } of this.#components) {
      if (section === "sinks" || this.#isRead.has(name)) continue;
      const kind = section.slice(0, -1);
      this.#add(path, `nobody reads this ${kind}; name it in the inputs of a transform or a sink, or remove it`);
    }
  }

  /** Depth first; each component is left once, so that a cycle is found once, at the edge that closes it. */
  checkCycles(): void {
    const finished = new Set<string>();
    const trail: string[] = [];
    const visit = (name: string): void => {
      const start = trail.indexOf(name);
      if (start >= 0) {
        const cycle = [...trail.slice(start), name];
        // The trail runs against the records, from reader to what it reads.
        const spelled = [...cycle].reverse().join(" -> ");
        this.#add(["transforms", name, "inputs"], `the transforms read from each other in a circle: ${spelled}`);
        return;
      }
      if (finished.has(name)) return;
      trail.push(name);
      const component = this.#byName.get(name);
      if (component?.section === "transforms") for (const input of this.#inputs.get(component) ?? []) visit(input);
      trail.pop();
      finished.add(name);
    };
    for (const { section, name } of this.#components) if (section === "transforms") visit(name);
  }

  #add(path: readonly (string | number)[], message: string): void {
    this.#mistakes.push(mistakeAt(this.#tree, path, message));
  }
}

/** The transforms so that each stands behind what it reads from; `components` must have no cycle. */
export function inReadingOrder<T extends { readonly name: string; readonly inputs: readonly string[] }>(
  transforms: readonly T[],
): T[] {
  const byName = new Map(transforms.map((transform) => [transform.name, transform]));
  const ordered = new Set<T>();
  const visit = (transform: T): void => {
    if (ordered.has(transform)) return;
    for (const input of transform.inputs) {
      const before = byName.get(input);
      if (before !== undefined) visit(before);
    }
    ordered.add(transform);
  };
  for (const transform of transforms) visit(transform);
  return [...ordered];
}
