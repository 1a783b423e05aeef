import type { Json } from "../checkpoint/checkpoint-store.ts";
import { errnoOf } from "../errors.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";

/**
 * What the file sink keeps beside its positions. Paths are byte paths (one character per byte).
 *
 * | name             | value          | says |
 * |------------------|----------------|------|
 * | `output:PATH`    | OutputMark     | how many bytes of which file the committed sets describe |
 * | `rotation:PATH`  | RotationIntent | the file at PATH is to get another name, and PATH a new file; finished at the next start if we die |
 * | `closed:PATH`    | ClosedOutput[] | what `rotate.keep` may remove, oldest first |
 *
 * Who takes over what was closed (the `parquet` sink) adds marks of its own, in the same commit as the closing.
 */

/** Which file it is, whatever its name. */
export interface FileIdentity {
  /** Decimal. */
  readonly inode: string;
  /** Of the file system; a device number would be good for this boot only. */
  readonly fileSystem: string;
  /** Decimal nanoseconds; "0": unknown. */
  readonly birthNs: string;
}

export interface OutputMark extends FileIdentity {
  /** Bytes that the committed sets describe. */
  readonly length: number;
  /** When the output was begun; wall clock, milliseconds. `rotate.max_age_ms` counts from here. */
  readonly createdAtMs: number;
  /** When it was last written; wall clock, milliseconds. Old marks of outputs that nobody writes any more are forgotten. */
  readonly writtenAtMs: number;
}

export interface RotationIntent extends FileIdentity {
  /** The name it gets. */
  readonly to: BytePath;
  /** Nothing is begun in its place: the next record will. */
  readonly isLast?: true;
}

export interface ClosedOutput extends FileIdentity {
  readonly path: BytePath;
}

const OUTPUT = "output:";
const ROTATION = "rotation:";
const CLOSED = "closed:";

export const outputMarkName = (path: BytePath) => `${OUTPUT}${path}`;
export const rotationMarkName = (path: BytePath) => `${ROTATION}${path}`;
export const closedMarkName = (path: BytePath) => `${CLOSED}${path}`;

/** All outputs with a mark. */
export function outputMarksOf(marks: ReadonlyMap<string, Json>): Map<BytePath, OutputMark> {
  const outputs = new Map<BytePath, OutputMark>();
  for (const [name, value] of marks) {
    if (name.startsWith(OUTPUT)) outputs.set(name.slice(OUTPUT.length) as BytePath, value as unknown as OutputMark);
  }
  return outputs;
}

export function rotationIntentsOf(marks: ReadonlyMap<string, Json>): Map<BytePath, RotationIntent> {
  const intents = new Map<BytePath, RotationIntent>();
  for (const [name, value] of marks) {
    if (name.startsWith(ROTATION))
      intents.set(name.slice(ROTATION.length) as BytePath, value as unknown as RotationIntent);
  }
  return intents;
}

export function closedOutputsOf(marks: ReadonlyMap<string, Json>): Map<BytePath, readonly ClosedOutput[]> {
  const closed = new Map<BytePath, readonly ClosedOutput[]>();
  for (const [name, value] of marks) {
    if (name.startsWith(CLOSED)) closed.set(name.slice(CLOSED.length) as BytePath, value as unknown as ClosedOutput[]);
  }
  return closed;
}

/** A mark as the store takes it. */
export const toJson = (value: OutputMark | RotationIntent | readonly ClosedOutput[]) => value as unknown as Json;

export function identityOf(stat: FileStat, fileSystem: FileSystem): FileIdentity {
  return {
    inode: String(stat.inode),
    fileSystem: fileSystem.fileSystemId(stat.device),
    birthNs: String(stat.birthNs),
  };
}

/**
 * True if both are one file. ext4 hands out a freed inode at once, so a known birth time decides; where there is none, the
 * file system must be the same.
 */
export function isSameFile(one: FileIdentity, other: FileIdentity): boolean {
  if (one.inode !== other.inode) return false;
  if (one.birthNs !== "0" && other.birthNs !== "0") return one.birthNs === other.birthNs;
  return one.fileSystem === other.fileSystem;
}

/** Whether this very file has the name; false where nothing has it. */
export async function isFileAt(fileSystem: FileSystem, path: BytePath, identity: FileIdentity): Promise<boolean> {
  try {
    return isSameFile(identity, identityOf(await fileSystem.lstat(path), fileSystem));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}
