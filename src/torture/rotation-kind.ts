import {
  closeSync,
  copyFileSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeSync,
} from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Generation } from "./generation.ts";
import type { Kept, LogFamily } from "./log-family.ts";

/** What a rotation may ask of the run. */
export interface Surroundings {
  /** A moment in which anything else may happen: lines, a kill, a scan. */
  moment(maxMs?: number): Promise<void>;
  /** Waits until every sink has each line of the live generation, and that is durable; false: not in time. */
  allDelivered(family: LogFamily): Promise<boolean>;
  /** Whether the agent that runs now has the live file open for sure. */
  holds(family: LogFamily): boolean;
  /** The last name of what the agent holds open is gone. */
  heldByAgentOnly(generation: Generation): void;
  /** For files that no pattern matches, on the same disk. */
  readonly asideFolder: string;
}

/** False: not now; nothing was done. */
type Rotate = (family: LogFamily, surroundings: Surroundings) => Promise<boolean>;

/** Every way in which a log is rotated here. Each leaves the family writing. */
export const ROTATION_KINDS = {
  rename_create: async (family, around) => (await renameAndCreate(family, around)) !== undefined,
  rename_compress: async (family, around) => {
    const kept = await renameAndCreate(family, around, "at once");
    return kept !== undefined && compress(family, kept, around);
  },
  rename_compress_older: async (family, around) => {
    const kept = await renameAndCreate(family, around);
    const older = kept === undefined ? undefined : family.kept[1];
    return older !== undefined && !older.path.endsWith(".gz") && compress(family, older, around);
  },
  copytruncate: async (family, around) => (await copyAndTruncate(family, around)) !== undefined,
  copytruncate_compress: async (family, around) => {
    const kept = await copyAndTruncate(family, around);
    return kept !== undefined && compress(family, kept, around);
  },
  truncate: truncateInPlace,
  delete_create: deleteAndCreate,
  editor_save: saveByEditor,
  switch_symlink: switchSymlink,
} as const satisfies { readonly [kind: string]: Rotate };

export type RotationKind = keyof typeof ROTATION_KINDS;

async function renameAndCreate(family: LogFamily, around: Surroundings, reopen?: "at once"): Promise<Kept | undefined> {
  const name = family.freeName();
  if (name === undefined) return undefined;
  await around.moment(5);
  family.finishLine();
  const { path, random } = family;
  family.tell(`${basename(path)} is renamed to ${basename(name)}: ${family.look(path)}`);
  renameSync(path, name);
  const kept = family.keep(family.generation, name);
  if (reopen === undefined) {
    if (random.chance(0.4)) await around.moment(120);
    if (random.chance(0.5)) {
      // logrotate's `create`; the program hears of it later.
      closeSync(openSync(path, "a"));
      family.tell(`${basename(path)} is created, ${family.look(path)}; the program still writes to the old one`);
      family.writeLate();
      await around.moment(120);
    }
  }
  family.finishLine();
  family.beginGeneration();
  family.openAnew("the program reopens");
  return kept;
}

/** gzip as logrotate calls it: the archive grows beside the plain file, which then goes. */
async function compress(family: LogFamily, kept: Kept, around: Surroundings): Promise<boolean> {
  // A second name of what is compressed would be a file of its own.
  family.unlink();
  const plain = kept.path;
  const archive = `${plain}.gz`;
  const bytes = gzipSync(readFileSync(plain), { level: 1 });
  const half = family.random.int(1, bytes.length - 1);
  const { atime, mtime } = statSync(plain);
  kept.generation.tell(`${basename(plain)} is compressed: ${family.look(plain)}`);
  kept.generation.names.add(archive);
  const descriptor = openSync(archive, "wx");
  try {
    writeSync(descriptor, bytes, 0, half);
    await around.moment(60);
    writeSync(descriptor, bytes, half);
  } finally {
    closeSync(descriptor);
  }
  utimesSync(archive, atime, mtime);
  await around.moment(10);
  kept.generation.tell(`${basename(archive)} is whole (${family.look(archive)}), ${basename(plain)} goes`);
  rmSync(plain);
  kept.path = archive;
  return true;
}

async function copyAndTruncate(family: LogFamily, around: Surroundings): Promise<Kept | undefined> {
  const name = family.freeName();
  if (name === undefined) return undefined;
  family.finishLine();
  family.isPaused = true;
  try {
    const { path } = family;
    if (family.random.chance(0.3)) {
      const bytes = readFileSync(path);
      const half = family.random.int(0, bytes.length);
      const descriptor = openSync(name, "wx");
      try {
        writeSync(descriptor, bytes, 0, half);
        await around.moment(40);
        writeSync(descriptor, bytes, half);
      } finally {
        closeSync(descriptor);
      }
    } else copyFileSync(path, name);
    const kept = family.keep(family.generation, name);
    family.tell(`${basename(path)} (${family.look(path)}) is copied to ${basename(name)} (${family.look(name)})`);
    await around.moment(40);
    truncateSync(path);
    family.tell(`${basename(path)} is truncated`);
    family.beginGeneration();
    family.wasTruncated();
    family.tell(`${basename(path)} goes on after the truncation, ${family.look(path)}`);
    if (family.random.chance(0.5)) await around.moment(60);
    return kept;
  } finally {
    family.isPaused = false;
  }
}

/** `> file`, by the program: what was not read is gone. */
async function truncateInPlace(family: LogFamily, around: Surroundings): Promise<boolean> {
  family.finishLine();
  family.isPaused = true;
  const isSafe = family.random.chance(0.8) && (await around.allDelivered(family));
  family.isPaused = false;
  if (!isSafe && family.random.chance(0.7)) return false;
  family.tell(`${basename(family.path)} is truncated in place: ${family.look(family.path)}; all delivered: ${isSafe}`);
  truncateSync(family.livePath);
  const before = family.beginGeneration();
  if (!isSafe) before.destroyedAtMs = Date.now();
  family.rewind();
  family.tell("written again after a truncation in place");
  // Sometimes past the old position before anybody looks.
  family.write(family.random.chance(0.3) ? before.lastLine - before.firstLine + 20 : 2);
  return true;
}

async function deleteAndCreate(family: LogFamily, around: Surroundings): Promise<boolean> {
  if (!around.holds(family) || family.hasLinks) return false;
  family.finishLine();
  family.tell(`${basename(family.path)} is deleted: ${family.look(family.path)}`);
  rmSync(family.path);
  around.heldByAgentOnly(family.generation);
  if (family.random.chance(0.3)) await around.moment(60);
  family.finishLine();
  family.beginGeneration();
  family.openAnew("created after a deletion");
  return true;
}

async function saveByEditor(family: LogFamily, around: Surroundings): Promise<boolean> {
  if (family.options.naming === "symlink") return false;
  family.unlink();
  family.finishLine();
  family.isPaused = true;
  try {
    const aside = join(around.asideFolder, `${basename(family.path)}.save`);
    copyFileSync(family.path, aside);
    await around.moment(30);
    family.tell(`${basename(family.path)} (${family.look(family.path)}) is saved by an editor, ${family.look(aside)}`);
    renameSync(aside, family.path);
  } finally {
    family.isPaused = false;
  }
  family.openAnew("after an editor's save");
  family.write(2);
  return true;
}

async function switchSymlink(family: LogFamily, around: Surroundings): Promise<boolean> {
  // A target that no agent ever saw through the link is nobody's: no name says that it belongs to this log.
  if (family.options.naming !== "symlink" || !around.holds(family)) return false;
  family.finishLine();
  const before = family.switchTarget();
  family.tell(`the symlink leads elsewhere now; ${basename(before)} stays (${family.look(before)})`);
  family.writeLate();
  if (family.random.chance(0.5)) await around.moment(60);
  family.finishLine();
  family.keep(family.beginGeneration(), before);
  family.openAnew("after the switch");
  return true;
}

/** The kinds that fit a family, as often as they are drawn. */
export function kindsOf(family: LogFamily): { readonly [kind in RotationKind]: number } {
  const isLink = family.options.naming === "symlink";
  const plain = isLink ? 0 : 1;
  const compressed = plain * (family.options.compress ? 1 : 0);
  return {
    rename_create: 4 * plain,
    rename_compress: 2 * compressed,
    rename_compress_older: 2 * compressed,
    copytruncate: 3 * plain,
    copytruncate_compress: compressed,
    truncate: 1.5,
    delete_create: plain,
    editor_save: 1.5 * plain,
    switch_symlink: isLink ? 4 : 0,
  };
}

/** Names of every kind. */
export function rotationKinds(): RotationKind[] {
  return Object.keys(ROTATION_KINDS) as RotationKind[];
}
