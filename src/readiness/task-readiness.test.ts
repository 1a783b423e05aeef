import { describe, expect, it } from "vitest";
import { loadPlan } from "../config/index.ts";
import type { TaskReadinessBehaviour } from "../stage/index.ts";
import { builtInStages } from "../stages.ts";
import { silentLogger } from "../telemetry/log.ts";
import { ManualClock } from "../testing/manual-clock.ts";
import { memoryStageChannels } from "../testing/memory-stage-channels.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { TaskReadiness } from "./index.ts";

const PLAIN: TaskReadinessBehaviour = {
  maxRetries: 2,
  backoff: { initialMs: 100, maxMs: 5000, multiplier: 3, jitter: 0 },
};

function bench(options: { capacity?: number; sendTimeoutMs?: number; behaviour?: TaskReadinessBehaviour } = {}) {
  const clock = new ManualClock();
  const { capacity = 1, sendTimeoutMs = 1000, behaviour = PLAIN } = options;
  const channels = memoryStageChannels(capacity, { clock, sendTimeoutMs, taskReadiness: behaviour });
  const readiness = TaskReadiness.shared({ channels, clock, random: new SeededRandom(1), log: silentLogger });
  const ran: [name: string, atMs: number][] = [];
  /** Each task holds the reader until it is let go, where `holds`. */
  let letGo: (() => void) | undefined;
  const task = (name: string, holds = false) => ({
    ready: () => {
      ran.push([name, clock.monotonic()]);
      if (holds) return new Promise<void>((resolve) => (letGo = resolve));
    },
  });
  return { clock, channels, readiness, ran, task, letGo: () => letGo?.() };
}

describe("TaskReadiness", () => {
  it("announces each task when it is due, in the order of their times", async () => {
    const { clock, readiness, ran, task } = bench({ capacity: 2 });
    readiness.after(task("late"), 300);
    readiness.after(task("soon"), 10);
    readiness.after(task("now"), 0);
    await clock.advance(299);
    expect(ran).toEqual([
      ["now", 0],
      ["soon", 10],
    ]);
    await clock.advance(1);
    expect(ran.at(-1)).toEqual(["late", 300]);
    expect(readiness.waiting).toEqual({ delayed: 0, dependent: 0, due: 0, overdue: 0 });
    await readiness.release();
  });

  it("announces what depended on something when that has finished, and nothing else", async () => {
    const { clock, readiness, ran, task } = bench();
    const [one, other] = [{}, {}];
    readiness.afterFinish(task("a"), one);
    readiness.afterFinish(task("b"), other);
    readiness.afterFinish(task("c"), one);
    await clock.advance(60_000);
    expect(ran).toEqual([]);
    readiness.finish(one);
    await clock.settle();
    expect(ran.map(([name]) => name)).toEqual(["a", "c"]);
    expect(readiness.waiting.dependent).toBe(1);
    await readiness.release();
  });

  it("forgets a task that is not wanted any more", async () => {
    const { clock, readiness, ran, task } = bench();
    const unwanted = task("unwanted");
    readiness.after(unwanted, 10);
    readiness.forget(unwanted);
    await clock.advance(20_000);
    expect(ran).toEqual([]);
    await readiness.release();
  });

  it("tries a refused announcement again by the backoff; spent, the task stays due, is counted, and a scan finds it", async () => {
    const { clock, readiness, ran, task, letGo } = bench();
    // The reader is held by the first, the channel of one by the second.
    readiness.after(task("first", true), 0);
    await clock.advance(0);
    readiness.after(task("second"), 0);
    await clock.advance(0);
    readiness.after(task("third"), 0);
    readiness.after(task("fourth"), 5000);
    // Three sends of a second each, 100 and 300 ms between them.
    await clock.advance(3399);
    expect([readiness.spent, readiness.waiting.due, readiness.waiting.overdue]).toEqual([0, 1, 0]);
    await clock.advance(1);
    expect([readiness.spent, readiness.waiting.due, readiness.waiting.overdue]).toEqual([1, 0, 1]);
    letGo();
    await clock.settle();
    expect(ran.map(([name]) => name)).toEqual(["first", "second"]);
    // The next scan, a second after it was given up.
    await clock.advance(1000);
    expect(ran.at(-1)).toEqual(["third", 4400]);
    await clock.advance(600);
    expect(ran.at(-1)).toEqual(["fourth", 5000]);
    await readiness.release();
  });

  it("never tries again with max_retries = 0, and still loses nothing", async () => {
    const behaviour = { ...PLAIN, maxRetries: 0 };
    const { clock, readiness, ran, task, letGo } = bench({ behaviour, sendTimeoutMs: 0 });
    readiness.after(task("first", true), 0);
    await clock.advance(0);
    for (const name of ["b", "c", "d"]) readiness.after(task(name), 0);
    await clock.advance(10);
    expect([readiness.spent, readiness.waiting.overdue]).toEqual([2, 2]);
    letGo();
    await clock.advance(10_000);
    expect(ran.map(([name]) => name)).toEqual(["first", "b", "c", "d"]);
    await readiness.release();
  });

  it("keeps each wait within its jitter and its longest", async () => {
    const behaviour = { maxRetries: 6, backoff: { initialMs: 100, maxMs: 400, multiplier: 2, jitter: 0.1 } };
    const { clock, readiness, task, letGo } = bench({ behaviour, sendTimeoutMs: 1 });
    readiness.after(task("first", true), 0);
    await clock.advance(0);
    readiness.after(task("second"), 0);
    readiness.after(task("third"), 0);
    await clock.advance(0);
    // 100 + 200 + 4 * 400 and seven milliseconds of sending, less a tenth at most.
    await clock.advance(1900 * 0.9);
    expect(readiness.spent).toBe(0);
    await clock.advance(1907 * 0.1);
    expect(readiness.spent).toBe(1);
    letGo();
    await readiness.release();
  });

  it("is one for all stages of a process, until the last has released it", async () => {
    const { clock, channels, readiness, ran, task } = bench();
    const again = TaskReadiness.shared({ channels, clock, random: new SeededRandom(1), log: silentLogger });
    expect(again).toBe(readiness);
    await readiness.release();
    again.after(task("a"), 1);
    await clock.advance(1);
    expect(ran).toHaveLength(1);
    await again.release();
    // Its channel can be made again.
    const fresh = TaskReadiness.shared({ channels, clock, random: new SeededRandom(1), log: silentLogger });
    expect(fresh).not.toBe(readiness);
    await fresh.release();
  });

  it("is configured under event_systems, with the designs' values", async () => {
    const load = (config: object) =>
      loadPlan({ stages: builtInStages, env: {}, cwd: ".", needs: "nothing", made: { by: "test", config } });
    expect((await load({})).plan.taskReadiness).toEqual({
      maxRetries: 3,
      backoff: { initialMs: 100, maxMs: 5000, multiplier: 2, jitter: 0.1 },
    });
    const own = { max_retries: 0, backoff: { initial_ms: 1, max_ms: 2, multiplier: 1, jitter: 0 } };
    const { plan } = await load({ event_systems: { task_readiness: { metadata: { event_channel: own } } } });
    expect(plan.taskReadiness).toEqual({
      maxRetries: 0,
      backoff: { initialMs: 1, maxMs: 2, multiplier: 1, jitter: 0 },
    });
  });
});
