import type { Plan } from "../config/index.ts";
import type { TakenOver } from "./tailrace-subject.ts";

type Options = { readonly [key: string]: unknown };

/** Options that would leave lines out, or cut them, by design: torture sets them itself. */
const FORCED_SOURCE = {
  read_from: "beginning",
  exclude: [],
  line_delimiter: "\n",
  encoding: "utf-8",
  partial_line_timeout_ms: 0,
  ignore_older_ms: 0,
  remove_after_ms: 0,
} as const;
/** The longest line of torture, its header, with room. */
const LEAST_LINE_BYTES = 4_096;
/** Of each source and sink so many are tried: more of the same finds no more. */
const MOST = 5;

/**
 * What of a user's configuration torture tries out: the options of its file sources, file sinks and HTTP sinks, and the
 * sections that shape delivery. Nothing that it names is read, written or connected to.
 */
export function takeOver(plan: Plan): TakenOver {
  const notes: string[] = [];
  const ofType = (list: Plan["sources"] | Plan["sinks"], type: string) =>
    list
      .filter(({ definition }) => definition.type === type)
      .map(({ name, options }) => ({ name, options: options as Options }));
  const sources = ofType(plan.sources, "file");
  const files = ofType(plan.sinks, "file");
  const https = ofType(plan.sinks, "http");
  const others = [...plan.sources, ...plan.sinks].filter(
    ({ definition }) => !["file", "http"].includes(definition.type),
  );
  const say = (what: string, names: readonly { readonly name: string }[]) => {
    if (names.length > 0) notes.push(`${what}: ${names.map(({ name }) => name).join(", ")}`);
  };
  say("taken over, reading torture's logs in place of its own", sources.slice(0, MOST));
  say("taken over, writing to a private folder", files.slice(0, MOST));
  say("taken over, sending to torture's receiver in place of its target", https.slice(0, MOST));
  say("left out, their targets are not touched", [
    ...others,
    ...sources.slice(MOST),
    ...files.slice(MOST),
    ...https.slice(MOST),
  ]);
  say("left out, lines pass unchanged", plan.transforms);
  if (files.length === 0)
    notes.push("there is no file sink: one with default options is added, as the judge of exactly once");
  const { commitIntervalMs, commitBytes, maxUncommittedBytes, maxUncommittedMs } = plan.checkpoint;
  return {
    sections: {
      checkpoint: {
        commit_interval_ms: commitIntervalMs,
        commit_bytes: commitBytes,
        max_uncommitted_bytes: maxUncommittedBytes,
        max_uncommitted_ms: maxUncommittedMs,
      },
    },
    sources: (sources.length === 0 ? [{ name: "", options: {} }] : sources.slice(0, MOST)).map(({ options }) =>
      sourceOptions(options),
    ),
    files: new Map(
      files.length === 0
        ? [["file", {}]]
        : files
            .slice(0, MOST)
            .map(({ name, options }) => [name, without(options, ["path", "rotate", "inputs", "existing"])]),
    ),
    https: new Map(https.slice(0, MOST).map(({ name, options }) => [name, httpOptions(options)])),
    notes,
  };
}

function sourceOptions(options: Options): Options {
  const longest = options["max_line_bytes"];
  return {
    ...without(options, ["include", "inputs"]),
    ...FORCED_SOURCE,
    ...(typeof longest === "number" && longest < LEAST_LINE_BYTES ? { max_line_bytes: LEAST_LINE_BYTES } : {}),
  };
}

function httpOptions(options: Options): Options {
  const { retry } = options as { readonly retry?: Options };
  // A limit of attempts would be kept: what it gives up is a dead letter, and no loss.
  return { ...without(options, ["url", "headers", "tls", "inputs", "method"]), retry: { ...retry, max_attempts: 0 } };
}

function without(options: Options, keys: readonly string[]): Options {
  return Object.fromEntries(
    Object.entries(options).filter(([key, value]) => !keys.includes(key) && value !== undefined),
  );
}
