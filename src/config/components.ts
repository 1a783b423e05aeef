import { resolve } from "node:path";
import { z } from "zod";
import type { Mistake } from "../errors.ts";
import {
  guaranteeOf,
  type SinkDefinition,
  type SourceDefinition,
  type StageDefinition,
  type TransformDefinition,
} from "../stage/index.ts";
import { check, show } from "./issues.ts";
import { suggestion } from "./nearest.ts";
import { COMMON_KEYS, COMPONENT_SECTIONS, type ComponentSection } from "./schema.ts";
import { type Shapes, shapesAt } from "./schema-walk.ts";
import { formatPlace, type KeyPath, mistakeAt, nodeAt, type TableNode } from "./tree.ts";

/** Everything that may be named as a `type`: what `stages.ts` lists, or what a library user adds to it. */
export interface StageList {
  readonly sources: readonly SourceDefinition[];
  readonly transforms: readonly TransformDefinition[];
  readonly sinks: readonly SinkDefinition[];
}

/** One `[sources.NAME]`, `[transforms.NAME]` or `[sinks.NAME]`. */
export interface Component {
  readonly section: ComponentSection;
  readonly name: string;
  readonly path: readonly string[];
  /** Undefined: the type is missing or unknown, and that has been reported. */
  readonly definition: StageDefinition | undefined;
}

/** A component whose keys are all right. */
export interface CheckedComponent extends Component {
  readonly definition: StageDefinition;
  readonly inputs: readonly string[];
  readonly previousNames: readonly string[];
  readonly backfill: boolean;
  /** Of a sink with `required = false`. */
  readonly maxLagBytes: number | undefined;
  /** Checked by the definition's schema, defaults filled in. */
  readonly options: { readonly [key: string]: unknown };
  /** Common and own keys together, as `explain` shows them. */
  readonly effective: { readonly [key: string]: unknown };
}

/** Letters, digits, `_` and `-`: no dot, which separates a route from its output, and nothing a label would escape. */
const NAME = /^[\p{L}\p{N}_-]+$/u;

/** Finds the components and their definitions; what is no component is a mistake. */
export function findComponents(tree: TableNode, stages: StageList, mistakes: Mistake[]): Component[] {
  const found: Component[] = [];
  for (const section of COMPONENT_SECTIONS) {
    const node = tree.entries.get(section);
    if (node === undefined) continue;
    if (node.kind !== "table") {
      mistakes.push(mistakeAt(tree, [section], `is ${show(node)}; give a table, such as [${section}.NAME]`));
      continue;
    }
    for (const [name, component] of node.entries) {
      const path = [section, name];
      const add = (message: string) => mistakes.push(mistakeAt(tree, path, message));
      if (component.kind !== "table") add(`is ${show(component)}; give a table with a \`type\``);
      else if (!NAME.test(name) || name === "__proto__") add("a component's name is made of letters, digits, _ and -");
      else if (isUnprefixedChannel(tree, path))
        add("this is the section of a channel without its prefix; write [mpsc_channels.sources.tailer_manager]");
      else found.push({ section, name, path, definition: findDefinition(tree, section, name, stages, mistakes) });
    }
  }
  reportDoubleNames(tree, found, mistakes);
  return found;
}

function findDefinition(
  tree: TableNode,
  section: ComponentSection,
  name: string,
  stages: StageList,
  mistakes: Mistake[],
): StageDefinition | undefined {
  const known: readonly StageDefinition[] = stages[section];
  const kind = section.slice(0, -1);
  const typePath = [section, name, "type"];
  const node = nodeAt(tree, typePath);
  if (node === undefined) {
    mistakes.push(mistakeAt(tree, typePath, `is missing; give one of ${known.map((one) => one.type).join(", ")}`));
    return undefined;
  }
  const type = node.kind === "value" ? node.value : undefined;
  const definition = known.find((candidate) => candidate.type === type);
  if (definition !== undefined) return definition;
  const elsewhere = COMPONENT_SECTIONS.find((other) => stages[other].some((candidate) => candidate.type === type));
  const meant = suggestion(
    String(type ?? ""),
    known.map((candidate) => candidate.type),
  );
  const why = elsewhere === undefined ? `no ${kind} has this type` : `this is a ${elsewhere.slice(0, -1)}, no ${kind}`;
  mistakes.push(mistakeAt(tree, typePath, `is ${show(node)}; ${why}; ${meant}`));
  return undefined;
}

/** `[sources.tailer_manager]` without a type: what was meant is the channel's section, which ends in the same words. */
const isUnprefixedChannel = (tree: TableNode, path: KeyPath): boolean =>
  path.join(".") === "sources.tailer_manager" && nodeAt(tree, [...path, "type"]) === undefined;

function reportDoubleNames(tree: TableNode, components: readonly Component[], mistakes: Mistake[]): void {
  const first = new Map<string, Component>();
  for (const component of components) {
    const earlier = first.get(component.name);
    if (earlier === undefined) {
      first.set(component.name, component);
      continue;
    }
    const where = formatPlace(nodeAt(tree, earlier.path)!.place);
    const message = `the name is taken by ${earlier.path.join(".")} (${where}); names are unique across all components`;
    mistakes.push(mistakeAt(tree, component.path, message));
  }
}

/** The schema of a component's table, for looking into: common keys and its type's own. */
export function componentShape(component: Component): z.ZodType {
  const common = COMMON_KEYS[component.section];
  // Of an unknown type nothing is known, so that any key is welcome.
  return z.intersection(common, component.definition?.options ?? z.looseObject({}));
}

/** Checks one component's keys. Undefined where something is wrong; `tree` is the tree with types fitted. */
export function checkComponent(
  tree: TableNode,
  component: Component,
  root: Shapes,
  mistakes: Mistake[],
): { tree: TableNode; component: CheckedComponent | undefined } {
  const { definition, section, path } = component;
  if (definition === undefined) return { tree, component: undefined };
  const shapes = shapesAt(root, path);
  const commonSchema = COMMON_KEYS[section];
  const commonNames = Object.keys(commonSchema.shape);
  // Each half sees its own keys only, so that neither takes the other's for a mistake.
  const ownNames = ownKeysOf(tree, path, commonNames);
  const common = check(tree, { path, shapes, schema: commonSchema, without: ownNames });
  const own = check(common.tree, { path, shapes, schema: definition.options, without: commonNames });
  mistakes.push(...common.mistakes, ...own.mistakes);
  if (common.value === undefined || own.value === undefined) return { tree: own.tree, component: undefined };
  const values = common.value as { [key: string]: unknown };
  const checked: CheckedComponent = {
    ...component,
    definition,
    inputs: (values["inputs"] ?? []) as string[],
    previousNames: values["previous_names"] as string[],
    backfill: values["backfill"] === true,
    maxLagBytes: values["required"] === false ? (values["max_lag_bytes"] as number) : undefined,
    options: own.value as { [key: string]: unknown },
    effective: { ...values, ...(own.value as { [key: string]: unknown }) },
  };
  return { tree: own.tree, component: checked };
}

function ownKeysOf(tree: TableNode, path: KeyPath, commonNames: readonly string[]): string[] {
  const node = nodeAt(tree, path);
  return node?.kind === "table" ? [...node.entries.keys()].filter((key) => !commonNames.includes(key)) : [];
}

/**
 * Two sinks that keep marks of one target would each cut off what the other wrote. (Targets without marks, such as a
 * URL, may be shared.)
 */
export function reportSharedTargets(
  tree: TableNode,
  components: readonly CheckedComponent[],
  cwd: string,
  mistakes: Mistake[],
): void {
  const first = new Map<string, CheckedComponent>();
  for (const component of components) {
    const { definition } = component;
    if (definition.kind !== "sink" || guaranteeOf(definition, component.options) !== "exactly_once") continue;
    const target = definition.target?.(component.options);
    if (target === undefined) continue;
    const identity = JSON.stringify([definition.type, definition.type === "file" ? resolve(cwd, target) : target]);
    const earlier = first.get(identity);
    if (earlier === undefined) {
      first.set(identity, component);
      continue;
    }
    const where = formatPlace(nodeAt(tree, earlier.path)!.place);
    const key = definition.type === "file" ? [...component.path, "path"] : component.path;
    mistakes.push(
      mistakeAt(tree, key, `sinks.${earlier.name} (${where}) writes there already; give each its own target`),
    );
  }
}

/**
 * A sink whose file a source of its own reads feeds itself: each line that it writes comes back, for ever. Only the file
 * that the text names is certain; files named by records, and rotated ones, are not looked for.
 */
export function reportFeedback(tree: TableNode, components: readonly CheckedComponent[], mistakes: Mistake[]): void {
  const byName = new Map(components.map((component) => [component.name, component]));
  const above = ({ inputs }: CheckedComponent): CheckedComponent[] => inputs.flatMap((name) => byName.get(name) ?? []);
  for (const sink of components) {
    if (sink.definition.kind !== "sink") continue;
    const output = sink.definition.output?.(sink.options);
    if (output === undefined) continue;
    // A set that grows while it is walked: each once, also where transforms read from each other in a circle.
    const upstream = new Set(above(sink));
    for (const component of upstream) for (const next of above(component)) upstream.add(next);
    for (const { name, path, definition, options } of upstream) {
      if (definition.kind !== "source" || definition.reads?.(options, output) !== true) continue;
      const where = formatPlace(nodeAt(tree, [...path, "include"])?.place ?? nodeAt(tree, path)!.place);
      const message = `sources.${name} (${where}) reads this file, so that its records would come back for ever; write to another folder, or name the file in the source's \`exclude\``;
      mistakes.push(mistakeAt(tree, [...sink.path, "path"], message));
    }
  }
}

/** Asks each stage whether what its options name outside of the configuration can be used. */
export async function reportUnusable(
  tree: TableNode,
  components: readonly CheckedComponent[],
  mistakes: Mistake[],
): Promise<void> {
  const found = await Promise.all(
    components.map(async ({ path, definition, options }) => {
      const wrong = (await definition.check?.(options)) ?? [];
      return wrong.map((mistake) => mistakeAt(tree, [...path, ...mistake.path], mistake.message));
    }),
  );
  mistakes.push(...found.flat());
}
