import { errnoOf } from "../errors.ts";
import { type BytePath, baseName, folderOf, joinPath, pathFromText } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";
import { strftime } from "./strftime.ts";

/** Bytes that a name may have on Linux (NAME_MAX), less the room that the ending takes. */
const MAX_BASE_BYTES = 255 - 24;

/**
 * The name that a closed output gets: `out.ndjson.20261121T101500Z`, the time of its closing in UTC, and `-1`, `-2`, ...
 * where that exists. Names sort by time, and none is ever used again.
 * @param isTaken whether a name that is free on the disk is still known to somebody
 */
export async function freeName(
  fileSystem: FileSystem,
  path: BytePath,
  nowMs: number,
  isTaken: (name: BytePath) => boolean = () => false,
): Promise<BytePath> {
  const base = `${baseName(path).slice(0, MAX_BASE_BYTES)}.${pathFromText(strftime("%Y%m%dT%H%M%SZ", nowMs))}`;
  for (let clash = 0; ; clash += 1) {
    const name = joinPath(folderOf(path), (clash === 0 ? base : `${base}-${clash}`) as BytePath);
    if (isTaken(name)) continue;
    try {
      await fileSystem.lstat(name);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return name;
      throw error;
    }
  }
}
