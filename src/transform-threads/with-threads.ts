import type { Plan } from "../config/plan.ts";
import { isMovable } from "./movable.ts";
import { type RunOptions, transformRun } from "./transform-run.ts";

type Planned = Plan["transforms"][number];

/**
 * The same plan with `transform_threads` carried out: each run of transforms, one behind the other with nobody else in
 * between, is one component that works in threads.
 *
 *     app --> parse --> shape --> out      becomes      app --> parse>shape --> out
 *
 * Its name is that of the way, by which positions are kept: threads can be had or left without a line twice. A run holds
 * what parses or maps; filters alone cost less than the way to a thread. `map` is the last of its run, since it splits:
 * what a later one refused could not be told by the record that came in.
 */
export function withThreads(plan: Plan): Plan {
  const runs = plan.transformThreads === 0 ? [] : runsOf(plan);
  if (runs.length === 0) return plan;
  const nameOf = new Map(runs.map((run) => [run.at(-1)!.name, run.map(({ name }) => name).join(">")]));
  const firstOf = new Map(runs.map((run) => [nameOf.get(run.at(-1)!.name)!, run[0]!.name]));
  const renamed = <Component extends { readonly inputs: readonly string[] }>(component: Component): Component => ({
    ...component,
    inputs: component.inputs.map((input) => nameOf.get(input) ?? input),
  });
  const transforms = plan.transforms.flatMap((planned): Planned[] => {
    const run = runs.find((members) => members.includes(planned));
    if (run === undefined) return [renamed(planned)];
    // In the place of its first, all that it reads from stands before it.
    if (run[0] !== planned) return [];
    const readsFiles = run.some(({ definition }) => definition.readsFiles === true);
    const stages = run.map(({ name, definition, options }) => ({ name, definition, options }));
    const options: RunOptions = { threads: plan.transformThreads, stages };
    const definition = { ...transformRun, ...(readsFiles ? { readsFiles: true as const } : {}) };
    return [renamed({ ...planned, name: nameOf.get(run.at(-1)!.name)!, definition, options })];
  });
  const { channels } = plan;
  return {
    ...plan,
    transforms,
    sinks: plan.sinks.map(renamed),
    channels: { ...channels, input: (component) => channels.input(firstOf.get(component) ?? component) },
  };
}

function runsOf(plan: Plan): Planned[][] {
  const runs: Planned[][] = [];
  const taken = new Set<Planned>();
  for (const first of plan.transforms) {
    if (taken.has(first) || !isMovable(first.definition, first.options)) continue;
    const run = [first];
    for (let next = behind(first, plan); next !== undefined; next = behind(next, plan)) run.push(next);
    if (!run.some(({ definition }) => definition.type !== "filter")) continue;
    for (const member of run) taken.add(member);
    runs.push(run);
  }
  return runs;
}

/** The transform that alone reads from this one, and from nothing else. */
function behind({ name, definition }: Planned, plan: Plan): Planned | undefined {
  if (definition.type === "map") return undefined;
  const readers = [...plan.transforms, ...plan.sinks].filter(({ inputs }) => inputs.includes(name));
  const next = plan.transforms.find((transform) => readers.length === 1 && transform === readers[0]);
  return next !== undefined && next.inputs.length === 1 && isMovable(next.definition, next.options) ? next : undefined;
}
