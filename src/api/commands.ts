import { z } from "zod";

/** PATH_MAX of Linux, each byte as `\xNN`. */
export const MAX_PATH_CHARACTERS = 4 * 4096;

/** What may be done to a running agent; the shape in which the API takes it. */
export const commandSchema = z.discriminatedUnion("command", [
  z
    .strictObject({ command: z.literal("reload") })
    .describe("Reads the configuration again and applies what is different."),
  z.strictObject({ command: z.literal("pause") }).describe("Sources hand nothing on, until `resume`."),
  z.strictObject({ command: z.literal("resume") }).describe("Ends a `pause` or a `drain`."),
  z.strictObject({ command: z.literal("rotate") }).describe("Sinks that write files start new ones."),
  z.strictObject({ command: z.literal("flush") }).describe("Commits what has ended, and answers once that is durable."),
  z
    .strictObject({ command: z.literal("drain") })
    .describe("Pauses, and answers once everything that was read is delivered and committed."),
  z.strictObject({ command: z.literal("stop") }).describe("Stops gracefully, as SIGTERM does."),
  z
    .strictObject({ command: z.literal("reset_position"), path: z.string().min(1).max(MAX_PATH_CHARACTERS) })
    .describe("Forgets where a file stands, so that it is read as a new one."),
  z
    .strictObject({ command: z.literal("set_log_level"), level: z.enum(["error", "warn", "info", "debug"]) })
    .describe("From now on, until the agent ends."),
]);

export type Command = z.infer<typeof commandSchema>;

/** What became of a command. */
export interface CommandAnswer {
  /** A plain English sentence. */
  readonly message: string;
  /** Of a reload: one sentence for each change, those that wait for the next start last. */
  readonly changes?: readonly string[];
  /** Of a reset: how many files there were. */
  readonly files?: number;
}
