import type { SimWriter } from "../../src/testing/sim-programs.ts";
import type { Action } from "./actions.ts";
import type { LogFile } from "./log-files.ts";
import { LOGS } from "./machine.ts";

/** A rotated file of a family; its place in the list is its number, less one. */
export interface Rotated {
  file: LogFile;
  isCopy: boolean;
  packing: (() => LogFile) | undefined;
  isDamaged: boolean;
}

/** What a path shows over time, and who writes there. */
export class Family {
  readonly name: string;
  readonly path: string;
  /** The live path is a symbolic link. */
  readonly isLink: boolean;
  /** Nothing but equal lines. */
  readonly isBeating: boolean;
  /** What is at the live path. */
  file: LogFile | undefined;
  writer: SimWriter | undefined;
  /** The second half of a line whose first half is in the file. */
  rest = "";
  late: { writer: SimWriter; file: LogFile } | undefined;
  /** copytruncate between its copy and its truncation: the writer is paused. */
  isCopied = false;
  rotated: Rotated[] = [];
  /** What the link led to before, oldest first. */
  targets: string[] = [];

  constructor(name: string, options: { isLink: boolean; isBeating: boolean }) {
    this.name = name;
    this.path = `${LOGS}/${name}.log`;
    this.isLink = options.isLink;
    this.isBeating = options.isBeating;
  }
}

/** What happens to a family of equal lines: with any other rotation nobody could tell its generations apart. */
const OF_BEATS: ReadonlySet<Action["kind"]> = new Set([
  "write",
  "write_half",
  "copy",
  "truncate_copied",
  "compress",
  "finish_compress",
  "delete_oldest",
  "missed",
  "deny",
  "allow",
  "open_fails",
]);
/** What happens to a family behind a symbolic link. */
const OF_LINKS: ReadonlySet<Action["kind"]> = new Set(["write", "write_half", "write_late", "switch", "delete_oldest"]);
/** What happens to the machine, whichever family was drawn. */
const OF_ALL: ReadonlySet<Action["kind"]> = new Set([
  "kill",
  "power_cut",
  "stop",
  "start",
  "commits_fail",
  "sync_fails",
  "disk_full",
  "disk_free",
  "wait",
  "sink_down",
  "sink_hangs",
  "sink_up",
  "crashes",
  "reload",
]);

/** Whether an action is one for this family. */
export function concerns({ kind }: Action, { isLink, isBeating }: Family): boolean {
  if (OF_ALL.has(kind)) return true;
  if (kind === "switch" && !isLink) return false;
  return isLink ? OF_LINKS.has(kind) : !isBeating || OF_BEATS.has(kind);
}
