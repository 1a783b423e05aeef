import { toError } from "../errors.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";
import { familyOf } from "./family.ts";
import type { FileId } from "./file-id.ts";

/** What became of one path since the last look. */
export interface Sighting {
  readonly path: BytePath;
  /** True if the last name of the path is a symbolic link. */
  readonly isLink: boolean;
  /** Undefined: nothing is there, or it is no regular file. */
  readonly stat: FileStat | undefined;
  /** The path cannot be looked at; what was known of it stays. */
  readonly error: Error | undefined;
}

/** One look at one path, now. */
export function lookAt(fileSystem: FileSystem, path: BytePath): Sighting {
  try {
    const stat = fileSystem.statSync(path);
    return { path, isLink: false, stat: stat?.kind === "file" ? stat : undefined, error: undefined };
  } catch (error) {
    return { path, isLink: false, stat: undefined, error: toError(error) };
  }
}

/** Paths that lead to one file which is not known yet. */
export interface Group {
  readonly id: FileId;
  readonly stat: FileStat;
  readonly paths: BytePath[];
  isLink: boolean;
}

/** Paths that are no rotated name first, since others may turn out to be copies of them; then the oldest. */
export function inOrder(groups: Iterable<Group>): Group[] {
  const isRotated = (group: Group) => Number(group.paths.every((path) => familyOf(path).base !== path));
  return [...groups].sort((a, b) => isRotated(a) - isRotated(b) || a.stat.modifiedMs - b.stat.modifiedMs);
}

/** The one that events name: a path that is no rotated name, where there is one. */
export function preferredPath(paths: readonly BytePath[]): BytePath {
  return paths.find((path) => familyOf(path).base === path) ?? paths[0]!;
}
