import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BackpressureError } from "../errors.ts";
import { SeededRandom } from "../testing/seeded-random.ts";
import { PoolBench, type ScriptedWorker } from "./pool-bench.test-kit.ts";

/** What happens to a message whenever it is handed to a worker, or at its first attempt only. */
const FATES = ["well", "fails once", "hangs once", "garbage once", "never well", "kills", "refused", "twice"] as const;
type Fate = (typeof FATES)[number];

const ENDS_WELL: ReadonlySet<Fate> = new Set(["well", "fails once", "hangs once", "garbage once", "twice"]);

/** The program dies at its start, whenever it is started before this. */
interface Scene {
  readonly fates: readonly Fate[];
  readonly workers: number;
  readonly maxInFlight: number;
  readonly capacity: number;
  readonly brokenUntilMs: number;
  readonly killEveryMs: number;
  readonly seed: number;
}

async function play(scene: Scene): Promise<{ readonly bench: PoolBench; readonly handedOut: Map<string, number> }> {
  const random = new SeededRandom(scene.seed);
  const handedOut = new Map<string, number>();
  const bench = await PoolBench.start({
    capacity: scene.capacity,
    workers: scene.workers,
    maxInFlight: scene.maxInFlight,
    maxAttempts: 3,
    timeoutMs: 500,
    onStart: (worker, clock) => {
      const loadingMs = 5 + random.next() * 40;
      if (clock.monotonic() < scene.brokenUntilMs) clock.after(loadingMs, () => worker.end());
      worker.onGiven = (at) => {
        const { id, attempt, event } = worker.given[at]!;
        const [text, fate] = String(event["message"]).split(":") as [string, Fate];
        handedOut.set(text, (handedOut.get(text) ?? 0) + 1);
        const isFirst = attempt === 1;
        clock.after(loadingMs + random.next() * 30, () => {
          if (worker.hasEnded) return;
          if (fate === "kills") return worker.end();
          if (fate === "refused") return worker.listener.answer({ id, ok: false, error: "no", retry: false });
          if (fate === "never well" || (fate === "fails once" && isFirst))
            return worker.listener.answer({ id, ok: false, error: "odd", retry: true });
          if (fate === "hangs once" && isFirst) return;
          if (fate === "garbage once" && isFirst) return worker.listener.broken("it wrote garbage");
          worker.listener.answer({ id, ok: true, events: 0 });
          if (fate === "twice") worker.listener.answer({ id, ok: true, events: 0 });
        });
      };
      worker.listener.ready();
    },
  });
  const { clock } = bench;
  const check = () => {
    bench.dispatch.check(bench.pool);
    clock.after(50, check);
  };
  check();
  const kill = () => {
    if (clock.monotonic() > 3000) return;
    const living = bench.workers.filter(({ hasEnded }) => !hasEnded);
    living[Math.floor(random.next() * living.length)]?.end("it was ended by SIGKILL", "signalled");
    clock.after(scene.killEveryMs, kill);
  };
  if (scene.killEveryMs > 0) clock.after(scene.killEveryMs, kill);
  const offering = (async () => {
    for (const [at, fate] of scene.fates.entries()) {
      for (;;) {
        try {
          bench.offer(`${at}:${fate}`);
          break;
        } catch (error) {
          if (!(error instanceof BackpressureError)) throw error;
          await clock.sleep(error.suggestedWaitMs);
        }
      }
    }
  })();
  await clock.run(offering, { limitMs: 300_000 });
  await clock.runUntil(() => bench.endings.length >= scene.fates.length, { limitMs: 300_000, what: "every ending" });
  return { bench, handedOut };
}

describe("HandlerPool, whatever its workers do", () => {
  const scene = fc.record({
    fates: fc.array(fc.constantFrom(...FATES), { minLength: 1, maxLength: 10 }),
    workers: fc.integer({ min: 1, max: 3 }),
    maxInFlight: fc.integer({ min: 1, max: 3 }),
    capacity: fc.integer({ min: 1, max: 5 }),
    brokenUntilMs: fc.constantFrom(0, 0, 700, 5000),
    killEveryMs: fc.constant(0),
    seed: fc.nat(),
  });

  it("ends each message exactly once, and only by its own fault badly", async () => {
    const property = fc.asyncProperty(scene, async (given) => {
      const { bench, handedOut } = await play(given);
      const endings = new Map(bench.endings.map((ending) => [Number(ending.split(":")[0]), ending]));
      expect(endings.size).toBe(bench.endings.length);
      for (const [at, fate] of given.fates.entries()) {
        const isWell = endings.get(at)!.endsWith("done");
        expect(isWell, `${endings.get(at)} of ${given.fates.join(", ")}`).toBe(ENDS_WELL.has(fate));
        expect(handedOut.get(String(at))!).toBeGreaterThan(0);
      }
      expect(bench.pool.waiting).toBe(0);
      expect(bench.dispatch.readiness.waiting).toEqual({ delayed: 0, dependent: 0, due: 0, overdue: 0 });
      await bench.stop();
      expect(bench.workers.every(({ hasEnded }: ScriptedWorker) => hasEnded)).toBe(true);
    });
    await fc.assert(property, { numRuns: 150 });
  });

  it("ends each message exactly once while workers are killed from outside", async () => {
    const stormy = scene.map((given) => ({ ...given, brokenUntilMs: 0, killEveryMs: 60 + (given.seed % 200) }));
    const property = fc.asyncProperty(stormy, async (given) => {
      const { bench } = await play(given);
      const ids = bench.endings.map((ending) => ending.split(":")[0]);
      expect(ids.sort()).toEqual(given.fates.map((_, at) => String(at)).sort());
      expect(bench.pool.waiting).toBe(0);
      await bench.stop();
    });
    await fc.assert(property, { numRuns: 100 });
  });
});
