import { guaranteeOf } from "../stage/index.ts";
import type { Plan } from "./plan.ts";

export type Guarantee =
  /** Every record once, across kills. */
  | "exactly_once"
  /** Nothing is lost; what was in flight may come twice. */
  | "at_least_once"
  /** Nothing comes twice; what was in flight, or did not fit, may be lost. */
  | "at_most_once"
  /** What was in flight may be lost, or come twice. */
  | "best_effort";

/** What is promised between one source and one sink, and why. */
export interface PathGuarantee {
  readonly source: string;
  readonly sink: string;
  /** Component names from source to sink; of several ways the shortest. */
  readonly path: readonly string[];
  readonly guarantee: Guarantee;
  /** Sentences. */
  readonly reasons: readonly string[];
}

/** The guarantee of each pair of a source and a sink that it reaches (product promise P2). */
export function guarantees(plan: Plan): PathGuarantee[] {
  const inputsOf = new Map([...plan.transforms, ...plan.sinks].map(({ name, inputs }) => [name, inputs]));
  return plan.sources.flatMap((source) =>
    plan.sinks.flatMap((sink) => {
      const ways = waysBetween(source.name, sink.name, inputsOf);
      if (ways.count === 0) return [];
      const { path } = ways;
      const drops = [...dropsAt(source), ...dropsOn(plan, ways.components), ...dropsOfLag(source, sink)];
      const verdict = judge(source.definition, sink, ways.count, drops, repeatsOf(plan, source, sink));
      return [{ source: source.name, sink: sink.name, path, ...verdict }];
    }),
  );
}

interface Ways {
  readonly count: number;
  readonly path: readonly string[];
  /** Everything behind the source on any way. */
  readonly components: ReadonlySet<string>;
}

function waysBetween(source: string, sink: string, inputsOf: ReadonlyMap<string, readonly string[]>): Ways {
  const known = new Map<string, Ways>();
  const from = (name: string): Ways => {
    if (name === source) return { count: 1, path: [name], components: new Set() };
    const found = known.get(name);
    if (found !== undefined) return found;
    const ways = (inputsOf.get(name) ?? []).map(from).filter((way) => way.count > 0);
    const shortest = ways.reduce<Ways | undefined>(
      (best, way) => (best === undefined || way.path.length < best.path.length ? way : best),
      undefined,
    );
    const joined: Ways = {
      count: ways.reduce((sum, way) => sum + way.count, 0),
      path: shortest === undefined ? [] : [...shortest.path, name],
      components: new Set(ways.length === 0 ? [] : [name, ...ways.flatMap((way) => [...way.components])]),
    };
    known.set(name, joined);
    return joined;
  };
  return from(sink);
}

function dropsAt({ name, definition }: Plan["sources"][number]): string[] {
  const { output } = definition;
  return output === undefined
    ? []
    : [
        `${name} drops ${output.unit} while nobody takes them (overflow = "${output.overflow}"); dropped ones are counted`,
      ];
}

function dropsOn(plan: Plan, components: ReadonlySet<string>): string[] {
  return [...components].flatMap((name) => {
    const { overflow } = plan.channels.input(name);
    return overflow === "drop_newest" || overflow === "drop_oldest"
      ? [
          `the input of ${name} drops records when it is full (overflow = "${overflow}"); dropped ones are counted, not read again`,
        ]
      : [];
  });
}

function dropsOfLag({ definition }: Plan["sources"][number], { name, maxLagBytes }: Plan["sinks"][number]): string[] {
  if (maxLagBytes === undefined) return [];
  const drops = `${name} is not required: while it is more than ${maxLagBytes} bytes behind (max_lag_bytes) it drops what comes, counted, and holds nobody back`;
  return definition.replay === "acknowledged"
    ? [
        drops,
        `what ${name} has not taken when the process ends is lost to it: nobody upstream waits for a sink that is not required`,
      ]
    : [drops];
}

/** What a kill repeats at most, of a sink that keeps no position. */
function repeatsOf(
  plan: Plan,
  source: Plan["sources"][number],
  { definition, options }: Plan["sinks"][number],
): string {
  const { commitIntervalMs, maxUncommittedBytes } = plan.checkpoint;
  const { concurrency = 1, gatherBytes = 0, order = "file" } = definition;
  const batches = typeof concurrency === "number" ? concurrency : concurrency(options);
  const { max_batch_bytes: read } = source.options as { readonly max_batch_bytes?: unknown };
  const bytes = typeof read === "number" ? Math.max(read, gatherBytes) : gatherBytes;
  const each = bytes === 0 ? "" : `, ${batches === 1 ? "" : "each "}of up to ${bytes} bytes as read or one longer line`;
  const inFlight = `${batches} ${batches === 1 ? "batch" : "batches"} in flight${batches > 1 && order === "file" ? " (one for each file)" : ""}${each}`;
  return (
    `after a kill that is at most ${inFlight}; and what was acknowledged in the last ${commitIntervalMs} ms ` +
    "(commit_interval_ms) before it, of which a sink at rest has nothing: there each acknowledgement is committed at once. " +
    `Only while the checkpoint cannot be written more gathers, up to ${maxUncommittedBytes} bytes (max_uncommitted_bytes)`
  );
}

function judge(
  source: Plan["sources"][number]["definition"],
  { definition: sink, options }: Plan["sinks"][number],
  ways: number,
  drops: readonly string[],
  repeats: string,
): { guarantee: Guarantee; reasons: string[] } {
  const reasons: string[] = [];
  let mayLose = drops.length > 0;
  let mayRepeat = false;
  if (source.replay === "replayable")
    reasons.push(`${withArticle(source.type)} source can be read again from any position`);
  if (source.replay === "acknowledged") {
    const isUnique = sink.isUniqueOnRecordId?.(options) ?? false;
    mayRepeat = !isUnique;
    reasons.push(
      `${withArticle(source.type)} source is acknowledged upstream after the commit, so that a kill between the two repeats records${isUnique ? `, which ${withArticle(sink.type)} sink that is unique on the record id does not store twice` : ""}`,
    );
  }
  if (source.replay === "fleeting") {
    mayLose = true;
    reasons.push(`${withArticle(source.type)} source cannot repeat: what was in flight when the process ended is lost`);
    if (sink.fleetingLoss !== undefined) reasons.push(sink.fleetingLoss);
  }
  if (guaranteeOf(sink, options) === "exactly_once")
    reasons.push(`${withArticle(sink.type)} sink stores what it holds together with its position`);
  else {
    mayRepeat = true;
    reasons.push(
      `${withArticle(sink.type)} sink keeps no position: what was in flight or uncommitted may be sent again`,
      repeats,
    );
  }
  if (ways > 1) {
    mayRepeat = true;
    reasons.push(`a record reaches the sink by ${ways} ways`);
  }
  reasons.push(...drops);
  const guarantee = mayLose
    ? mayRepeat
      ? "best_effort"
      : "at_most_once"
    : mayRepeat
      ? "at_least_once"
      : "exactly_once";
  return { guarantee, reasons };
}

/** `http` is spelled out when it is spoken: "an http sink". */
const withArticle = (type: string): string => `${/^(?:[aeio]|http)/.test(type) ? "an" : "a"} ${type}`;
