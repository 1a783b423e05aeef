import { pathFromText } from "../runtime/byte-path.ts";
import type { FileSystem } from "../runtime/file-system.ts";

/** Descriptors that everything else in the process may need: sinks, sockets, the store, the event loop's own. */
const RESERVED = 128;

/** Files that may be open for reading at once under RLIMIT_NOFILE (`man 5 proc`, /proc/pid/limits). */
export async function openFileLimit(fileSystem: FileSystem): Promise<number> {
  const limit = await readLimit(fileSystem);
  if (limit === undefined) return Number.POSITIVE_INFINITY;
  return Math.max(1, limit - RESERVED, Math.floor(limit / 4));
}

async function readLimit(fileSystem: FileSystem): Promise<number | undefined> {
  try {
    const handle = await fileSystem.open(pathFromText("/proc/self/limits"), "read");
    try {
      const bytes = Buffer.alloc(8192);
      const count = await handle.read(bytes, 0, bytes.length, 0);
      const match = /^Max open files\s+(\d+)/m.exec(bytes.toString("latin1", 0, count));
      return match === null ? undefined : Number(match[1]);
    } finally {
      await handle.close();
    }
  } catch {
    // No /proc (or none that tells): the configured number counts, and EMFILE is survived.
    return undefined;
  }
}
