import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { type Range, START } from "../record/position.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { EventSink } from "../telemetry/events.ts";
import type { Lane } from "./lane.ts";

/** What one sink lacks of one file that the others have. */
interface Behind {
  readonly lane: Lane;
  readonly file: string;
  /** Ascending, one at least. */
  readonly missing: Range[];
  /** Where the others are. */
  readonly measure: number;
}

/**
 * Sources start at the lowest prefix of their sinks. Where that is the one of a sink that is not required, the others would
 * wait while everything is read again for it alone, also what it has let go meanwhile. So with more than its limit to read
 * again it gives up its oldest stretches, of the file that it is furthest behind with first; each is a `gap` with its range.
 *
 *     required   ########################|
 *     optional   ####|......|####|.......|     . missing    | from the first of them on is read again
 *
 * Where a source has no required sink, the one that is furthest sets the measure.
 */
export function skipAtStart(
  sink: { readonly lanes: readonly Lane[]; readonly limitBytes: number | undefined },
  lanes: readonly Lane[],
  { checkpoint, events }: { readonly checkpoint: Checkpoint; readonly events: EventSink },
): void {
  if (sink.limitBytes === undefined) return;
  const behind = sink.lanes.flatMap((lane) => behindOf(lane, lanes, checkpoint));
  while (behind.length > 0 && behind.reduce((sum, each) => sum + toRead(each), 0) > sink.limitBytes) {
    behind.sort((a, b) => toRead(b) - toRead(a));
    const { lane, file, missing } = behind[0]!;
    const range = missing.shift()!;
    if (missing.length === 0) behind.shift();
    lane.recovered(file, { prefix: 0, ranges: [range] }, false);
    const name = checkpoint.filesOf(lane.source).get(file)?.names[0];
    const text = name === undefined ? file : pathToText(name as BytePath);
    events.emit(
      "gap",
      `${lane.sink} is not required and too far behind: bytes ${range.start} to ${range.end} of ${text} are dropped for it`,
      { file: text, offset: range.start, bytes: range.end - range.start },
    );
  }
}

function behindOf(lane: Lane, lanes: readonly Lane[], checkpoint: Checkpoint): Behind[] {
  const others = lanes.filter(({ source }) => source === lane.source);
  const required = others.filter(({ mayDrop }) => !mayDrop);
  // As committed: sets in memory for every file that is remembered would stay there.
  const positionOf = ({ id, source }: Lane, file: string) => checkpoint.position(id, source, file) ?? START;
  return [...checkpoint.filesWithPositions(lane.source)].flatMap((file) => {
    const prefixes = (required.length > 0 ? required : others).map((other) => positionOf(other, file).prefix);
    const measure = required.length > 0 ? Math.min(...prefixes) : Math.max(...prefixes);
    const { prefix, ranges } = positionOf(lane, file);
    const missing: Range[] = [];
    let start = prefix;
    for (const range of [...ranges, { start: measure, end: measure }]) {
      const end = Math.min(range.start, measure);
      if (end > start) missing.push({ start, end });
      start = range.end;
    }
    return missing.length === 0 ? [] : [{ lane, file, missing, measure }];
  });
}

/** Bytes that the source reads again for its sake. */
const toRead = ({ missing: [first], measure }: Behind): number => measure - first!.start;
