import { type BytePath, baseName, joinPath, pathFromText } from "../runtime/byte-path.ts";
import type { FileHandle, FileSystem } from "../runtime/file-system.ts";
import type { SinkContext } from "../stage/index.ts";
import { freeName } from "./rotated-name.ts";

/** What `STATE_DIR/cut/` may hold: the newest 64 MiB of all that was ever cut off. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 1024 * 1024;

/**
 * Saves the bytes `[from, to)` of an output before they are cut off it, as `STATE_DIR/cut/NAME@OFFSET.TIME`. They are
 * repeats of records that will be delivered again; unless somebody else wrote them, and then this is all that is left.
 * @returns where they are, once that is durable.
 */
export async function saveCutBytes(
  context: Pick<SinkContext, "fileSystem" | "stateDir" | "clock">,
  handle: FileHandle,
  output: BytePath,
  from: number,
  to: number,
): Promise<BytePath> {
  const { fileSystem, clock } = context;
  const folder = joinPath(pathFromText(context.stateDir), "cut" as BytePath);
  await fileSystem.mkdirs(folder, 0o700);
  const start = Math.max(from, to - MAX_KEPT_BYTES);
  const name = joinPath(folder, `${baseName(output)}@${start}` as BytePath);
  const saved = await freeName(fileSystem, name, clock.now());
  const copy = await fileSystem.open(saved, "create", 0o600);
  try {
    await copyBytes(handle, copy, start, to);
    await copy.sync();
  } finally {
    await copy.close();
  }
  await fileSystem.syncFolder(folder);
  await removeOldest(fileSystem, folder);
  return saved;
}

async function copyBytes(source: FileHandle, target: FileHandle, from: number, to: number): Promise<void> {
  const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, to - from));
  let at = from;
  while (at < to) {
    const read = await source.read(chunk, 0, Math.min(chunk.length, to - at), at);
    if (read === 0) break;
    for (let written = 0; written < read; ) {
      written += await target.write(chunk, written, read - written, at - from + written);
    }
    at += read;
  }
}

/** Deletes the oldest until the rest fits. */
async function removeOldest(fileSystem: FileSystem, folder: BytePath): Promise<void> {
  const files: { path: BytePath; size: number; modifiedMs: number }[] = [];
  for (const { name } of await fileSystem.readdir(folder)) {
    const path = joinPath(folder, name);
    const stat = fileSystem.statSync(path);
    if (stat?.kind === "file") files.push({ path, size: stat.size, modifiedMs: stat.modifiedMs });
  }
  files.sort((one, other) => other.modifiedMs - one.modifiedMs);
  let kept = 0;
  for (const file of files) {
    kept += file.size;
    if (kept > MAX_KEPT_BYTES) await fileSystem.unlink(file.path);
  }
}
