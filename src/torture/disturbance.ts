import { rmSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { SeededRandom } from "../testing/seeded-random.ts";
import type { FullDisk } from "./full-disk.ts";
import type { JumpingClock } from "./jumping-clock.ts";
import type { LogFamily } from "./log-family.ts";
import { BAD_MOODS, type Mood } from "./moody-receiver.ts";
import { passing } from "./passing.ts";
import { kindsOf, ROTATION_KINDS, type RotationKind, type Surroundings } from "./rotation-kind.ts";
import type { Ingredient } from "./subject.ts";
import type { Trial } from "./trial.ts";

/** What everything that disturbs a run has before it. */
export interface Scene {
  readonly trial: Trial;
  readonly surroundings: Surroundings;
  readonly disk: FullDisk | undefined;
  readonly clock: JumpingClock | undefined;
  readonly without: ReadonlySet<Ingredient>;
  readonly rotateEveryMs: number;
}

export type Disturbance = (scene: Scene, random: SeededRandom) => Promise<void>;

/** Everything that goes on at once; each draws from a stream of its own. */
export const DISTURBANCES: { readonly [name: string]: Disturbance } = {
  rotations,
  agent: disturbAgent,
  moods: changeMoods,
  links: linkAndUnlink,
  alias: moveAlias,
  disk: fillDisk,
  clock: jumpClock,
};

async function rotations(scene: Scene, random: SeededRandom): Promise<void> {
  const busy = new Set<Promise<void>>();
  while (scene.trial.isGoing) {
    await passing(scene.rotateEveryMs);
    const free = scene.trial.families.filter((family) => !family.isBusy);
    if (free.length === 0) continue;
    const family = random.pick(free);
    const kind = random.weighted(kindsOf(family));
    if (scene.without.has(kind)) continue;
    const done = rotate(scene, family, kind).finally(() => busy.delete(done));
    busy.add(done);
  }
  await Promise.all(busy);
}

async function rotate(scene: Scene, family: LogFamily, kind: RotationKind): Promise<void> {
  family.isBusy = true;
  try {
    if (await ROTATION_KINDS[kind](family, scene.surroundings)) scene.trial.did(kind);
  } catch (error) {
    scene.trial.failed(`${kind} of ${basename(family.path)} failed: ${(error as Error).stack}`);
  } finally {
    family.isBusy = false;
  }
}

async function disturbAgent(scene: Scene, random: SeededRandom): Promise<void> {
  const { without } = scene;
  const { agent } = scene.trial;
  while (scene.trial.isGoing) {
    await passing(random.chance(0.11) ? 8_000 : random.int(200, 4_000));
    if (!scene.trial.isGoing) return;
    if (random.chance(0.3) && !without.has("stops")) {
      const ms = random.int(50, 1_500);
      scene.trial.did("stops", `SIGSTOP for ${ms} ms`);
      agent.pause();
      await passing(ms);
      if (random.chance(0.8) || without.has("kills")) {
        agent.resume();
        scene.trial.happened("SIGCONT");
        continue;
      }
    }
    if (without.has("kills")) continue;
    scene.trial.did("kills", `kill -9 of process ${agent.pid}`);
    await scene.trial.killAgent();
    await passing(random.chance(0.3) ? 0 : random.int(0, 1_500));
    scene.trial.startAgent();
  }
}

async function changeMoods(scene: Scene, random: SeededRandom): Promise<void> {
  const feel = async (mood: Mood) => {
    scene.trial.happened(`the receiver is ${mood}`);
    await scene.trial.receiver.feel(mood);
  };
  while (scene.trial.isGoing) {
    await passing(random.int(500, 3_000));
    if (!scene.trial.isGoing) break;
    scene.trial.did("moods");
    await feel(random.pick(BAD_MOODS));
    await passing(random.int(300, 4_000));
    await feel("well");
  }
}

/** Second names of live logs come and go. */
async function linkAndUnlink(scene: Scene, random: SeededRandom): Promise<void> {
  while (scene.trial.isGoing) {
    await passing(random.int(100, 900));
    const family = random.pick(scene.trial.families);
    if (family.isBusy || family.options.naming !== "numbers") continue;
    if (family.hasLinks) family.unlink();
    else {
      family.link(dirname(family.path));
      scene.trial.did("links");
    }
  }
}

/** A symlink among the logs that leads now to one, now to another of them: a further name, no further file. */
async function moveAlias(scene: Scene, random: SeededRandom): Promise<void> {
  const plain = scene.trial.families.filter(({ options }) => options.naming === "numbers");
  if (plain.length === 0) return;
  const path = join(dirname(plain[0]!.path), "alias.log");
  while (scene.trial.isGoing) {
    const family = random.pick(plain);
    rmSync(path, { force: true });
    if (random.chance(0.3)) await passing(100);
    symlinkSync(family.path, path);
    scene.trial.did("alias", `alias.log leads to ${basename(family.path)}`);
    await passing(random.int(300, 2_000));
  }
}

async function fillDisk(scene: Scene, random: SeededRandom): Promise<void> {
  const { disk } = scene;
  if (disk === undefined) return;
  while (scene.trial.isGoing) {
    await passing(random.int(4_000, 12_000));
    if (!scene.trial.isGoing) return;
    scene.trial.did("disk", "the disk is full");
    disk.fill();
    await passing(random.int(300, 3_000));
    disk.free();
    scene.trial.happened("the disk has room again");
  }
}

async function jumpClock(scene: Scene, random: SeededRandom): Promise<void> {
  const { clock } = scene;
  if (clock === undefined) return;
  while (scene.trial.isGoing) {
    await passing(random.int(3_000, 9_000));
    if (!scene.trial.isGoing) break;
    const seconds = random.pick([-86_400, -3_600, -60, -2, 2, 60, 3_600, 86_400]);
    scene.trial.did("clock", `the agent's clock is ${seconds} s from the true time`);
    clock.jump(seconds);
  }
  clock.jump(0);
}
