import type { CrashMachine, Writer } from "./machine.ts";

/** A way in which Debian's logrotate is used, together with a writer that loses nothing by it. */
export interface RotationKind {
  readonly title: string;
  readonly include: readonly string[];
  /** Lines are written in two pieces now and then; not where a copytruncate may come between them. */
  readonly splitLines: boolean;
  /** Least time between two rotations: with the date in the name, logrotate skips one whose name is taken. */
  readonly gapMs?: number;
  rotate(machine: CrashMachine, writer: Writer): void | Promise<void>;
}

export const ROTATION_KINDS: readonly RotationKind[] = [
  {
    title: "renamed and created, the writer told by SIGHUP, compressed one rotation later",
    include: ["*.log"],
    splitLines: true,
    rotate: (machine, writer) =>
      machine.rotate([
        "create",
        "compress",
        "delaycompress",
        "sharedscripts",
        "postrotate",
        `  kill -HUP ${writer.pid}`,
        "endscript",
      ]),
  },
  {
    title: "renamed, created and compressed at once",
    include: ["*.log"],
    splitLines: true,
    // A line written after gzip has read the file would exist for nobody, so this writer reopens before it writes on.
    rotate: (machine, writer) => writer.whilePaused(() => machine.rotate(["create", "compress"])),
  },
  {
    title: "copied and truncated",
    include: ["*.log"],
    splitLines: false,
    rotate: (machine, writer) => writer.whileStopped(() => machine.rotate(["copytruncate"])),
  },
  {
    title: "copied, truncated and compressed, read by a glob that takes in every sibling",
    include: ["**"],
    splitLines: false,
    rotate: (machine, writer) =>
      writer.whileStopped(() => machine.rotate(["copytruncate", "compress", "delaycompress"])),
  },
  {
    title: "renamed with the date, the writer told by SIGHUP",
    include: ["*.log"],
    splitLines: true,
    gapMs: 1100,
    rotate: (machine, writer) =>
      machine.rotate([
        "create",
        "dateext",
        "dateformat -%Y%m%d-%s",
        "sharedscripts",
        "postrotate",
        `  kill -HUP ${writer.pid}`,
        "endscript",
      ]),
  },
];
