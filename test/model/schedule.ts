import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { type Action, ALL_KINDS, drawActions, type Kind } from "./actions.ts";
import type { EngineEvent } from "./engine.ts";
import { Ledger, type ToldGap } from "./ledger.ts";
import { LOGS, ModelMachine, OLD } from "./machine.ts";
import { Script } from "./script.ts";
import { MarkTarget, ServerTarget, type SimTarget, TableTarget } from "./sim-targets.ts";

export interface ScheduleResult {
  readonly problems: readonly string[];
  readonly lines: number;
  readonly kills: number;
  /** Lines whose bytes had lost their last name, and that did not arrive everywhere. */
  readonly lost: number;
  readonly gapEvents: number;
  /** What the agent said, with simulated milliseconds. */
  readonly events: readonly string[];
  /** How the world was set up, for the reader of a failure. */
  readonly setting: string;
}

/** What a seed stands for. */
export interface Schedule {
  readonly seed: number;
  readonly kinds: readonly Kind[];
  readonly actions: readonly Action[];
}

/** @param only these kinds, instead of some by chance */
export function scheduleOf(seed: number, only?: readonly Kind[]): Schedule {
  const random = new SeededRandom(seed);
  const drawn = ALL_KINDS.filter(() => random.chance(0.2));
  const kinds = only ?? drawn;
  return { seed, kinds, actions: drawActions(random, new Set(kinds)) };
}

/**
 * Runs one schedule: actions at random moments of simulated time, then everything is mended, the agent is given time to
 * deliver what is owed, stopped, and started once more (nothing may come again). The same seed and actions give the same
 * run.
 */
export async function runSchedule({ seed, kinds: some, actions }: Schedule): Promise<ScheduleResult> {
  const kinds = new Set(some);
  const random = new SeededRandom(seed ^ 0x5bd1e995);
  const readsSiblings = random.chance(0.4);
  const setting = {
    include: [readsSiblings ? `${LOGS}/**` : `${LOGS}/*.log`],
    rotatedTo: kinds.has("olddir") ? [`${OLD}/{name}*`] : [],
    birthTimes: random.chance(0.7),
    lastFreedFirst: kinds.has("reuse"),
    lostNotifications: random.pick([0, 0.3, 1]),
    delayChance: random.pick([0, 0.05, 0.3]),
    shortIo: random.pick([0, 0.2]),
    maxOpenFiles: random.pick([1, 2, 100, 100]),
    rotateWaitMs: random.pick([500, 500, 5000]),
  };
  const moods = { mood: "well" as "well" | "down" | "hanging" };
  const concurrency = random.pick([1, 1, 3]);
  const second = kinds.has("sinks") ? secondSink(random.fork(), moods, concurrency) : undefined;
  const machine = new ModelMachine(random.fork(), setting, second);
  const ledger = new Ledger();
  const script = new Script(machine, ledger, random.fork(), {
    kinds,
    // What lies in another folder matches nothing.
    readsSiblings: readsSiblings && !kinds.has("olddir"),
    moods,
  });
  const problems: string[] = [];
  const ended = () => {
    const failure = machine.takeFailure();
    if (failure !== undefined) problems.push(`the agent ended by itself: ${failure.stack}`);
    return failure !== undefined;
  };
  const judge = () => {
    const sinks = machine.sinks();
    const gaps = machine.events.filter(({ name }) => name === "gap").map(toldGap);
    const repeated = familiesOf(machine.events.filter(({ name }) => name === "repeat" || name === "gap"));
    return [
      ...sinks.flatMap(({ lines, isExactlyOnce }, index) =>
        ledger
          .problemsOf(lines, { allowRepeats: !isExactlyOnce, isConcurrent: index > 0 && concurrency > 1, repeated })
          .map((problem) => (index === 0 ? problem : `at the second sink: ${problem}`)),
      ),
      ...ledger.untruthsOf(
        gaps,
        sinks.map(({ lines }) => lines),
      ),
    ];
  };
  try {
    await machine.start();
    for (const action of actions) {
      await script.run(action);
      if (ended()) break;
    }
    await script.mend();
    if (random.chance(0.8)) await script.crash(random.int(1, 6));
    machine.killAfter(Number.POSITIVE_INFINITY);
    if (!machine.isUp) await machine.start();
    const isPaid = () => machine.sinks().every(({ lines }) => ledger.isPaid(lines));
    // Backoffs are at most some ten seconds; a minute without an end is for ever.
    for (let waits = 0; waits < 200 && !isPaid(); waits += 1) {
      await machine.clock.advance(300);
      if (ended()) break;
      if (!machine.isUp) await machine.start();
    }
    // What is missing is searched for a while before it is given up.
    for (let waits = 0; waits < 12 && (waits === 0 || judge().length > 0); waits += 1) {
      await machine.clock.advance(1000);
      if (ended()) break;
      if (!machine.isUp) await machine.start();
    }
    if (!ended() && machine.isUp) await machine.stop();
    if (random.chance(0.3)) {
      await machine.start();
      await machine.clock.advance(3000);
      if (!ended() && machine.isUp) await machine.stop();
    }
  } catch (error) {
    problems.push(`the run failed: ${error instanceof Error ? error.stack : String(error)}`);
    machine.kill();
  }
  problems.push(...judge());
  return {
    problems,
    lines: machine.sinks()[0]!.lines.length,
    kills: machine.kills,
    lost: ledger.lostAt(machine.sinks().map(({ lines }) => lines)),
    gapEvents: machine.events.filter((event) => event.name === "gap").length,
    events: machine.events.map(({ atMs, name, message }) => `${Math.round(atMs)} ms ${name}: ${message}`),
    setting: JSON.stringify({ ...setting, second: second?.constructor.name, concurrency }),
  };
}

/**
 * Leaves out kinds and actions one by one as long as the schedule still fails, then the pauses: what is left is the story
 * to read.
 */
export async function shorten(schedule: Schedule, limitMs = 5_000): Promise<Schedule> {
  let shortest = schedule;
  const endMs = performance.now() + limitMs;
  const sort = sortOf((await runSchedule(schedule)).problems[0]!);
  const tryOut = async (candidate: Schedule) => {
    if (performance.now() > endMs) return;
    const { problems } = await runSchedule(candidate);
    if (problems.some((problem) => sortOf(problem) === sort)) shortest = candidate;
  };
  for (const kind of schedule.kinds) await tryOut({ ...shortest, kinds: shortest.kinds.filter((one) => one !== kind) });
  for (let at = shortest.actions.length - 1; at >= 0; at -= 1)
    await tryOut({ ...shortest, actions: shortest.actions.filter((_, index) => index !== at) });
  for (let at = shortest.actions.length - 1; at >= 0; at -= 1)
    if (shortest.actions[at]!.pauseMs > 0)
      await tryOut({
        ...shortest,
        actions: shortest.actions.map((action, index) => (index === at ? { ...action, pauseMs: 0 } : action)),
      });
  return shortest;
}

/** What sort of problem it is, for the story must stay the same one. */
function sortOf(problem: string): string {
  return problem.slice(0, problem.indexOf(":")).replace(/\d+/g, "N");
}

function secondSink(
  random: SeededRandom,
  moods: { readonly mood: "well" | "down" | "hanging" },
  concurrency: number,
): SimTarget {
  const temper = {
    delay: 0.2,
    get delayMs() {
      return moods.mood === "hanging" ? 30_000 : 30;
    },
    get fail() {
      return moods.mood === "down" ? 1 : 0.03;
    },
    lostAnswer: 0.05,
  };
  const kind = random.pick(["mark", "table", "server"] as const);
  if (kind === "mark") return new MarkTarget(random.fork(), temper);
  if (kind === "table") return new TableTarget(random.fork(), temper, concurrency);
  return new ServerTarget(random.fork(), temper, concurrency);
}

function toldGap({ facts }: EngineEvent): ToldGap {
  const { file, offset, bytes } = facts as { file: string; offset: number; bytes?: number };
  return { family: familyOf(file), file, offset, bytes };
}

function familiesOf(events: readonly EngineEvent[]): ReadonlySet<string> {
  return new Set(events.map(({ facts }) => familyOf((facts as { file: string }).file)));
}

/** Whose file it was; targets of the link are the third family's. */
function familyOf(file: string): string {
  return /\/([a-z])(-link)?\.log/.exec(file)?.[1] ?? "c";
}
