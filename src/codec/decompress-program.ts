import { spawn } from "node:child_process";
import { once } from "node:events";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { toError } from "../errors.ts";
import {
  type ArchiveEnd,
  type ArchivePiece,
  cutEnd,
  endBetween,
  type ReadAt,
  readUpTo,
  skipPadding,
  trailingEnd,
  unsupported,
} from "./archive-end.ts";

/**
 * What has no decoder here is handed to the program that made it, as logrotate does. Each decodes all streams of an
 * archive, verifies their checksums, gives what it can of one that is damaged, and ends with a non-zero code then.
 */
const PROGRAMS = {
  // A dictionary of 64 MiB is the largest that `xz -9` makes; it needs a little more.
  xz: {
    command: "xz",
    args: ["-dc", "--memlimit-decompress=160MiB"],
    debianPackage: "xz-utils",
    magic: Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]),
  },
  bzip2: { command: "bzip2", args: ["-dc"], debianPackage: "bzip2", magic: Buffer.from("BZh") },
} as const;

// 64 KiB: what the pipes between processes hold.
const CHUNK_BYTES = 64 * 1024;
/** What is kept of a program's complaint. */
const COMPLAINT_BYTES = 1000;

type ProgramFormat = keyof typeof PROGRAMS;

/**
 * The content of an xz or bzip2 archive, all its streams one after the other. What was appended is decoded from the last
 * end that was whole on. Ends only behind damage.
 *
 * @throws TailraceError `TR_ARCHIVE_UNSUPPORTED` where the program is missing
 */
export async function* programContent(format: ProgramFormat, read: ReadAt): AsyncGenerator<ArchivePiece> {
  /** Where the stream begins that is not known to be whole. */
  let baseAt = 0;
  /** Content given from there on. */
  let given = 0;
  for (;;) {
    const { magic } = PROGRAMS[format];
    const at = baseAt === 0 ? 0 : await skipPadding(read, baseAt);
    const start = await readUpTo(read, magic.length, at);
    const isBeginning = magic.subarray(0, start.length).equals(start);
    if (start.length === 0) {
      yield endBetween(at);
      continue;
    }
    if (!isBeginning && at > 0) {
      yield trailingEnd(at);
      continue;
    }
    if (isBeginning && start.length < magic.length) {
      yield cutEnd(at + start.length, "in the first bytes of a stream");
      continue;
    }
    const run = new ProgramRun(format, read, at);
    let made = 0;
    for await (const bytes of run.content()) {
      made += bytes.length;
      if (made <= given) continue;
      const fresh = bytes.subarray(Math.max(0, bytes.length - (made - given)));
      given = made;
      yield fresh;
    }
    const { end, takenUntil } = run;
    yield end!;
    if (end!.kind === "damaged") return;
    while ((await readUpTo(read, 1, takenUntil)).length === 0) yield end!;
    if (end!.kind === "cut") continue;
    baseAt = takenUntil;
    given = 0;
  }
}

/** One run of the program, over the archive from a byte on. */
class ProgramRun {
  /** Set once the content is over. */
  end: ArchiveEnd | undefined;
  /** Bytes of the archive before it were given to the program. */
  takenUntil: number;
  readonly #format: ProgramFormat;
  readonly #read: ReadAt;
  readonly #from: number;

  constructor(format: ProgramFormat, read: ReadAt, from: number) {
    this.#format = format;
    this.#read = read;
    this.#from = from;
    this.takenUntil = from;
  }

  async *content(): AsyncGenerator<Buffer> {
    const { command, args, debianPackage } = PROGRAMS[this.#format];
    // Without XZ_OPT, BZIP2 and the like, which change what the program does; complaints in English.
    const env = { PATH: process.env["PATH"], LC_ALL: "C" };
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env });
    try {
      await once(child, "spawn");
    } catch (error) {
      const what = `cannot run the program \`${command}\` that decompresses ${this.#format} (${toError(error).message})`;
      throw unsupported(`${what}; install it (Debian: ${debianPackage})`, error);
    }
    const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(0, COMPLAINT_BYTES);
    });
    let readError: unknown;
    // The pipe breaks when the program gives up; its exit code and complaint tell why.
    const feeding = pipeline(
      this.#chunks((error) => {
        readError = error;
        child.kill("SIGKILL");
      }),
      child.stdin,
    ).catch(() => undefined);
    try {
      for await (const bytes of child.stdout) yield bytes as Buffer;
      const [exitCode, killedBy] = await ended;
      await feeding;
      if (readError !== undefined) throw readError;
      const said = complaint.trim().replaceAll("\n", "; ") || `\`${command}\` ended with ${killedBy ?? exitCode}`;
      this.end = exitCode === 0 ? endBetween(this.takenUntil) : await this.#endOf(said);
    } finally {
      child.kill("SIGKILL");
      child.stdin.destroy();
      await feeding;
      await ended;
    }
  }

  async #endOf(complaint: string): Promise<ArchiveEnd> {
    if (/ends? (of input|unexpectedly)/i.test(complaint)) return cutEnd(this.takenUntil, "in the middle of a stream");
    const { magic } = PROGRAMS[this.#format];
    const isNone = this.#from === 0 && !(await readUpTo(this.#read, magic.length, 0)).equals(magic);
    const reason = isNone ? `it is no ${this.#format} archive: it does not begin as one` : complaint;
    return { kind: "damaged", reason, at: isNone ? 0 : undefined };
  }

  /** The archive to its present end, read as it is asked for. */
  #chunks(onError: (error: unknown) => void): Readable {
    const run = this;
    async function* chunks() {
      try {
        for (;;) {
          const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
          const count = await run.#read(chunk, CHUNK_BYTES, run.takenUntil);
          if (count === 0) return;
          run.takenUntil += count;
          yield chunk.subarray(0, count);
        }
      } catch (error) {
        onError(error);
        throw error;
      }
    }
    return Readable.from(chunks(), { objectMode: false, highWaterMark: CHUNK_BYTES });
  }
}
