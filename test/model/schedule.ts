import { SeededRandom } from "../../src/testing/seeded-random.ts";
import { type Action, drawActions, Script } from "./actions.ts";
import { LOGS, ModelMachine } from "./machine.ts";

export interface ScheduleResult {
  readonly problems: readonly string[];
  readonly lines: number;
  /** Lines whose bytes had lost their last name, and that did not arrive. */
  readonly lost: number;
  readonly gapEvents: number;
  /** How the world was set up, for the reader of a failure. */
  readonly setting: string;
}

const FAMILIES = 2;

/** The actions that a seed stands for. */
export function actionsOf(seed: number): Action[] {
  return drawActions(new SeededRandom(seed), FAMILIES);
}

/**
 * Runs one schedule: actions at random moments of simulated time, then everything is mended, the agent is given time to
 * deliver what is owed, stopped, and started once more (nothing may come again). The same seed and actions give the same
 * run.
 */
export async function runSchedule(seed: number, actions: readonly Action[] = actionsOf(seed)): Promise<ScheduleResult> {
  const random = new SeededRandom(seed ^ 0x5bd1e995);
  const readsSiblings = random.chance(0.4);
  const setting = {
    include: [readsSiblings ? `${LOGS}/**` : `${LOGS}/*.log`],
    birthTimes: random.chance(0.7),
    lostNotifications: random.pick([0, 0.3, 1]),
    delayChance: random.pick([0, 0.05, 0.3]),
    shortIo: random.pick([0, 0.2]),
    maxOpenFiles: random.pick([1, 2, 100]),
  };
  const machine = new ModelMachine(random.fork(), setting);
  const script = new Script(machine, random.fork(), FAMILIES, readsSiblings);
  const problems: string[] = [];
  const ended = () => {
    const failure = machine.takeFailure();
    if (failure !== undefined) problems.push(`the agent ended by itself: ${failure.stack}`);
    return failure !== undefined;
  };
  try {
    await machine.start();
    for (const action of actions) {
      await script.run(action);
      if (ended()) break;
    }
    await script.mend();
    if (!machine.isUp) await machine.start();
    // Backoffs are at most some ten seconds; two minutes without an end is for ever.
    for (let waits = 0; waits < 600 && !script.ledger.isPaid(new Set(machine.outputLines())); waits += 1) {
      await machine.clock.advance(200);
      if (ended()) break;
      if (!machine.isUp) await machine.start();
    }
    await machine.clock.advance(1000);
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
  const arrived = machine.outputLines();
  problems.push(...script.ledger.problemsOf(arrived, { allowRepeats: false }));
  const lost = script.ledger.lost(new Set(arrived)).length;
  const gapEvents = machine.events.filter((event) => event.name === "gap").length;
  return { problems, lines: arrived.length, lost, gapEvents, setting: JSON.stringify(setting) };
}

/** Leaves out actions one by one as long as the schedule still fails: what is left is the story to read. */
export async function shorten(seed: number, actions: readonly Action[], limitMs = 5_000): Promise<readonly Action[]> {
  let shortest = actions;
  const endMs = performance.now() + limitMs;
  for (let at = shortest.length - 1; at >= 0 && performance.now() < endMs; at -= 1) {
    const without = shortest.filter((_, index) => index !== at);
    if ((await runSchedule(seed, without)).problems.length > 0) shortest = without;
  }
  return shortest;
}
