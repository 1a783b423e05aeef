/**
 * The lifecycle events: one typed list, each with the level it is logged at. The publisher (and the log) read this list;
 * nobody else names an event.
 */
export const EVENT_LEVELS = {
  /** A file was found and will be read; from which offset. */
  file_opened: "info",
  /** A file was replaced under its path; `how` is renamed, copy_truncated or deleted. */
  file_rotated: "info",
  /** A file was read to its end and will not be read again. */
  file_finished: "debug",
  /** A file became shorter than what was read of it. */
  file_truncated: "warn",
  /** Bytes that existed could not be read any more. */
  gap: "error",
  /** The evidence was ambiguous, so bytes are read again rather than skipped. */
  repeat: "warn",
  /** A file or folder cannot be read at the moment; the position is kept and it is tried again. */
  file_unreadable: "warn",
  file_readable: "info",
  /** A hole at the start after a truncation was skipped (a writer without O_APPEND). */
  hole_skipped: "warn",
  sink_down: "warn",
  sink_up: "info",
  /** A sink's target knows less than the store: restored or recreated. */
  sink_rewound: "warn",
  /** An output that was recorded is gone. */
  output_missing: "warn",
  /** An output was cut or replaced by somebody else. */
  output_foreign: "warn",
  dead_lettered: "warn",
  commit_failed: "error",
  shutdown_phase: "info",
} as const satisfies { [name: string]: "debug" | "info" | "warn" | "error" };

export type EventName = keyof typeof EVENT_LEVELS;

/** Takes lifecycle events. `message` is a plain English sentence; `facts` are its machine-readable half. */
export interface EventSink {
  emit(name: EventName, message: string, facts?: { readonly [fact: string]: unknown }): void;
}
