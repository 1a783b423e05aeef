import type { TrialResult } from "./trial.ts";
import type { Fault } from "./verdict.ts";

const SHOWN_FAULTS = 6;
const SHOWN_EVENTS = 50;
/** The gravest first. */
const ORDER: readonly Fault["kind"][] = ["missing", "untold", "foreign", "twice", "out of order"];

/** What went wrong, with the story of each generation that it went wrong with; paths are those below `folder`. */
export function describeFaults(result: TrialResult, folder: string): string {
  const { verdict, troubles } = result;
  const parts = troubles.map((trouble) => `TROUBLE: ${trouble}`);
  const faults = [...verdict.faults].sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  for (const fault of faults.slice(0, SHOWN_FAULTS)) parts.push(describeFault(fault, result));
  const more = faults.slice(SHOWN_FAULTS);
  for (const { kind, sink, generation, count } of more.slice(0, 30))
    parts.push(`${kind} at ${sink}: ${count} of ${generation?.family ?? "?"} g${generation?.number ?? "?"}`);
  if (more.length > 30) parts.push(`... and ${more.length - 30} more`);
  return parts.join("\n").replaceAll(`${folder}/`, "");
}

function describeFault({ kind, sink, generation, lines, count }: Fault, { happenings, events }: TrialResult): string {
  const shown = lines.slice(0, 6).join("; ");
  if (generation === undefined) return `== ${kind} at ${sink}: ${count}: ${shown}`;
  const { family, number, firstLine, lastLine, story, names } = generation;
  const which = `${family} g${number} (lines ${firstLine} to ${lastLine})`;
  const head = `== ${kind} at ${sink}: ${count} of ${which}: ${shown}${count > 6 ? " ..." : ""}`;
  const fromMs = story[0]?.atMs ?? 0;
  const toMs = Math.max(story.at(-1)?.atMs ?? 0, generation.endedAtMs ?? 0) + 6_000;
  const isOfItsTime = ({ atMs }: { readonly atMs: number }) => atMs >= fromMs - 300 && atMs <= toMs;
  const told = [
    ...story.map(({ atMs, what }) => ({ atMs, text: what })),
    ...happenings
      .filter((each) => isOfItsTime(each) && !each.what.startsWith("alias"))
      .map(({ atMs, what }) => ({ atMs, text: `-- ${what}` })),
    ...events
      .filter((each) => each.file !== undefined && names.has(each.file) && each.event !== "commit" && isOfItsTime(each))
      .map(({ atMs, event, msg }) => ({ atMs, text: `   agent: ${event}: ${msg}` })),
  ].sort((a, b) => a.atMs - b.atMs);
  const text = withoutRepeats(told);
  const left = text.length - SHOWN_EVENTS;
  return [head, ...text.slice(0, SHOWN_EVENTS), ...(left > 0 ? [`... ${left} more`] : [])].join("\n");
}

/** What an agent says over and over again within a second is said once. */
function withoutRepeats(told: readonly { readonly atMs: number; readonly text: string }[]): string[] {
  const lines: { readonly atMs: number; readonly text: string; times: number }[] = [];
  for (const { atMs, text } of told) {
    const same = lines
      .slice(-8)
      .find((each) => each.text === text && text.startsWith("   ") && atMs - each.atMs < 1_000);
    if (same === undefined) lines.push({ atMs, text, times: 1 });
    else same.times += 1;
  }
  return lines.map(
    ({ atMs, text, times }) =>
      `${new Date(atMs).toISOString().slice(11, 23)} ${text}${times > 1 ? ` (${times} times within a second)` : ""}`,
  );
}
