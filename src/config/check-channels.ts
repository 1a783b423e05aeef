import type { Mistake } from "../errors.ts";
import { CHANNEL_SECTIONS, COMPONENT_INPUT } from "./channel-sections.ts";
import type { Component } from "./components.ts";
import { suggestion } from "./nearest.ts";
import { type KeyPath, mistakeAt, nodeAt, type TableNode } from "./tree.ts";

/** What the schema of `[mpsc_channels]` cannot say: fixed policies, sizes that agree, components that exist. */
export function checkChannels(tree: TableNode, components: readonly Component[], mistakes: Mistake[]): void {
  for (const section of CHANNEL_SECTIONS) {
    const path = ["mpsc_channels", ...section.path];
    if (section.isAlways !== undefined) refuseOtherPolicy(tree, path, section.isAlways, mistakes);
    checkDynamicSizes(tree, path, section.sizeKey, mistakes);
  }
  const inputs = nodeAt(tree, ["mpsc_channels", "components"]);
  if (inputs?.kind !== "table") return;
  const readers = components.filter(({ section }) => section !== "sources").map(({ name }) => name);
  for (const name of inputs.entries.keys()) {
    const path = ["mpsc_channels", "components", name];
    if (readers.includes(name)) checkDynamicSizes(tree, path, COMPONENT_INPUT.sizeKey, mistakes);
    else if (components.some((component) => component.name === name))
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

/** Keys that are read and checked but have no effect in this version. */
export function channelWarnings(tree: TableNode): Mistake[] {
  const warnings: Mistake[] = [];
  const names = nodeAt(tree, ["mpsc_channels", "components"]);
  const inputs = names?.kind === "table" ? [...names.entries.keys()].map((name) => ["components", name]) : [];
  for (const section of [...CHANNEL_SECTIONS.map(({ path }) => path), ...inputs]) {
    const path = ["mpsc_channels", ...section];
    const isOn = (key: string) => {
      const node = nodeAt(tree, [...path, key]);
      return node?.kind === "value" && node.value === true;
    };
    const add = (key: string, what: string) =>
      warnings.push(mistakeAt(tree, [...path, key], `${what} come with a later version; this has no effect yet`));
    if (isOn("priority_lanes")) add("priority_lanes", "priority lanes");
    if (isOn("coalesce")) add("coalesce", "coalesced messages");
    if (nodeAt(tree, [...path, "buffer_size_min"]) && nodeAt(tree, [...path, "buffer_size_max"]))
      add("buffer_size_min", "dynamic sizes");
  }
  return warnings;
}
