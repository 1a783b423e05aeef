/**
 * Every error that Tailrace raises on purpose: one closed table of codes, one class per decision that a caller makes.
 * `docs/reference/errors.md` is compared with this table by a test, in both directions.
 */

/** Code -> what it means to the person who reads it. */
export const ERROR_CODES = {
  TR_CONFIG_INVALID: "The configuration has mistakes; nothing was started.",
  TR_USAGE: "The command line is wrong; nothing was started.",
  TR_PRIVILEGE_MISSING: "A privilege that the configuration needs is missing; nothing was started.",
  TR_CHANNEL_CLOSED: "The other side of the channel is gone; the value is in the error.",
  TR_CHANNEL_FULL:
    "The channel is full and its policy is `error` (or the time to wait is over); the value is in the error.",
  TR_BACKPRESSURE: "A handler is behind: offer the message again after the suggested wait; it stays with its owner.",
  TR_STATE_IN_USE: "Another process holds the state directory.",
  TR_STATE_DAMAGED: "The state directory is damaged, or its store is missing.",
  TR_STATE_UNUSABLE: "The state directory cannot be created, read or written.",
  TR_STATE_NEWER: "The state directory was written by a newer version.",
  TR_STATE_REFUSED: "The state directory does not fit the configuration, and guessing would lose or repeat records.",
  TR_COMMIT_FAILED: "A checkpoint could not be made durable; nothing in memory moved.",
  TR_DEAD_LETTERS_FULL: "The dead letter store is full; what was refused waits until there is room.",
  TR_STAGE_FAILED: "A source, transform or sink failed for good.",
  TR_STAGE_OPEN: "A source, transform or sink could not be opened.",
  TR_SINK_FENCED: "Another writer took over the target of a sink.",
  TR_OUTPUT_FOREIGN: "An output file was changed by somebody else.",
  TR_ARCHIVE_UNSUPPORTED:
    "A compressed file cannot be read here: a program is missing, or it uses a feature that is not supported.",
  TR_ADDRESS_IN_USE: "An address to listen on is taken.",
  TR_ADDRESS_UNUSABLE: "An address to listen on is not of this machine, or not allowed.",
  TR_SHUTDOWN_FORCED: "The shutdown did not end in time and was forced.",
  TR_INTERNAL: "An unexpected error; a bug in Tailrace.",
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The base of all: a stable `code`, a message that says what was attempted, on what, and what to do. */
export class TailraceError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** One mistake of a user in a configuration or on the command line. */
export interface Mistake {
  /** File of the mistake, or "--set", "environment", "command line". */
  readonly file?: string;
  /** 1-based line in `file`. */
  readonly line?: number;
  /** 1-based column in `line`, for mistakes of the syntax. */
  readonly column?: number;
  /** Dotted key, such as `sinks.out.path`. */
  readonly key?: string;
  /** What is wrong, and how to mend it. */
  readonly message: string;
}

/** Wrong configuration or usage: exit code 2, all mistakes at once, no stack trace. */
export class ConfigError extends TailraceError {
  readonly mistakes: readonly Mistake[];

  constructor(
    mistakes: readonly Mistake[],
    code: "TR_CONFIG_INVALID" | "TR_USAGE" | "TR_PRIVILEGE_MISSING" = "TR_CONFIG_INVALID",
  ) {
    super(code, mistakes.map(describeMistake).join("\n"));
    this.mistakes = mistakes;
  }
}

/** `file:line: key: message`, leaving out what is not known; `file:line:column: message` for the syntax. */
export function describeMistake(mistake: Mistake): string {
  const { file, line, column } = mistake;
  const where = file === undefined ? undefined : [file, line, column].filter((part) => part !== undefined).join(":");
  return [where, mistake.key, mistake.message].filter((part) => part !== undefined).join(": ");
}

/** A value was sent into a channel whose receiver (or last sender) is gone. The value stays with its owner: it is here. */
export class ChannelClosedError<T = unknown> extends TailraceError {
  readonly value: T;

  constructor(value: T, message = "the channel is closed") {
    super("TR_CHANNEL_CLOSED", message);
    this.value = value;
  }
}

/** A value was refused by a full channel. The value stays with its owner: it is here. */
export class ChannelFullError<T = unknown> extends TailraceError {
  readonly value: T;

  constructor(value: T, message = "the channel is full") {
    super("TR_CHANNEL_FULL", message);
    this.value = value;
  }
}

/** The other side is behind and takes nothing new now; what was offered stays with its owner. */
export class BackpressureError extends TailraceError {
  /** After this long there is probably room again. */
  readonly suggestedWaitMs: number;

  constructor(suggestedWaitMs: number, message: string) {
    super("TR_BACKPRESSURE", message);
    this.suggestedWaitMs = suggestedWaitMs;
  }
}

/** The checkpoint store could not be opened, read or written. */
export class CheckpointError extends TailraceError {}

/** A source, transform or sink failed; `component` is its name in the configuration. */
export class StageError extends TailraceError {
  readonly component: string;

  constructor(code: ErrorCode, component: string, message: string, options?: { cause?: unknown }) {
    super(code, `${component}: ${message}`, options);
    this.component = component;
  }
}

/** Whatever was thrown, as an Error. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}

/** The errno name (`"ENOSPC"`, ...) of a failed system call, if it is one. */
export function errnoOf(thrown: unknown): string | undefined {
  if (thrown instanceof Error && "code" in thrown && typeof thrown.code === "string") return thrown.code;
  return undefined;
}
