import type { Checkpoint } from "../checkpoint/index.ts";
import type { BytePath } from "../runtime/byte-path.ts";
import { pathToText } from "../runtime/byte-path.ts";
import type { CheckpointRow } from "./control.ts";

/** The committed positions as rows, sorted by path; positions of origins that are no files have their key as path. */
export function checkpointRows(checkpoint: Checkpoint): CheckpointRow[] {
  const rows: CheckpointRow[] = [];
  for (const source of checkpoint.sources()) {
    const files = checkpoint.filesOf(source);
    const keys = new Set([...files.keys(), ...checkpoint.filesWithPositions(source)]);
    for (const key of keys) {
      const entry = files.get(key);
      const name = entry?.names.at(-1);
      const positions = checkpoint.positionsOf(source, key);
      const common = {
        path: name === undefined ? key : pathToText(name as BytePath),
        source,
        // What was read since the last look was there as well.
        size: Math.max(entry?.lastSize ?? 0, ...[...positions.values()].map(({ prefix }) => prefix)),
        isFinished: entry?.tombstoneSinceMs !== undefined,
        key,
      };
      if (positions.size === 0) rows.push({ ...common, sink: "", position: 0, ahead: 0 });
      for (const [sink, { prefix, ranges }] of positions) {
        rows.push({
          ...common,
          sink,
          position: prefix,
          ahead: ranges.reduce((sum, range) => sum + range.end - range.start, 0),
        });
      }
    }
  }
  return rows.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : a.sink < b.sink ? -1 : 1));
}
