import type { MixResult } from "./mix.ts";
import type { Fault } from "./verdict.ts";

const SHOWN_FAULTS = 6;
const SHOWN_EVENTS = 40;

/** What went wrong, with the story of each generation that it went wrong with. */
export function describeFaults(result: MixResult): string {
  const { verdict, troubles } = result;
  const parts = troubles.map((trouble) => `TROUBLE: ${trouble}`);
  for (const fault of verdict.faults.slice(0, SHOWN_FAULTS)) parts.push(describeFault(fault, result));
  const more = verdict.faults.slice(SHOWN_FAULTS);
  for (const { kind, sink, generation, count } of more.slice(0, 30))
    parts.push(`${kind} at ${sink}: ${count} of ${generation?.family ?? "?"} g${generation?.number ?? "?"}`);
  if (more.length > 30) parts.push(`... and ${more.length - 30} more`);
  return parts.join("\n");
}

function describeFault({ kind, sink, generation, lines, count }: Fault, { happenings, events }: MixResult): string {
  const shown = lines.slice(0, 6).join("; ");
  if (generation === undefined) return `== ${kind} at ${sink}: ${count}: ${shown}`;
  const { family, number, firstLine, lastLine, story, names } = generation;
  const head = `== ${kind} at ${sink}: ${count} of ${family} g${number} (lines ${firstLine} to ${lastLine}): ${shown}${count > 6 ? " ..." : ""}`;
  const fromMs = story[0]?.atMs ?? 0;
  const toMs = Math.max(story.at(-1)?.atMs ?? 0, generation.endedAtMs ?? 0) + 6_000;
  const told = [
    ...story.map(({ atMs, what }) => ({ atMs, text: what })),
    ...happenings
      .filter(({ atMs, what }) => atMs >= fromMs - 300 && atMs <= toMs && !what.startsWith("alias"))
      .map(({ atMs, what }) => ({ atMs, text: `-- ${what}` })),
    ...events
      .filter(({ file, event, atMs }) => file !== undefined && names.has(file) && event !== "commit" && atMs >= fromMs)
      .filter(({ atMs }) => atMs <= toMs)
      .map(({ atMs, event, msg }) => ({ atMs, text: `   agent: ${event}: ${msg}` })),
  ].sort((a, b) => a.atMs - b.atMs);
  const text = told.slice(0, SHOWN_EVENTS).map((each) => `${new Date(each.atMs).toISOString().slice(11, 23)} ${each.text}`);
  return [head, ...text, ...(told.length > SHOWN_EVENTS ? [`... ${told.length - SHOWN_EVENTS} more`] : [])].join("\n");
}
