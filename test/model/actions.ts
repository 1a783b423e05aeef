import type { SeededRandom } from "../../src/testing/seeded-random.ts";

/** One thing that happens; drawn before the run, so that a schedule can be shown, replayed and cut down. */
export interface Action {
  readonly kind: ActionKind;
  /** Which family. */
  readonly family: number;
  /** How much, in the action's own sense. */
  readonly amount: number;
  /** Simulated milliseconds that pass afterwards. */
  readonly pauseMs: number;
}

/** Action -> how often it is drawn in every run. */
const EVERYDAY = {
  write: 30,
  write_half: 5,
  write_late: 4,
  rename: 8,
  copy: 6,
  truncate_copied: 6,
  compress: 6,
  finish_compress: 5,
  truncate: 2,
  delete: 2,
  delete_oldest: 2,
  deny: 2,
  allow: 3,
  kill: 6,
  crashes: 12,
  power_cut: 4,
  stop: 2,
  start: 14,
  commits_fail: 3,
  sync_fails: 2,
  disk_full: 2,
  disk_free: 4,
  open_fails: 2,
  wait: 6,
} as const;

const TROUBLES = ["deny", "commits_fail", "sync_fails", "disk_full", "open_fails"] as const;

/**
 * What a run has besides, by chance: some trouble that all of it is in (no actions of its own), or actions that others
 * do not know.
 */
const KINDS = {
  /** Every generation begins with the same header, longer than a fingerprint. */
  headers: {},
  /** One family writes nothing but equal lines. */
  beats: { copy: 6, truncate_copied: 6, missed: 6 },
  /** Writers without O_APPEND: after a truncation there is a hole. */
  holes: { truncate: 3, copy: 4, truncate_copied: 4 },
  /** Hard links come and go, under names that match and under others. */
  links: { link: 8, unlink_link: 5 },
  /** A live path is a symbolic link that is switched to other targets. */
  symlinks: { switch: 10, write: 6 },
  /** Editors save: the same content and more under a new inode. */
  saves: { save: 8 },
  /** Archives get further members. */
  growing: { grow: 8, compress: 6, rename: 3 },
  /** Archives are cut short. */
  damage: { damage: 6, compress: 8, rename: 3 },
  /** A second sink that is away for a while, or hangs. */
  sinks: { sink_down: 5, sink_hangs: 2, sink_up: 6 },
  /** A freed inode number goes to the very next file, of another family. */
  reuse: { steal: 8 },
  /** Truncated in place and written again at once. */
  overwrites: { overwrite: 10 },
  /** Deleted and created again. */
  recreates: { recreate: 6 },
  /** Several rotations while nobody looks. */
  missed: { missed: 6 },
  /** Rotations faster than `rotate_wait_ms`. */
  fast: { flurry: 4 },
  /** Reloads that let the source start anew. */
  reloads: { reload: 8 },
  /** Rotation into another folder. */
  olddir: {},
} as const;

export type Kind = keyof typeof KINDS;

export const ALL_KINDS = Object.keys(KINDS) as readonly Kind[];

type KeysOf<T> = T extends unknown ? keyof T : never;

type ActionKind = keyof typeof EVERYDAY | KeysOf<(typeof KINDS)[Kind]>;

export function drawActions(random: SeededRandom, kinds: ReadonlySet<Kind>): Action[] {
  const weights: { [action: string]: number } = { ...EVERYDAY };
  // Only an agent that nothing is in the way of can be asked to be in time.
  if (random.chance(0.4)) for (const action of TROUBLES) weights[action] = 0;
  for (const kind of kinds)
    for (const [action, weight] of Object.entries(KINDS[kind])) weights[action] = (weights[action] ?? 0) + weight;
  return Array.from({ length: random.int(4, 24) }, () => ({
    kind: random.weighted(weights) as ActionKind,
    family: random.int(0, kinds.has("symlinks") ? 2 : 1),
    amount: random.int(1, 5),
    pauseMs: random.pick([0, 0, 1, 10, 60, 150, 400, 2000, 4000]),
  }));
}
