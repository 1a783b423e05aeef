import type { Content } from "./content.ts";
import type { FileState } from "./file-state.ts";

/** What discovery asks of whoever runs the tailers. */
export interface Readers {
  /** A tailer holds the file open: its inode cannot be given to another, and its content is reachable whatever happens to its names. */
  holds(state: FileState): boolean;
  /** What its tailer reads from; undefined: it holds none, or an archive, which only one reader can read. */
  contentOf(state: FileState): Content | undefined;
  /** There may be something to read. */
  read(state: FileState): void;
  /** The file is rotated: read to its end, and on until it is quiet. */
  rotate(state: FileState): void;
  /** The file is live again. */
  revive(state: FileState): void;
  /** Ends the tailer of this file, if there is one, and waits for that. */
  stop(state: FileState): Promise<void>;
  /** Tell when everything that is there now has been sent. */
  markEnd(state: FileState): void;
}
