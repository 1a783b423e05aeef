import type { Mistake } from "../errors.ts";
import { CHANNEL_SECTIONS, type ChannelFeature, type ChannelSection, COMPONENT_INPUT } from "./channel-sections.ts";
import type { Component } from "./components.ts";
import { suggestion } from "./nearest.ts";
import { type KeyPath, mistakeAt, nodeAt, type TableNode } from "./tree.ts";

/** What the schema of `[mpsc_channels]` cannot say: fixed policies, sizes that agree, components that exist. */
export function checkChannels(tree: TableNode, components: readonly Component[], mistakes: Mistake[]): void {
  for (const section of CHANNEL_SECTIONS) {
    const path = ["mpsc_channels", ...section.path];
    if (section.isAlways !== undefined) refuseOtherPolicy(tree, path, section.isAlways, mistakes);
    refuseFeatures(tree, path, section, mistakes);
    checkDynamicSizes(tree, path, section.sizeKey, mistakes);
  }
  const inputs = nodeAt(tree, ["mpsc_channels", "components"]);
  if (inputs?.kind !== "table") return;
  const readers = components.filter(({ section }) => section !== "sources").map(({ name }) => name);
  for (const name of inputs.entries.keys()) {
    const path = ["mpsc_channels", "components", name];
    if (readers.includes(name)) {
      refuseFeatures(tree, path, COMPONENT_INPUT, mistakes);
      checkDynamicSizes(tree, path, COMPONENT_INPUT.sizeKey, mistakes);
    } else if (components.some((component) => component.name === name))
      mistakes.push(
        mistakeAt(
          tree,
          path,
          "a source has no input of its own; its channel is [mpsc_channels.sources.tailer_manager]",
        ),
      );
    else mistakes.push(mistakeAt(tree, path, `there is no component "${name}"; ${suggestion(name, readers)}`));
  }
}

function refuseOtherPolicy(tree: TableNode, section: KeyPath, reason: string, mistakes: Mistake[]): void {
  const path = [...section, "overflow"];
  const node = nodeAt(tree, path);
  const isOther = node?.kind === "value" && ["drop_newest", "drop_oldest", "error"].includes(String(node.value));
  if (isOther) mistakes.push(mistakeAt(tree, path, `is "${node.value}"; this channel is always "block": ${reason}`));
}

/** Each feature that a section switches on, with the key that does so. */
function featuresOf(tree: TableNode, section: KeyPath): { readonly feature: ChannelFeature; readonly path: KeyPath }[] {
  const isSet = (key: string) => nodeAt(tree, [...section, key])?.kind === "value";
  const isOn = (key: string) => {
    const node = nodeAt(tree, [...section, key]);
    return node?.kind === "value" && node.value === true;
  };
  const switches = (["priority_lanes", "coalesce"] as const)
    .filter(isOn)
    .map((feature) => ({ feature, path: [...section, feature] }));
  const isDynamic = isSet("buffer_size_min") && isSet("buffer_size_max");
  return isDynamic ? [...switches, { feature: "dynamic_size", path: [...section, "buffer_size_min"] }] : switches;
}

function refuseFeatures(
  tree: TableNode,
  section: KeyPath,
  { refuses }: Pick<ChannelSection, "refuses">,
  mistakes: Mistake[],
): void {
  for (const { feature, path } of featuresOf(tree, section)) {
    const reason = refuses?.[feature];
    if (reason === undefined) continue;
    const what = feature === "dynamic_size" ? "this channel has no dynamic size" : "is not for this channel";
    mistakes.push(mistakeAt(tree, path, `${what}: ${reason}; leave it out`));
  }
}

function checkDynamicSizes(tree: TableNode, section: KeyPath, sizeKey: string, mistakes: Mistake[]): void {
  const numberAt = (key: string): number | undefined => {
    const node = nodeAt(tree, [...section, key]);
    return node?.kind === "value" && typeof node.value === "number" ? node.value : undefined;
  };
  const [minimum, size, maximum] = [numberAt("buffer_size_min"), numberAt(sizeKey), numberAt("buffer_size_max")];
  const isAbove = (low: number | undefined, high: number | undefined) =>
    low !== undefined && high !== undefined && low > high;
  if (isAbove(minimum, maximum))
    mistakes.push(
      mistakeAt(tree, [...section, "buffer_size_min"], `is ${minimum}, above buffer_size_max, which is ${maximum}`),
    );
  else if (minimum !== undefined && maximum !== undefined && (isAbove(minimum, size) || isAbove(size, maximum)))
    mistakes.push(
      mistakeAt(tree, [...section, sizeKey], `is ${size}; with dynamic sizing give ${minimum} to ${maximum}`),
    );
}

/** A limit that nothing is measured by. */
export function sinkWarnings(tree: TableNode): Mistake[] {
  const sinks = nodeAt(tree, ["sinks"]);
  if (sinks?.kind !== "table") return [];
  return [...sinks.entries.keys()].flatMap((name) => {
    const required = nodeAt(tree, ["sinks", name, "required"]);
    if (required?.kind === "value" && required.value === false) return [];
    const path = ["sinks", name, "max_lag_bytes"];
    if (nodeAt(tree, path) === undefined) return [];
    return [mistakeAt(tree, path, "has no effect without required = false: a required sink drops nothing")];
  });
}

/** Keys of channels that are right and still do not do what whoever set them may expect. */
export function channelWarnings(tree: TableNode): Mistake[] {
  const inputs = nodeAt(tree, ["mpsc_channels", "components"]);
  const names = inputs?.kind === "table" ? [...inputs.entries.keys()] : [];
  return [
    ...CHANNEL_SECTIONS.flatMap((section) => warningsOf(tree, ["mpsc_channels", ...section.path], section)),
    ...names.flatMap((name) => warningsOf(tree, ["mpsc_channels", "components", name], COMPONENT_INPUT)),
  ];
}

function warningsOf(tree: TableNode, section: KeyPath, row: Omit<ChannelSection, "path">): Mistake[] {
  const warnings: Mistake[] = [];
  const overflow = nodeAt(tree, [...section, "overflow"]);
  if (row.neverWaits !== undefined && overflow?.kind === "value" && !String(overflow.value).startsWith("drop_")) {
    const what = `"${overflow.value}" drops the newest here, as "drop_newest" does: ${row.neverWaits}`;
    warnings.push(mistakeAt(tree, [...section, "overflow"], what));
  }
  for (const [key, other] of [
    ["buffer_size_min", "buffer_size_max"],
    ["buffer_size_max", "buffer_size_min"],
  ] as const) {
    if (!nodeAt(tree, [...section, key]) || nodeAt(tree, [...section, other])) continue;
    warnings.push(mistakeAt(tree, [...section, key], `has no effect without ${other}: a dynamic size needs both`));
  }
  return warnings;
}
