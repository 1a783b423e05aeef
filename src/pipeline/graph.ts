import type { Plan } from "../config/plan.ts";

/** A component of the graph and what reads from it. */
export interface Node {
  readonly name: string;
  readonly kind: "source" | "transform" | "sink";
  readonly consumers: Node[];
}

/** The components and edges of a plan, by name. The plan is checked: no cycles, no orphans, no missing inputs. */
export function graphOf(plan: Pick<Plan, "sources" | "transforms" | "sinks">): ReadonlyMap<string, Node> {
  const nodes = new Map<string, Node>();
  const add = (kind: Node["kind"], name: string) => nodes.set(name, { name, kind, consumers: [] });
  for (const { name } of plan.sources) add("source", name);
  for (const { name } of plan.transforms) add("transform", name);
  for (const { name } of plan.sinks) add("sink", name);
  for (const component of [...plan.transforms, ...plan.sinks]) {
    for (const input of component.inputs) nodes.get(input)!.consumers.push(nodes.get(component.name)!);
  }
  return nodes;
}

/** Names of the sinks that a component feeds, directly or not. */
export function sinksBelow(node: Node): Set<string> {
  const found = new Set<string>();
  const visit = (at: Node) => {
    if (at.kind === "sink") found.add(at.name);
    for (const next of at.consumers) visit(next);
  };
  visit(node);
  return found;
}
