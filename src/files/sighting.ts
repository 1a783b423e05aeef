import { toError } from "../errors.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import type { FileStat, FileSystem } from "../runtime/file-system.ts";

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
