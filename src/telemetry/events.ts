/**
 * The lifecycle events: one typed list, each with the level it is logged at, what it means and what facts it carries.
 * The publisher, the log, the types and the reference page read this list; nobody else names an event.
 */

type Level = "debug" | "info" | "warn" | "error";

/** What a fact is; with `?` it may be missing. */
type FactKind = "text" | "number" | "boolean" | "text?" | "number?" | "boolean?";

interface EventDefinition {
  /** A warning means that nothing was lost; an error, that records were or that a person must act. */
  readonly level: Level;
  readonly meaning: string;
  readonly facts: { readonly [fact: string]: FactKind };
}

export const EVENTS = {
  file_opened: {
    level: "info",
    meaning: "A file was found and is read from `offset` on.",
    facts: { file: "text", offset: "number", generation: "number" },
  },
  file_rotated: {
    level: "info",
    meaning: "A file was replaced under its path; `how` is renamed, copy_truncated or deleted.",
    facts: { file: "text", how: "text", offset: "number", now: "text?" },
  },
  file_finished: {
    level: "debug",
    meaning: "A file was read to its end and will not be read again.",
    facts: { file: "text", size: "number" },
  },
  file_truncated: {
    level: "warn",
    meaning: "A file became shorter than what was read of it, or holds something else.",
    facts: { file: "text", offset: "number", size: "number" },
  },
  gap: {
    level: "error",
    meaning:
      "Bytes that existed could not be read any more; of an archive that is damaged or cut, what follows `offset` of its content.",
    facts: { file: "text", offset: "number", bytes: "number?", reason: "text?", archive_byte: "number?" },
  },
  repeat: {
    level: "warn",
    meaning: "The evidence was ambiguous, so bytes are read again rather than skipped.",
    facts: { file: "text", bytes: "number" },
  },
  file_unreadable: {
    level: "warn",
    meaning: "A file or folder cannot be read at the moment; the position is kept and it is tried again.",
    facts: { file: "text?", folder: "text?", offset: "number?", error: "text?" },
  },
  file_readable: {
    level: "info",
    meaning: "A file or folder that could not be read can be read again.",
    facts: { file: "text?", folder: "text?" },
  },
  file_limit_reached: {
    level: "warn",
    meaning:
      "More files match than `max_files`; `left_out` of them are not read. Those that are read already go on being read.",
    facts: { source: "text", max_files: "number", left_out: "number" },
  },
  file_limit_over: {
    level: "info",
    meaning: "All files that match are read again, after `file_limit_reached`.",
    facts: { source: "text", max_files: "number" },
  },
  hole_skipped: {
    level: "warn",
    meaning: "A hole at the start after a truncation was skipped (a writer without O_APPEND).",
    facts: { file: "text", bytes: "number" },
  },
  sink_down: {
    level: "warn",
    meaning: "A sink does not take records; they wait and are tried again.",
    facts: { reason: "text" },
  },
  sink_up: { level: "info", meaning: "A sink that was down takes records again.", facts: {} },
  sink_rewound: {
    level: "warn",
    meaning: "A sink's target knows less than the store: it was restored or recreated.",
    facts: {},
  },
  handler_worker_died: {
    level: "warn",
    meaning:
      "A worker of a handler died, hung or broke the protocol; it is started again, and what it held is tried again.",
    facts: { worker: "number", reason: "text" },
  },
  handler_failing: {
    level: "error",
    meaning: "The workers of a handler die as they start; told once until one lives. Nothing is lost: messages wait.",
    facts: { reason: "text" },
  },
  handler_recovered: { level: "info", meaning: "The workers of a handler start again.", facts: {} },
  output_missing: { level: "warn", meaning: "An output that was recorded is gone.", facts: { path: "text" } },
  output_foreign: {
    level: "warn",
    meaning: "An output was cut or replaced by somebody else.",
    facts: { path: "text", size: "number?", length: "number?" },
  },
  dead_lettered: {
    level: "warn",
    meaning: "A component refused records for good; they are in the dead letters.",
    facts: { component: "text", records: "number", reason: "text" },
  },
  commit: {
    level: "debug",
    meaning: "A checkpoint is durable.",
    facts: { changes: "number", seconds: "number" },
  },
  commit_failed: {
    level: "error",
    meaning: "A checkpoint could not be written; nothing moved, and it is tried again.",
    facts: { error: "text?" },
  },
  warning_raised: {
    level: "warn",
    meaning: "A channel is fuller than `log_warning_threshold`; told once until it is over.",
    facts: { component: "text", channel: "text", usage_percent: "number" },
  },
  warning_cleared: {
    level: "info",
    meaning: "A channel that was too full has room again.",
    facts: { component: "text", channel: "text", usage_percent: "number", lasted_ms: "number" },
  },
  drop_burst: {
    level: "warn",
    meaning: "An overflow policy dropped something; told once a second while it lasts and once at the end.",
    facts: { component: "text", channel: "text", dropped: "number" },
  },
  reload: {
    level: "info",
    meaning: "The configuration was read again; `applied` says whether it took effect.",
    facts: { applied: "boolean", reason: "text?" },
  },
  shutdown_phase: {
    level: "info",
    meaning: "A shutdown went on: `phase` is draining, closing, then ended.",
    facts: { phase: "text" },
  },
  events_missed: {
    level: "warn",
    meaning: "This listener was too slow: so many events are missing here. It is never logged.",
    facts: { missed: "number" },
  },
} as const satisfies { readonly [name: string]: EventDefinition };

export type EventName = keyof typeof EVENTS;

type FactOf<Kind> = Kind extends `text${string}` ? string : Kind extends `number${string}` ? number : boolean;

type Facts<Kinds> = {
  readonly [Name in keyof Kinds as Kinds[Name] extends `${string}?` ? never : Name]: FactOf<Kinds[Name]>;
} & { readonly [Name in keyof Kinds as Kinds[Name] extends `${string}?` ? Name : never]?: FactOf<Kinds[Name]> };

/** The machine-readable half of an event. */
export type FactsOf<Name extends EventName> = Facts<(typeof EVENTS)[Name]["facts"]>;

/** One lifecycle event, as listeners get it; `event` tells which it is and with that what its facts are. */
export type LifecycleEvent = {
  readonly [Name in EventName]: {
    /** Counts the events of this process from 1 on; where a number is left out, an event was missed. */
    readonly number: number;
    /** RFC 3339 UTC. */
    readonly time: string;
    readonly event: Name;
    readonly level: Level;
    /** Who it is about: a component of the configuration, or a part of the agent. */
    readonly component: string;
    /** A plain English sentence. */
    readonly message: string;
    readonly facts: FactsOf<Name>;
    /** That so many alike, waiting for a slow listener, became this one (the last of them); absent: it is the only one. */
    readonly count?: number;
  };
}[EventName];

/** Takes lifecycle events of one component; never waits and never throws. */
export interface EventSink {
  emit<Name extends EventName>(name: Name, message: string, facts: FactsOf<Name>): void;
}

/** Events as they happen, from the subscription on. A slow one loses the oldest and is told by `events_missed`. */
export interface EventSubscription extends AsyncIterable<LifecycleEvent>, Disposable {
  /** The next event; undefined at the end, or when `signal` aborts (nothing is lost). */
  recv(options?: { readonly signal?: AbortSignal }): Promise<LifecycleEvent | undefined>;
  close(): void;
}
