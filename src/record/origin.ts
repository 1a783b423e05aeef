import { createHash } from "node:crypto";
import type { Range } from "./position.ts";

/**
 * One ordered stream of records: one generation of a file, a partition, standard input. Ranges of records are only
 * comparable within one origin.
 */
export interface Origin {
  /** Name of the source component. */
  readonly source: string;
  /** Unique within the source and stable over restarts: the file key, the partition. */
  readonly key: string;
  /**
   * - `replayable`: can be read again from a position; positions are stored.
   * - `acknowledged`: the upstream keeps what is not acknowledged; `onSettled` acknowledges, after the commit.
   * - `fleeting`: cannot repeat (standard input, udp).
   */
  readonly kind: "replayable" | "acknowledged" | "fleeting";
  /** Prefix of record ids: hash(key, generation). */
  readonly recordIdPrefix: string;
  /** What the `file` field of an event says; absolute; undefined where there is no file. */
  readonly file: string | undefined;
  /** It was kept for this, and is not dropped by a sink that is not required (a dead letter that is sent again). */
  readonly mustArrive?: true;
  /** For `acknowledged` origins: called as a batch is handed on, with the number of ways to sinks that it goes. */
  readonly onForwarded?: (ways: number) => void;
  /** For `acknowledged` origins: called after the commit with what was settled, once for each way to a sink. */
  readonly onSettled?: (ranges: readonly Range[]) => void;
}

/**
 * The origin of one generation of a file. `key` names the generation for good (a truncation makes a new key and a higher
 * `generation`); `file` is its path as text.
 */
export function fileOrigin(source: string, key: string, generation: number, file: string): Origin {
  return {
    source,
    key,
    kind: "replayable",
    recordIdPrefix: recordIdPrefix(`${source}\0${key}`, generation),
    file,
  };
}

/** The origin of what is no file: `key` names a partition or a stream for good, or one run of a source that cannot repeat. */
export function streamOrigin(kind: "replayable" | "fleeting", source: string, key: string): Origin {
  return { source, key, kind, recordIdPrefix: recordIdPrefix(`${source}\0${key}`, 0), file: undefined };
}

/** 16 hex digits: 64 bits are plenty for the files one agent ever sees. */
export function recordIdPrefix(key: string, generation: number): string {
  return createHash("sha256").update(`${key}\0${generation}`).digest("hex").slice(0, 16);
}
