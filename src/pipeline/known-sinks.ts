import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { Change, Json } from "../checkpoint/checkpoint-store.ts";
import type { GroupCommit } from "../checkpoint/group-commit.ts";
import type { Plan } from "../config/plan.ts";
import { CheckpointError } from "../errors.ts";
import type { Logger } from "../telemetry/log.ts";
import { graphOf, sinksBelow } from "./graph.ts";

/** Mark of every sink: its last run ended with everything committed. Pipeline business, not shown to the sink. */
export const CLEAN_STOP = "clean_stop";
/** Note: which sinks the store has positions for, with type and target. */
const KNOWN_SINKS = "sinks";

interface KnownSink {
  readonly type: string;
  readonly target: string;
}

/**
 * Compares the sinks of the plan with those the store knows (delivery contract, section 2):
 * - renamed by `previous_names`: takes the positions over
 * - new: starts at its sources' present prefix, or at 0 with `backfill`
 * - missing: its positions stay and hold nothing back; said once
 * - one gone and one new of the same type and target: refused, since a rename would repeat or skip everything
 *
 * Also takes the clean-stop marks away: from here on the run counts as unclean until it ends.
 * @throws CheckpointError `TR_STATE_REFUSED`
 */
export async function reconcileSinks(
  plan: Plan,
  checkpoint: Checkpoint,
  groupCommit: GroupCommit,
  log: Logger,
): Promise<void> {
  const known = readKnown(checkpoint.note(KNOWN_SINKS));
  const changes: Change[] = [];
  const next = new Map(known);
  for (const sink of plan.sinks) {
    const target = sink.definition.target?.(sink.options) ?? "";
    const previous = sink.previousNames.find((name) => known.has(name));
    if (!known.has(sink.name) && previous !== undefined) {
      changes.push(...renameSink(checkpoint, previous, sink.name));
      next.delete(previous);
    } else if (!known.has(sink.name)) {
      refuseSilentRename(plan, known, sink.name, { type: sink.definition.type, target });
      if (!sink.backfill) changes.push(...startAtPresent(plan, checkpoint, sink.name, known));
    }
    next.set(sink.name, { type: sink.definition.type, target });
  }
  const configured = new Set(plan.sinks.map((sink) => sink.name));
  for (const name of known.keys()) {
    if (!configured.has(name) && next.has(name)) {
      log.warn(
        { component: name },
        `sink ${name} is not configured any more: its positions stay, it gets nothing and holds nothing back`,
      );
    }
  }
  const wanted = Object.fromEntries(next) as unknown as Json;
  if (JSON.stringify(wanted) !== JSON.stringify(checkpoint.note(KNOWN_SINKS) ?? {}))
    changes.push({ table: "note", name: KNOWN_SINKS, value: wanted });
  if (changes.length > 0) await groupCommit.submit(changes);
}

/** The run has begun: until `saveCleanStop`, whatever ends it is a crash. */
export async function clearCleanStop(
  sinks: readonly { readonly name: string }[],
  checkpoint: Checkpoint,
  groupCommit: GroupCommit,
): Promise<void> {
  const marked = sinks.filter(({ name }) => checkpoint.marksOf(name).has(CLEAN_STOP));
  if (marked.length > 0)
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
    if (sink !== from) continue;
    changes.push(
      { table: "position", sink: to, source, file, value },
      { table: "position", sink: from, source, file, value: undefined },
    );
  }
  for (const [name, value] of checkpoint.marksOf(from)) {
    changes.push({ table: "mark", sink: to, name, value }, { table: "mark", sink: from, name, value: undefined });
  }
  return changes;
}

function refuseSilentRename(plan: Plan, known: ReadonlyMap<string, KnownSink>, name: string, sink: KnownSink): void {
  const configured = new Set(plan.sinks.map((other) => other.name));
  for (const [gone, { type, target }] of known) {
    if (configured.has(gone) || type !== sink.type || target !== sink.target || target === "") continue;
    throw new CheckpointError(
      "TR_STATE_REFUSED",
      `sink "${name}" is new and sink "${gone}", which wrote to the same ${type} target (${target}), is gone. ` +
        `If it was renamed, set previous_names = ["${gone}"] in [sinks.${name}]; ` +
        `if it is a new one, write checkpoint.forget = ["${gone}"] once`,
    );
  }
}

/** A new sink gets what comes from now on: every known file starts where the other sinks of its source are. */
function startAtPresent(
  plan: Plan,
  checkpoint: Checkpoint,
  name: string,
  known: ReadonlyMap<string, KnownSink>,
): Change[] {
  const graph = graphOf(plan);
  const changes: Change[] = [];
  for (const { name: source } of plan.sources) {
    const sinks = sinksBelow(graph.get(source)!);
    if (!sinks.has(name)) continue;
    const others = [...sinks].filter((sink) => known.has(sink));
    if (others.length === 0) continue;
    for (const file of checkpoint.filesWithPositions(source)) {
      const prefix = Math.min(...others.map((sink) => checkpoint.position(sink, source, file)?.prefix ?? 0));
      if (prefix > 0) changes.push({ table: "position", sink: name, source, file, value: { prefix, ranges: [] } });
    }
  }
  return changes;
}
