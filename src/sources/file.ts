import { z } from "zod";
import { PathPatterns, patternMistake } from "../files/glob.ts";
import { TailerManager } from "../files/tailer-manager.ts";
import type { TailerManagerOptions } from "../files/tailer-manager-options.ts";
import { whyAtRest } from "../files/why-at-rest.ts";
import { pathFromText } from "../runtime/byte-path.ts";
import { nodeFileSystem } from "../runtime/node-file-system.ts";
import { defineSource } from "../stage/define.ts";
import { encodeDelimiter, encodingLabel, encodingName, lineDelimiter, maxLineBytes } from "../stage/text-options.ts";

/** A glob that cannot mean what it says is refused where it is written. */
function refuseMistakes(text: string, context: z.RefinementCtx): void {
  const mistake = patternMistake(text);
  if (mistake !== undefined) context.addIssue({ code: "custom", message: mistake });
}

const fileOptions = z.strictObject({
  include: z
    .array(z.string().min(1).superRefine(refuseMistakes))
    .min(1)
    .describe(
      "Globs of the files to read, as in bash with `globstar`: `{a,b}`, `*`, `?`, `[a-z]`, `[!a-z]`, `**`; `\\\\` before a character takes its meaning away. No wildcard matches a leading dot. Paths are bytes.",
    ),
  exclude: z
    .array(z.string().min(1).superRefine(refuseMistakes))
    .default([])
    .describe(
      "Globs of files to leave out, also those with a leading dot; one without a slash is compared with the base name.",
    ),
  read_from: z
    .enum(["beginning", "end"])
    .default("beginning")
    .describe("Where to start in files that have no checkpoint. Files that appear later are read from 0."),
  max_line_bytes: maxLineBytes(),
  line_delimiter: lineDelimiter(),
  max_batch_bytes: z.int().min(512).default(262144).describe("Most bytes of one read and of one batch."),
  scan_interval_ms: z
    .int()
    .positive()
    .default(1000)
    .describe("How often folders and files are looked at; a file notification only makes it sooner."),
  idle_scan_interval_ms: z
    .int()
    .positive()
    .default(10000)
    .describe("How often files are looked at that were quiet for a minute, in slices."),
  partial_line_timeout_ms: z
    .int()
    .nonnegative()
    .default(0)
    .describe("An unfinished line that did not grow for so long is delivered, marked partial; 0: off."),
  rotate_wait_ms: z
    .int()
    .nonnegative()
    .default(5000)
    .describe("How long a renamed or deleted file is kept open after its last byte."),
  archives: z
    .boolean()
    .default(true)
    .describe("Read unread bytes out of compressed rotated files, and compressed files that match decompressed."),
  rotated_to: z
    .array(z.string().refine((text) => text.includes("{name}"), "must hold {name}, which stands for the log's name"))
    .max(16)
    .default([])
    .describe(
      "Where else rotation puts old files: paths with `{name}` (the log's name), `*` (a number or a date, in a folder's name too) and parts of a date as in strftime (`%Y%m%d`), absolute or relative to the log's folder: `/var/log/old/{name}*`. What logrotate's own configuration in /etc says of a log is known without.",
    ),
  max_open_files: z
    .int()
    .positive()
    .default(1000)
    .describe("Files open at once; lowered to what RLIMIT_NOFILE allows."),
  max_files: z
    .int()
    .positive()
    .default(100000)
    .describe("Files that are followed; of more that match, those found later are left out until there is room."),
  tombstone_days: z.number().nonnegative().default(14).describe("How long finished files are remembered, in days."),
  ignore_older_ms: z
    .int()
    .nonnegative()
    .default(0)
    .describe("Leave out files without checkpoint that were not modified for so long; 0: off."),
  remove_after_ms: z
    .int()
    .nonnegative()
    .default(0)
    .describe("Delete files that are delivered to the end and quiet for so long; 0: never."),
  encoding: encodingLabel(),
});

/** Files, followed through rotation and restarts. */
export const fileSource = defineSource({
  type: "file",
  summary: "Reads files line by line and follows them through rotation, truncation, compression and restarts.",
  replay: "replayable",
  options: fileOptions,
  reads: ({ include, exclude }, path) =>
    new PathPatterns(include, exclude).judge(pathFromText(path)).kind === "included",
  whyAtRest({ include, exclude, archives }, path, stored) {
    const files = { fileSystem: nodeFileSystem, readsArchives: archives };
    return whyAtRest(pathFromText(path), new PathPatterns(include, exclude), stored, files);
  },
  async open(options, context) {
    return new TailerManager(managerOptions(options), context);
  },
  async reconfigure(source, options) {
    await (source as TailerManager).reconfigure(managerOptions(options));
  },
});

function managerOptions(options: z.infer<typeof fileOptions>): TailerManagerOptions {
  const encoding = encodingName(options.encoding);
  return {
    include: options.include,
    exclude: options.exclude,
    readFrom: options.read_from,
    maxLineBytes: options.max_line_bytes,
    lineDelimiter: encodeDelimiter(options.line_delimiter, encoding),
    encoding,
    maxBatchBytes: options.max_batch_bytes,
    scanIntervalMs: options.scan_interval_ms,
    idleScanIntervalMs: options.idle_scan_interval_ms,
    partialLineTimeoutMs: options.partial_line_timeout_ms,
    rotateWaitMs: options.rotate_wait_ms,
    archives: options.archives,
    rotatedTo: options.rotated_to,
    maxOpenFiles: options.max_open_files,
    maxFiles: options.max_files,
    tombstoneDays: options.tombstone_days,
    ignoreOlderMs: options.ignore_older_ms,
    removeAfterMs: options.remove_after_ms,
  };
}
