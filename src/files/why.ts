import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { PathUse } from "./file-registry.ts";
import type { FileState } from "./file-state.ts";
import type { PathPatterns } from "./glob.ts";

/** Whether and why a source reads a path, and where it stands; what `tailrace why` prints. All positions in bytes. */
export interface WhyAnswer {
  readonly path: string;
  /** A plain English sentence. */
  readonly answer: string;
  /** True while lines of this path are, or will be, delivered as they come. */
  readonly is_read: boolean;
  /** Everything below it was read. */
  readonly position?: number;
  /** Everything below it has ended at every sink, and that is durable. */
  readonly committed?: number;
  readonly size?: number;
  readonly phase?: string;
  readonly generation?: number;
  /** All names it was seen under, newest last. */
  readonly names?: readonly string[];
  readonly key?: string;
}

/** What the manager knows beside the file itself. */
export interface WhyFacts {
  readonly patterns: PathPatterns;
  /** What the path stands for; undefined: nothing was found there yet. */
  readonly use: PathUse | undefined;
  /** Files that had this name and are remembered. */
  readonly remembered: readonly FileState[];
  /** A file of this kind is open. */
  isOpen(state: FileState): boolean;
  /** Why it is not opened although there is something to read; undefined: it will be at once. */
  waitsFor(state: FileState): string | undefined;
  committedOf(key: string): number;
  /** What is at the path now. */
  readonly stat: FileStat | undefined;
}

/** Of a running source. */
export function why(path: BytePath, facts: WhyFacts): WhyAnswer {
  const text = pathToText(path);
  const { use, remembered } = facts;
  if (use?.kind === "file") return aboutFile(text, use.state, facts);
  if (use?.kind === "copy") {
    const of = pathToText(use.of.path);
    return {
      ...common(text, use.of, facts),
      is_read: false,
      answer: `it is a copy of ${of}: its first ${use.common} bytes are delivered from there, and nothing is delivered twice`,
    };
  }
  if (use?.kind === "waiting")
    return {
      path: text,
      is_read: false,
      size: use.stat.size,
      answer: `it cannot be told yet what it is: ${use.reason}`,
    };
  if (use?.kind === "ignored")
    return { path: text, is_read: false, size: use.stat.size, answer: `it is left out: ${use.reason}` };
  if (use?.kind === "unreadable")
    return {
      path: text,
      is_read: false,
      answer: `it cannot be looked at (${use.error.message}); it is tried again with every scan`,
    };
  const verdict = judged(path, facts.patterns);
  if (verdict !== undefined) return { path: text, is_read: false, answer: verdict };
  const last = remembered.at(-1);
  if (last !== undefined) return aboutFile(text, last, facts);
  return { path: text, is_read: false, answer: notFound(facts.stat) };
}

/** Of a source that does not run, from what is stored. */
export function whyAtRest(
  path: BytePath,
  patterns: PathPatterns,
  stored: { readonly entries: ReadonlyMap<string, FileEntry>; committedOf(key: string): number },
  stat: FileStat | undefined,
): WhyAnswer {
  const text = pathToText(path);
  const verdict = judged(path, patterns);
  if (verdict !== undefined) return { path: text, is_read: false, answer: verdict };
  const known = [...stored.entries]
    .filter(([, entry]) => entry.names.includes(path))
    .sort(([, one], [, other]) => one.lastSeenMs - other.lastSeenMs)
    .at(-1);
  if (stat === undefined && known === undefined) return { path: text, is_read: false, answer: notFound(stat) };
  if (known === undefined)
    return {
      path: text,
      is_read: true,
      size: stat!.size,
      answer: "no agent runs, and none has read it yet; the next one will, as a new file",
    };
  const [key, entry] = known;
  const committed = Math.max(stored.committedOf(key), entry.start ?? 0);
  const isFinished = entry.tombstoneSinceMs !== undefined;
  const left = stat === undefined ? 0 : Math.max(0, stat.size - committed);
  return {
    path: text,
    is_read: !isFinished,
    committed,
    size: stat?.size ?? entry.lastSize,
    generation: entry.generation,
    names: entry.names.map((name) => pathToText(name as BytePath)),
    key,
    answer: isFinished
      ? `no agent runs; it was read to its end at byte ${committed}, and would be read on if it grew`
      : stat === undefined
        ? `no agent runs; it is gone, and was delivered up to byte ${committed}`
        : `no agent runs; the next one goes on at byte ${committed}, with ${left} bytes to read`,
  };
}

function aboutFile(text: string, state: FileState, facts: WhyFacts): WhyAnswer {
  return {
    ...common(text, state, facts),
    is_read: state.phase === "live" || state.phase === "rotated",
    answer: sentence(state, facts),
  };
}

function common(text: string, state: FileState, facts: WhyFacts) {
  return {
    path: text,
    position: state.offset,
    committed: Math.max(facts.committedOf(state.key), state.start),
    size: state.size,
    phase: state.phase,
    generation: state.generation,
    names: state.names.map(pathToText),
    key: state.key,
  };
}

function sentence(state: FileState, facts: WhyFacts): string {
  const { phase, offset, trouble } = state;
  if (phase === "finished") return `it was read to its end at byte ${offset}, and is read on if it grows`;
  if (phase === "missing")
    return `nothing that is there has its content from byte ${offset} on; it is looked for, and then reported as a gap`;
  if (trouble !== undefined)
    return `it cannot be read (${trouble.error.message}); its position ${offset} is kept, and it is tried again`;
  const how = phase === "rotated" ? "it was rotated away and is read to its end; it" : "it";
  const waits = facts.waitsFor(state);
  if (waits !== undefined) return `${how} waits at byte ${offset} ${waits}`;
  const partial = state.readEnd - offset;
  if (state.readEnd >= state.size && partial > 0)
    return `${how} is read up to byte ${offset}; ${partial} bytes of an unfinished line wait for their end`;
  if (state.lagBytes === 0) return `${how} is read to its end, and waits for more`;
  return `${how} is being read, with ${state.lagBytes} bytes to go`;
}

function judged(path: BytePath, patterns: PathPatterns): string | undefined {
  const verdict = patterns.judge(path);
  if (verdict.kind === "included") return undefined;
  return verdict.kind === "excluded"
    ? `it is left out by exclude = "${verdict.by}"`
    : "no pattern of include matches it";
}

function notFound(stat: FileStat | undefined): string {
  if (stat === undefined) return "there is no such file; it is read as soon as there is one";
  if (stat.kind !== "file") return "it is no file";
  return "it matches and was not seen yet; the next scan finds it";
}
