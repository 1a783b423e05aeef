import { z } from "zod";

/**
 * Option fields that several stages share. A field made with `secret()` is shown as `***` everywhere: in `explain`, in
 * debug logs, in messages; the marker travels in the schema's metadata.
 */
export const secret = () => z.string().meta({ secret: true });

/** `encoding` of every sink: what one record becomes. */
export const encoding = () =>
  z
    .enum(["json", "text", "raw"])
    .default("json")
    .describe(
      "What a record becomes: `json` the event, `text` its message, `raw` the record's own bytes and the delimiter.",
    );

/** `[sinks.NAME.retry]` of every network sink. */
export const retryOptions = () =>
  z
    .strictObject({
      initial_ms: z.int().positive().default(250).describe("First wait, milliseconds (full jitter: uniform from 0)."),
      max_ms: z.int().positive().default(30000).describe("Longest wait, milliseconds."),
      max_attempts: z.int().nonnegative().default(0).describe("Attempts before the batch is dead-lettered; 0: no end."),
    })
    .prefault({});

export const timeoutMs = () => z.int().positive().default(10000).describe("Longest wait for an answer, milliseconds.");
