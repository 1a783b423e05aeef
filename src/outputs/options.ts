import { z } from "zod";
import { encoding } from "../stage/index.ts";
import { PathTemplate } from "./template.ts";

/** The keys of `[sinks.NAME]` with `type = "file"`. */
export const fileSinkOptions = z.strictObject({
  path: z
    .string()
    .min(1)
    .superRefine((text, context) => {
      if (STANDARD_STREAM.test(text)) {
        context.addIssue({
          code: "custom",
          message: `${text} is no file to keep; write type = "console" for standard output`,
        });
        return;
      }
      try {
        new PathTemplate(text);
      } catch (error) {
        context.addIssue({ code: "custom", message: error instanceof Error ? error.message : String(error) });
      }
    })
    .describe(
      "The file to append to. `{host}` stands for a field of the event (a missing one is `_`), `{time:%Y-%m-%d}` for its time in UTC; in values everything but `A-Z a-z 0-9 . _ -` becomes `_`.",
    ),
  encoding: encoding(),
  existing: z
    .enum(["append", "refuse", "rotate"])
    .default("append")
    .describe(
      "What to do with a file that holds bytes Tailrace has no record of: `append` to it with one warning, `refuse` to start, or `rotate` it away under another name.",
    ),
  mode: z
    .string()
    .regex(/^0?[0-7]{3}$/, 'give three octal digits, such as "0640"')
    .default("0644")
    .describe("Permissions of a new file, octal; the process's umask takes its part away."),
  max_open_outputs: z
    .int()
    .positive()
    .default(100)
    .describe("Outputs of a `path` with placeholders that are open at once; the one not used for longest is closed."),
  rotate: z
    .strictObject({
      max_bytes: z
        .int()
        .nonnegative()
        .default(0)
        .describe(
          "Size at which the output is renamed and a new one begun, bytes (a single batch may be larger); 0: never.",
        ),
      max_age_ms: z
        .int()
        .nonnegative()
        .default(0)
        .describe("Age at which it is, milliseconds; 0: never. An empty output is left alone."),
      keep: z
        .int()
        .nonnegative()
        .default(0)
        .describe(
          "How many renamed outputs are kept; older ones are deleted, those only that Tailrace renamed under this setting. 0: all.",
        ),
    })
    .prefault({})
    .describe("When to begin a new file. SIGUSR1 does it too. The old one becomes `PATH.20261121T101500Z`."),
});

export type FileSinkOptions = z.infer<typeof fileSinkOptions>;

const STANDARD_STREAM = /^\/dev\/(stdin|stdout|stderr|fd\/\d+|tty)$|^\/proc\/(self|\d+)\/fd\/\d+$/;
