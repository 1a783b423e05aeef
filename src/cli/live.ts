import { hostname } from "node:os";
import type { Plan } from "../config/index.ts";
import { errnoOf, toError } from "../errors.ts";
import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { StageContext } from "../stage/index.ts";
import { silentLogger } from "../telemetry/log.ts";
import { maskUrls } from "../telemetry/redact.ts";

/** What trying one sink gave. */
export interface Reached {
  readonly sink: string;
  readonly reachable: boolean;
  /** Why not; or, of a sink that needs no trying, why that is. */
  readonly reason?: string;
}

/** A sink that says nothing for this long is unreachable, milliseconds; its own `timeout_ms` may be shorter. */
const LONGEST_MS = 10_000;

/** Tries every sink at once, in the order of the configuration. Nothing is changed at any of them. */
export function probeSinks(plan: Plan, longestMs: number = LONGEST_MS): Promise<Reached[]> {
  return Promise.all(plan.sinks.map((sink) => probe(sink, plan, longestMs)));
}

async function probe(sink: Plan["sinks"][number], plan: Plan, longestMs: number): Promise<Reached> {
  const { name, definition, options } = sink;
  if (definition.probe === undefined) return { sink: name, reachable: true, reason: "there is nothing to try" };
  const context: StageContext = {
    name,
    log: silentLogger,
    events: { emit() {} },
    clock: systemClock,
    random: systemRandom,
    fileSystem: nodeFileSystem,
    host: hostname(),
    stateDir: plan.stateDir,
  };
  let timer: NodeJS.Timeout | undefined;
  const tooLong = new Promise<Reached>((resolve) => {
    const reason = `no answer within ${longestMs} ms`;
    timer = setTimeout(() => resolve({ sink: name, reachable: false, reason }), longestMs);
  });
  const tried = definition.probe(options, context).then(
    () => ({ sink: name, reachable: true }),
    (thrown: unknown) => ({ sink: name, reachable: false, reason: reasonOf(thrown, name) }),
  );
  try {
    return await Promise.race([tried, tooLong]);
  } finally {
    clearTimeout(timer);
  }
}

/** What was thrown in words, without the component's name in front, which is printed anyway. */
function reasonOf(thrown: unknown, name: string): string {
  const { message } = toError(thrown);
  const text = message.startsWith(`${name}: `) ? message.slice(name.length + 2) : message;
  return maskUrls(text || errnoOf(thrown) || "it gave no reason").replace(/\s*\n\s*/g, " ");
}
