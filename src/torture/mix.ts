import { DISTURBANCES, type Scene } from "./disturbance.ts";
import type { Ingredient } from "./subject.ts";
import type { Trial, TrialResult } from "./trial.ts";

const ROTATE_EVERY_MS = 200;

/** The chance mix: everything at once, drawn from the trial's seed, but for what is left out. */
export function chanceMix(trial: Trial, leftOut: ReadonlySet<Ingredient>): Promise<TrialResult> {
  const without = new Set([...trial.subject.without, ...leftOut]);
  return trial.run(async () => {
    const { disk, clock } = trial.options;
    const scene: Scene = {
      trial,
      disk: without.has("disk") ? undefined : disk,
      clock: without.has("clock") ? undefined : clock,
      without,
      rotateEveryMs: ROTATE_EVERY_MS,
      surroundings: trial.surroundings(trial.random.fork()),
    };
    await Promise.all(
      Object.entries(DISTURBANCES).map(async ([name, disturbance]) => {
        const random = trial.random.fork();
        if (!without.has(name as Ingredient)) await disturbance(scene, random);
      }),
    );
  });
}
