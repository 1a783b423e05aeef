import type { Range } from "../../record/index.ts";

/** Where a published record stands, as its message says it. */
export interface RecordPlace {
  /** Of the sink that published it: lives as long as its state. */
  readonly sink: string;
  /** Rises at each open of that sink. */
  readonly epoch: number;
  /** Of that open alone. */
  readonly run: string;
  readonly lane: LaneName;
  /** What of the origin has ended with this message and those before it: from the end of the one before to its own. */
  readonly range: Range;
  /** Which of several events of one source record. */
  readonly split: number;
  /** False: further events of the same source record follow, so that the range has not ended with this one. */
  readonly isLast: boolean;
}

/** One way from one file of one source. */
export interface LaneName {
  readonly source: string;
  readonly file: string;
  readonly way: string;
}

/**
 * The header of each message that the sink publishes; what a restart reads back.
 *
 * ```
 * Tailrace-Record: 1 <sink> <epoch>.<run> <source> <file> <way> <start>-<end> <split>[+]
 *                  |                       `------ URI-encoded -----'                `- more of this record follow
 *                  `- version of this format
 * ```
 */
export const RECORD_HEADER = "Tailrace-Record";

const VERSION = "1";

/** What is the same for all messages of one write. */
export function placePrefix(place: Pick<RecordPlace, "sink" | "epoch" | "run" | "lane">): string {
  const { sink, epoch, run, lane } = place;
  return [VERSION, sink, `${epoch}.${run}`, ...[lane.source, lane.file, lane.way].map(encode)].join(" ");
}

export function formatPlace(
  prefix: string,
  { range, split, isLast }: Pick<RecordPlace, "range" | "split" | "isLast">,
): string {
  return `${prefix} ${range.start}-${range.end} ${split}${isLast ? "" : "+"}`;
}

/** Undefined for what no sink of ours has written. */
export function parsePlace(text: string): RecordPlace | undefined {
  const [version, sink, opened, source, file, way, span, split, ...rest] = text.split(" ");
  if (version !== VERSION || split === undefined || rest.length > 0) return undefined;
  const opening = /^(\d+)\.([0-9a-f]+)$/.exec(opened!);
  const range = /^(\d+)-(\d+)$/.exec(span!);
  const part = /^(\d+)(\+?)$/.exec(split);
  if (opening === null || range === null || part === null) return undefined;
  return {
    sink: sink!,
    epoch: Number(opening[1]),
    run: opening[2]!,
    lane: { source: decode(source!), file: decode(file!), way: decode(way!) },
    range: { start: Number(range[1]), end: Number(range[2]) },
    split: Number(part[1]),
    isLast: part[2] === "",
  };
}

/** An empty text is a `-`, since fields are separated by spaces. */
const encode = (text: string): string => (text === "" ? "-" : encodeURIComponent(text).replace(/^-/, "%2D"));
const decode = (text: string): string => (text === "-" ? "" : decodeURIComponent(text));
