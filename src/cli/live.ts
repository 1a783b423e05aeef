import { hostname } from "node:os";
import type { Plan } from "../config/index.ts";
import { errnoOf, toError } from "../errors.ts";
import { systemClock } from "../runtime/clock.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { systemRandom } from "../runtime/random.ts";
import type { StageContext } from "../stage/index.ts";
import { silentLogger } from "../telemetry/log.ts";
import { maskUrls } from "../telemetry/redact.ts";

/** What trying one source or sink gave. */
export interface Reached {
  readonly component: string;
  readonly reachable: boolean;
  /** Why not; or, of one that needs no trying, why that is. */
  readonly reason?: string;
}

/** One that says nothing for this long is unreachable, milliseconds; its own `timeout_ms` may be shorter. */
const LONGEST_MS = 10_000;

/**
 * Tries every sink, and every source that has something to try, at once, in the order of the configuration. Nothing is
 * changed at any of them.
 */
export function probeAll(plan: Plan, longestMs: number = LONGEST_MS): Promise<Reached[]> {
  const sources = plan.sources.filter(({ definition }) => definition.probe !== undefined);
  return Promise.all([...sources, ...plan.sinks].map((one) => probe(one, plan, longestMs)));
}

async function probe(
  { name, definition, options }: Plan["sources"][number] | Plan["sinks"][number],
  plan: Plan,
  longestMs: number,
): Promise<Reached> {
  if (definition.probe === undefined) return { component: name, reachable: true, reason: "there is nothing to try" };
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
    timer = setTimeout(() => resolve({ component: name, reachable: false, reason }), longestMs);
  });
  const tried = definition.probe(options, context).then(
    () => ({ component: name, reachable: true }),
    (thrown: unknown) => ({ component: name, reachable: false, reason: reasonOf(thrown, name) }),
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
