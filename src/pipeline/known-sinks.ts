import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Change, Json } from "../checkpoint/checkpoint-store.ts";
import type { GroupCommit } from "../checkpoint/group-commit.ts";
import { intersectPositions } from "../checkpoint/settled-set.ts";
import type { Plan } from "../config/plan.ts";
import { CheckpointError } from "../errors.ts";
import { START } from "../record/position.ts";
import type { Logger } from "../telemetry/log.ts";
import { laneId, waysOf } from "./graph.ts";

/** Mark of every sink: its last run ended with everything committed. Pipeline business, not shown to the sink. */
export const CLEAN_STOP = "clean_stop";
/** Note: which sinks the store has positions for, with type, target and the ways to them. */
const KNOWN_SINKS = "sinks";

interface KnownSink {
  readonly type: string;
  readonly target: string;
  /** source -> ways */
  readonly ways: { readonly [source: string]: readonly string[] };
}

/**
 * Compares the sinks of the plan with those the store knows (delivery contract, section 2):
 * - renamed by `previous_names`: takes the positions over
 * - new, or newly fed by a source: starts at the source's present prefix, or at 0 with `backfill`
 * - fed by other ways than before: each new way starts where all the old ones have been
 * - missing: its positions stay and hold nothing back; said once
 * - one gone and one new of the same type and target: refused, since a rename would repeat or skip everything
 *
 * @throws CheckpointError `TR_STATE_REFUSED`
 */
export async function reconcileSinks(
  plan: Plan,
  checkpoint: Checkpoint,
  groupCommit: GroupCommit,
  log: Logger,
): Promise<void> {
  const known = readKnown(checkpoint.note(KNOWN_SINKS));
  const ways = waysOf(plan);
  const changes: Change[] = [];
  for (const { name, previousNames } of plan.sinks) {
    const previous = known.has(name) ? undefined : previousNames.find((other) => known.has(other));
    if (previous === undefined) continue;
    changes.push(...renameSink(checkpoint, previous, name));
    known.set(name, known.get(previous)!);
    known.delete(previous);
  }
  // What follows builds on the new names.
  if (changes.length > 0) await groupCommit.submit(changes.splice(0));

  const next = new Map(known);
  for (const { name, definition, options, backfill } of plan.sinks) {
    const sink = {
      type: definition.type,
      target: definition.target?.(options) ?? "",
      ways: Object.fromEntries(ways.get(name)!),
    };
    const before = known.get(name);
    if (before === undefined) refuseSilentRename(plan, known, name, sink);
    for (const [source, now] of Object.entries(sink.ways)) {
      const old = before?.ways[source];
      if (old !== undefined) changes.push(...changeWays(checkpoint, name, source, old, now));
      else if (!backfill)
        changes.push(
          ...startAtPresent(
            checkpoint,
            source,
            known,
            now.map((way) => laneId(name, way, now)),
          ),
        );
    }
    next.set(name, { ...sink, ways: { ...before?.ways, ...sink.ways } });
  }
  const configured = new Set(plan.sinks.map((sink) => sink.name));
  for (const name of known.keys()) {
    if (configured.has(name)) continue;
    log.warn(
      { component: name },
      `sink ${name} is not configured any more: its positions stay, it gets nothing and holds nothing back`,
    );
  }
  const wanted = Object.fromEntries(next) as unknown as Json;
  if (JSON.stringify(wanted) !== JSON.stringify(checkpoint.note(KNOWN_SINKS) ?? {})) {
    changes.push({ table: "note", name: KNOWN_SINKS, value: wanted });
  }
  if (changes.length > 0) await groupCommit.submit(changes);
}

/** What takes a sink out of a store at rest: its positions, its marks, and that it was ever known. Empty: nobody knows it. */
export function forgetSink(checkpoint: Checkpoint, name: string): Change[] {
  const changes: Change[] = [];
  for (const { sink, source, file } of checkpoint.state().positions) {
    if (sink === name || sink.startsWith(`${name}#`))
      changes.push({ table: "position", sink, source, file, value: undefined });
  }
  for (const mark of checkpoint.marksOf(name).keys())
    changes.push({ table: "mark", sink: name, name: mark, value: undefined });
  const known = readKnown(checkpoint.note(KNOWN_SINKS));
  if (known.delete(name))
    changes.push({ table: "note", name: KNOWN_SINKS, value: Object.fromEntries(known) as unknown as Json });
  return changes;
}

/** The run has begun: until `saveCleanStop`, whatever ends it is a crash. */
export async function clearCleanStop(
  sinks: readonly { readonly name: string }[],
  checkpoint: Checkpoint,
  groupCommit: GroupCommit,
): Promise<void> {
  const marked = sinks.filter(({ name }) => checkpoint.marksOf(name).has(CLEAN_STOP));
  if (marked.length === 0) return;
  await groupCommit.submit(
    marked.map(({ name }) => ({ table: "mark", sink: name, name: CLEAN_STOP, value: undefined })),
  );
}

/** Everything is committed and nothing will be written any more. */
export async function saveCleanStop(
  sinks: readonly { readonly name: string }[],
  groupCommit: GroupCommit,
): Promise<void> {
  await groupCommit.submit(sinks.map(({ name }) => ({ table: "mark", sink: name, name: CLEAN_STOP, value: true })));
}

function readKnown(note: Json | undefined): Map<string, KnownSink> {
  return new Map(Object.entries((note ?? {}) as unknown as { [name: string]: KnownSink }));
}

function renameSink(checkpoint: Checkpoint, from: string, to: string): Change[] {
  const changes: Change[] = [];
  for (const { sink, source, file, value } of checkpoint.state().positions) {
    if (sink !== from && !sink.startsWith(`${from}#`)) continue;
    changes.push(
      { table: "position", sink: to + sink.slice(from.length), source, file, value },
      { table: "position", sink, source, file, value: undefined },
    );
  }
  for (const [name, value] of checkpoint.marksOf(from)) {
    changes.push({ table: "mark", sink: to, name, value }, { table: "mark", sink: from, name, value: undefined });
  }
  return changes;
}

function refuseSilentRename(
  plan: Plan,
  known: ReadonlyMap<string, KnownSink>,
  name: string,
  sink: Pick<KnownSink, "type" | "target">,
): void {
  const configured = new Set(plan.sinks.map((other) => other.name));
  for (const [gone, { type, target }] of known) {
    if (configured.has(gone) || type !== sink.type || target !== sink.target || target === "") continue;
    throw new CheckpointError(
      "TR_STATE_REFUSED",
      `sink "${name}" is new and sink "${gone}", which wrote to the same ${type} target (${target}), is gone. ` +
        `If it was renamed, set previous_names = ["${gone}"] in [sinks.${name}]. ` +
        `If it is another one, run \`tailrace checkpoints forget ${gone}\` first: [sinks.${name}] then starts where the other ` +
        "sinks of its sources are, and at the beginning where there is none",
    );
  }
}

function changeWays(
  checkpoint: Checkpoint,
  sink: string,
  source: string,
  before: readonly string[],
  now: readonly string[],
): Change[] {
  const oldIds = before.map((way) => laneId(sink, way, before));
  const newIds = now.map((way) => laneId(sink, way, now));
  if (oldIds.join() === newIds.join()) return [];
  const changes: Change[] = [];
  for (const file of checkpoint.filesWithPositions(source)) {
    // Only what all the old ways have ended is certain for a new one; that may repeat, but never skips.
    const common = intersectPositions(oldIds.map((id) => checkpoint.position(id, source, file) ?? START));
    for (const id of newIds) {
      if (!oldIds.includes(id)) changes.push({ table: "position", sink: id, source, file, value: common });
    }
    for (const id of oldIds) {
      if (!newIds.includes(id)) changes.push({ table: "position", sink: id, source, file, value: undefined });
    }
  }
  return changes;
}

/** Who is new gets what comes from now on: every known file starts where the others that read this source are. */
function startAtPresent(
  checkpoint: Checkpoint,
  source: string,
  known: ReadonlyMap<string, KnownSink>,
  ids: readonly string[],
): Change[] {
  const others = [...known].flatMap(([name, { ways }]) =>
    (ways[source] ?? []).map((way, _, all) => laneId(name, way, all)),
  );
  if (others.length === 0) return [];
  const changes: Change[] = [];
  for (const file of checkpoint.filesWithPositions(source)) {
    const prefix = Math.min(...others.map((id) => checkpoint.position(id, source, file)?.prefix ?? 0));
    if (prefix === 0) continue;
    for (const id of ids) changes.push({ table: "position", sink: id, source, file, value: { prefix, ranges: [] } });
  }
  return changes;
}
