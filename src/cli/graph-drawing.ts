import type { Plan } from "../config/index.ts";
import { formatBytes, formatCount } from "./status-line.ts";

/**
 * A component or a channel. Names of components are letters, digits, `_` and `-`, and `>` between transforms that share
 * threads: nothing that a format would escape.
 */
interface Node {
  /** Unique: `NAME`, or `NAME/CHANNEL`. */
  readonly id: string;
  readonly kind: "source" | "transform" | "sink" | "channel";
  /** What it is: the type of a component, size and policy of a channel. */
  readonly detail: string;
}

interface Graph {
  readonly nodes: readonly Node[];
  /** Ids, from and to. */
  readonly edges: readonly (readonly [from: string, to: string])[];
}

type Size = ReturnType<Plan["channels"]["input"]>;

/**
 * Components and channels in reading order: source -> its channel -> input of what reads it -> that component -> ... Behind
 * a component stand the designed channels that it shares with others.
 */
export function graphOfPlan(plan: Plan): Graph {
  const nodes: Node[] = [];
  const edges: [string, string][] = [];
  const outOf = new Map<string, string>();
  for (const { name, definition } of plan.sources) {
    const channel = `${name}/tailer_payload`;
    nodes.push({ id: name, kind: "source", detail: definition.type });
    const size = plan.channels.tailerPayload;
    const overflow = definition.output?.overflow ?? size.overflow;
    nodes.push({ id: channel, kind: "channel", detail: describe({ ...size, overflow }) });
    edges.push([name, channel]);
    outOf.set(name, channel);
  }
  for (const { name, definition, inputs } of [...plan.transforms, ...plan.sinks]) {
    const channel = `${name}/input`;
    nodes.push({ id: channel, kind: "channel", detail: describe(plan.channels.input(name)) });
    nodes.push({ id: name, kind: definition.kind, detail: definition.type });
    for (const input of inputs) edges.push([outOf.get(input) ?? input, channel]);
    edges.push([channel, name]);
    outOf.set(name, name);
  }
  for (const { name, definition } of [...plan.sources, ...plan.sinks]) {
    for (const section of definition.channels ?? []) {
      const id = section.replace(".", "/");
      const size = plan.channels.ofStages(section);
      // A broadcast keeps a queue for each listener, which loses its oldest.
      const overflow = section === "worker.in_process_events" ? "drop_oldest" : size.overflow;
      if (!nodes.some((node) => node.id === id))
        nodes.push({ id, kind: "channel", detail: describe({ ...size, overflow }) });
      edges.push([name, id]);
    }
  }
  return { nodes, edges };
}

function describe({ bufferSize, bufferBytes, overflow }: Size): string {
  const messages = `${formatCount(bufferSize)} ${bufferSize === 1 ? "message" : "messages"}`;
  return [messages, ...(bufferBytes === undefined ? [] : [formatBytes(bufferBytes)]), overflow].join(", ");
}

/** Title of a node: components by name and type, channels by their labels, size and policy. */
const lines = ({ id, detail }: Node): readonly [string, string] => [id, detail];

function mermaid({ nodes, edges }: Graph): string {
  const shapes = { source: ["([", "])"], transform: ["[", "]"], sink: ["[(", ")]"], channel: ["{{", "}}"] } as const;
  const ids = new Map(nodes.map(({ id }, index) => [id, `n${index}`]));
  const rows = nodes.map((node) => {
    const [open, close] = shapes[node.kind];
    return `  ${ids.get(node.id)}${open}"${lines(node).join("<br>")}"${close}`;
  });
  return `${["flowchart LR", ...rows, ...edges.map(([from, to]) => `  ${ids.get(from)} --> ${ids.get(to)}`)].join("\n")}\n`;
}

function dot({ nodes, edges }: Graph): string {
  const shapes = { source: "ellipse", transform: "box", sink: "cylinder", channel: "cds" } as const;
  const rows = nodes.map((node) => `  "${node.id}" [shape=${shapes[node.kind]}, label="${lines(node).join("\\n")}"];`);
  const arrows = edges.map(([from, to]) => `  "${from}" -> "${to}";`);
  return `${["digraph tailrace {", "  rankdir=LR;", ...rows, ...arrows, "}"].join("\n")}\n`;
}

/** One tree from each source; what was drawn already is named again, and what is below it is not. */
function ascii({ nodes, edges }: Graph): string {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const rows: string[] = [];
  const drawn = new Set<string>();
  const draw = (id: string, indent: string, isLast: boolean, isRoot: boolean): void => {
    const node = byId.get(id)!;
    const below = edges.filter(([from]) => from === id).map(([, to]) => to);
    const isAgain = drawn.has(id);
    const [name, detail] = lines(node);
    const title = node.kind === "channel" ? `${name}: ${detail}` : `${name} (${node.kind}, ${detail})`;
    const branch = isRoot ? "" : `${indent}${isLast ? "`-" : "|-"} `;
    rows.push(`${branch}${title}${isAgain && below.length > 0 ? " (see above)" : ""}`);
    if (isAgain) return;
    drawn.add(id);
    const deeper = isRoot ? "" : `${indent}${isLast ? "   " : "|  "}`;
    for (const [index, next] of below.entries()) draw(next, deeper, index === below.length - 1, false);
  };
  for (const { id } of nodes.filter(({ kind }) => kind === "source")) draw(id, "", true, true);
  return `${rows.join("\n")}\n`;
}

/** Each way to draw it. */
export const FORMATS = { mermaid, dot, ascii } as const;

export type GraphFormat = keyof typeof FORMATS;
