import { createReadStream, existsSync } from "node:fs";
import { createInterface } from "node:readline";
import type { AgentEvent } from "./agent-process.ts";
import type { Generation } from "./generation.ts";
import type { Ledger } from "./ledger.ts";
import type { LineNumber } from "./numbered-line.ts";
import { outputLine } from "./output-reader.ts";
import type { TargetSink } from "./subject.ts";

/** Lines of one generation with the same fault. */
export interface Fault {
  readonly sink: string;
  /** `untold`: gone for good, and no `gap` says so. `foreign`: delivered, but never written so. */
  readonly kind: "missing" | "untold" | "twice" | "out of order" | "foreign";
  readonly generation: Generation | undefined;
  /** `12-34 (of a.log at 1234)`, ready to print. */
  readonly lines: string[];
  count: number;
}

export interface SinkFigures {
  readonly sink: string;
  readonly isExact: boolean;
  arrived: number;
  lost: number;
  twice: number;
  outOfOrder: number;
  foreign: number;
  /** Lines that were destroyed out of reach: a `gap` told of them, or no agent ever saw them. */
  told: number;
}

/** What went wrong, by sink and generation. */
export class Verdict {
  readonly faults: Fault[] = [];
  readonly figures: SinkFigures[] = [];

  get isRight(): boolean {
    return this.faults.length === 0;
  }

  add(kind: Fault["kind"], sink: string, generation: Generation | undefined, text: string): void {
    const found = this.faults.find(
      (fault) => fault.kind === kind && fault.sink === sink && fault.generation === generation,
    );
    if (found === undefined) this.faults.push({ kind, sink, generation, lines: [text], count: 1 });
    else {
      found.count += 1;
      if (found.lines.length < 12) found.lines.push(text);
    }
  }
}

/** Compares everything that was written with everything that came. */
export async function judge(
  ledger: Ledger,
  sinks: readonly TargetSink[],
  events: readonly AgentEvent[],
  tellsGaps: boolean,
): Promise<Verdict> {
  const verdict = new Verdict();
  const gaps = events.filter(({ event }) => event === "gap");
  for (const judged of sinks) {
    const { name: sink, isExact, path } = judged;
    const figures = { sink, isExact, arrived: 0, lost: 0, twice: 0, outOfOrder: 0, foreign: 0, told: 0 };
    verdict.figures.push(figures);
    if (path !== undefined) await readOutput(ledger, judged, path, verdict, figures);
    figures.arrived = ledger.arrived(sink);
    figures.twice = ledger.repeats(sink);
    for (const line of ledger.missing(sink)) {
      const generation = ledger.generationOf(line);
      const { destroyedAtMs } = generation;
      const at = `${line.number} (at ${ledger.offsetOf(line)})`;
      if (destroyedAtMs === undefined) {
        figures.lost += 1;
        verdict.add("missing", sink, generation, at);
      } else if (
        !tellsGaps ||
        ledger.offsetOf(line) >= generation.seenOffset ||
        isTold(ledger, line, generation, destroyedAtMs, gaps)
      )
        figures.told += 1;
      else {
        figures.lost += 1;
        verdict.add("untold", sink, generation, at);
      }
    }
  }
  return verdict;
}

/** A `gap` under one of its names, after its content went, that begins at or before the line. */
function isTold(
  ledger: Ledger,
  line: LineNumber,
  { names }: Generation,
  destroyedAtMs: number,
  gaps: readonly AgentEvent[],
): boolean {
  const offset = ledger.offsetOf(line);
  return gaps.some(
    (gap) =>
      gap.file !== undefined && names.has(gap.file) && gap.atMs >= destroyedAtMs - 100 && (gap.offset ?? 0) <= offset,
  );
}

async function readOutput(
  ledger: Ledger,
  { name: sink, isExact }: TargetSink,
  path: string,
  verdict: Verdict,
  figures: SinkFigures,
): Promise<void> {
  ledger.forget(sink);
  if (!existsSync(path)) return;
  const highest = new Map<string, number>();
  let at = 0;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
    at += 1;
    const event = outputLine(text);
    const where = `${event.file === undefined ? "" : ` of ${event.file} at ${event.offset}`}, output line ${at}`;
    const line = ledger.recognise(event.message);
    if (line === undefined) {
      figures.foreign += 1;
      const shown = JSON.stringify(event.message.replace(/#{20,}/, "###").replace(/\0{4,}/, "NUL bytes ")).slice(
        0,
        160,
      );
      const about = nearest(ledger, event.message);
      verdict.add("foreign", sink, about, `${shown}${where}`);
      continue;
    }
    const before = ledger.cameTimes(sink, line);
    ledger.count(sink, line);
    if (!isExact) continue;
    const generation = ledger.generationOf(line);
    if (before > 0) {
      verdict.add("twice", sink, generation, `${line.number}${where}`);
      continue;
    }
    if (ledger.isLate(line)) continue;
    const last = highest.get(line.family) ?? -1;
    if (line.number < last) {
      figures.outOfOrder += 1;
      verdict.add("out of order", sink, generation, `${line.number} after ${last}${where}`);
    } else highest.set(line.family, line.number);
  }
}

/** The generation that a damaged line seems to be of. */
function nearest(ledger: Ledger, text: string): Generation | undefined {
  const found = /([A-Z][a-z]?) \d{7} g(\d{5})/.exec(text);
  return found === null ? undefined : ledger.generationsOf(found[1]!)[Number(found[2])];
}
