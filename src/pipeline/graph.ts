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

/** sink -> source -> every way from one to the other, as the names of the transforms between them. */
export type Ways = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

export function waysOf(plan: Pick<Plan, "sources" | "transforms" | "sinks">): Ways {
  const graph = graphOf(plan);
  const ways = new Map(plan.sinks.map(({ name }) => [name, new Map<string, string[]>()]));
  for (const { name: source } of plan.sources) {
    const visit = (node: Node, before: readonly string[]): void => {
      if (node.kind === "sink") {
        const ofSink = ways.get(node.name)!;
        ofSink.set(source, [...(ofSink.get(source) ?? []), wayOf(before)]);
      }
      for (const next of node.consumers) visit(next, node.kind === "source" ? [] : [...before, node.name]);
    };
    visit(graph.get(source)!, []);
  }
  return ways;
}

export function wayOf(transforms: readonly string[]): string {
  return transforms.join(">");
}

/**
 * Under which name positions of a way are stored: the sink's own where there is one way only, so that putting a transform
 * in between changes nothing; else with the way behind it.
 */
export function laneId(sink: string, way: string, ways: readonly string[]): string {
  return ways.length === 1 ? sink : `${sink}#${way}`;
}
