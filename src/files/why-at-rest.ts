import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import { type BytePath, pathToText } from "../runtime/byte-path.ts";
import type { FileStat } from "../runtime/file-system.ts";
import type { FileFacts } from "./file-report.ts";
import type { PathPatterns } from "./glob.ts";

/** What `why` answers while no agent runs: from the patterns, from what is stored and from what is there. */
export function whyAtRest(
  path: BytePath,
  patterns: PathPatterns,
  stored: { readonly entries: ReadonlyMap<string, FileEntry>; committedOf(key: string): number },
  stat: FileStat | undefined,
): FileFacts {
  const verdict = patterns.judge(path);
  const by = verdict.kind === "unmatched" ? {} : { pattern_by: verdict.by };
  const known = [...stored.entries]
    .filter(([, entry]) => entry.names.at(-1) === path)
    .sort(([, one], [, other]) => one.lastSeenMs - other.lastSeenMs)
    .at(-1);
  const asked = { path: pathToText(path), pattern: verdict.kind, ...by };
  if (verdict.kind === "excluded")
    return { ...asked, answer: `not read: the exclude pattern ${verdict.by} leaves it out` };
  if (verdict.kind === "unmatched" && known === undefined)
    return { ...asked, answer: "not read: no include pattern matches it" };
  if (known === undefined) {
    if (stat === undefined) return { ...asked, answer: "not found: nothing is there; it is read once it is" };
    if (stat.kind !== "file") return { ...asked, answer: "not read: it is no regular file" };
    return { ...asked, size: stat.size, answer: "not read yet: no agent runs; the next one reads it as a new file" };
  }
  const [key, entry] = known;
  const committed = Math.max(stored.committedOf(key), entry.start ?? 0);
  return {
    ...asked,
    key,
    generation: entry.generation,
    names: entry.names.map((name) => pathToText(name as BytePath)),
    file_system: entry.fileSystem,
    inode: entry.inode,
    phase: entry.tombstoneSinceMs === undefined ? "live" : "finished",
    position: committed,
    committed,
    size: stat?.size ?? entry.lastSize,
    answer: sentence(entry, committed, stat),
  };
}

function sentence(entry: FileEntry, committed: number, stat: FileStat | undefined): string {
  if (entry.tombstoneSinceMs !== undefined)
    return `no agent runs; it was read to its end at byte ${committed}, and would be read on if it grew`;
  if (stat === undefined) return `no agent runs; it is gone, and was delivered up to byte ${committed}`;
  const left = Math.max(0, stat.size - committed);
  return `no agent runs; the next one goes on at byte ${committed}, with ${left} bytes to read`;
}
