import { isDeepStrictEqual } from "node:util";
import type { Plan } from "../config/plan.ts";
import { ConfigError, type Mistake } from "../errors.ts";
import { graphOf, type Node } from "./graph.ts";
import type { PlannedSink, PlannedSource, PlannedTransform } from "./open-stage.ts";

/** The components of a plan, or of what runs. */
export type Components = Pick<Plan, "sources" | "transforms" | "sinks">;

interface Changes<Planned> {
  readonly added: readonly Planned[];
  /** Still there, of the same type, with other options. */
  readonly changed: readonly Planned[];
  readonly removed: readonly string[];
}

export interface PlanDifference {
  readonly sources: Changes<PlannedSource>;
  readonly transforms: Changes<PlannedTransform>;
  readonly sinks: Changes<PlannedSink>;
  /** Sources that stay and whose records go other ways than before. */
  readonly rewired: readonly string[];
}

/**
 * What is different in `next`.
 * @throws ConfigError for a change that needs a restart: another type under the same name, or a new sink that takes over
 * the target of one that goes.
 */
export function differenceOf(now: Components, next: Components): PlanDifference {
  const mistakes: Mistake[] = [];
  const difference = {
    sources: changesOf("sources", now.sources, next.sources, mistakes),
    transforms: changesOf("transforms", now.transforms, next.transforms, mistakes),
    sinks: changesOf("sinks", now.sinks, next.sinks, mistakes),
  };
  for (const added of difference.sinks.added) {
    const target = targetOf(added);
    const gone = now.sinks.find(
      (sink) =>
        difference.sinks.removed.includes(sink.name) &&
        (added.previousNames.includes(sink.name) ||
          (target !== "" && sink.definition.type === added.definition.type && targetOf(sink) === target)),
    );
    if (gone === undefined) continue;
    mistakes.push({
      key: `sinks.${added.name}`,
      message: `takes over from sinks.${gone.name}, which is still at work; that needs a restart`,
    });
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes);
  const [treeBefore, treeAfter] = [graphOf(now), graphOf(next)];
  const rewired = next.sources
    .map(({ name }) => name)
    .filter((name) => treeBefore.has(name) && treeText(treeBefore.get(name)!) !== treeText(treeAfter.get(name)!));
  return { ...difference, rewired };
}

/** True where nothing at all is to be done. */
export function isSame({ sources, transforms, sinks, rewired }: PlanDifference): boolean {
  return (
    rewired.length === 0 &&
    [sources, transforms, sinks].every(
      ({ added, changed, removed }) => added.length + changed.length + removed.length === 0,
    )
  );
}

type AnyPlanned = PlannedSource | PlannedTransform | PlannedSink;

function changesOf<Planned extends AnyPlanned>(
  table: string,
  now: readonly Planned[],
  next: readonly Planned[],
  mistakes: Mistake[],
): Changes<Planned> {
  const before = new Map(now.map((planned) => [planned.name, planned]));
  const after = new Set(next.map(({ name }) => name));
  const changed: Planned[] = [];
  for (const planned of next) {
    const old = before.get(planned.name);
    if (old === undefined) continue;
    if (old.definition.type !== planned.definition.type) {
      mistakes.push({
        key: `${table}.${planned.name}.type`,
        message: `was "${old.definition.type}" and is now "${planned.definition.type}"; that needs a restart, or another name`,
      });
    } else if (
      !isDeepStrictEqual(old.options, planned.options) ||
      !isDeepStrictEqual(old.retry, planned.retry) ||
      old.definition.open !== planned.definition.open ||
      (planned.definition.kind !== "source" && planned.definition.readsFiles === true)
    )
      changed.push(planned);
  }
  return {
    added: next.filter(({ name }) => !before.has(name)),
    changed,
    removed: now.filter(({ name }) => !after.has(name)).map(({ name }) => name),
  };
}

function targetOf({ definition, options }: PlannedSink): string {
  return definition.target?.(options) ?? "";
}

function treeText({ name, consumers }: Node): string {
  return `${name}(${consumers.map(treeText).sort().join(" ")})`;
}
