import type { OverflowPolicy } from "../channel/index.ts";
import type {
  SinkDefinition,
  SourceDefinition,
  StageChannelSection,
  TaskReadinessBehaviour,
  TransformDefinition,
} from "../stage/index.ts";

/** A checked configuration: plain data that the agent builds from. Nothing in it needs another look. */
export interface Plan {
  /** As given, relative to the working directory. */
  readonly stateDir: string;
  readonly environment: string;
  readonly api: ApiPlan;
  /** Undefined: nothing is pushed. */
  readonly otlp: OtlpPlan | undefined;
  readonly shutdown: {
    readonly gracefulTimeoutMs: number;
    /** 0: no limit. */
    readonly onSignalTimeoutMs: number;
    /** 0: no limit. */
    readonly sinkGraceMs: number;
  };
  readonly checkpoint: {
    readonly commitIntervalMs: number;
    readonly commitBytes: number;
    readonly maxUncommittedBytes: number;
    readonly maxUncommittedMs: number;
  };
  readonly deadLetters: { readonly maxBytes: number };
  /** Threads for each run of transforms; 0: they work in the agent's own. */
  readonly transformThreads: number;
  readonly channels: ChannelsPlan;
  readonly taskReadiness: TaskReadinessBehaviour;
  readonly sources: readonly PlannedComponent<SourceDefinition>[];
  /** In an order in which every transform stands behind what it reads from. */
  readonly transforms: readonly PlannedComponent<TransformDefinition>[];
  readonly sinks: readonly PlannedComponent<SinkDefinition>[];
}

export interface ApiPlan {
  readonly enabled: boolean;
  /** "host:port", or "unix:/path". */
  readonly address: string;
  /** Undefined: a random one is made. */
  readonly token: string | undefined;
  /** Host names that are answered to beside the bound address and loopback. */
  readonly allowedHosts: readonly string[];
}

export interface OtlpPlan {
  readonly url: string;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly headers: { readonly [name: string]: string };
}

export interface PlannedComponent<Definition> {
  readonly name: string;
  readonly definition: Definition;
  /** Checked by the definition's schema, defaults filled in. */
  readonly options: unknown;
  /** Names of what it reads from; empty for a source. */
  readonly inputs: readonly string[];
  /** Ids under which it was known before; their positions are taken over. */
  readonly previousNames: readonly string[];
  /** Sinks only: a new sink starts at 0 (true) or at its sources' present prefix (false). */
  readonly backfill: boolean;
  /** Sinks only: it may be so many bytes behind, and drops what comes beyond; undefined: it is required, and drops nothing. */
  readonly maxLagBytes?: number | undefined;
  readonly retry: RetryPlan;
}

/** Sinks only; network sinks configure it, for others the defaults hold. `maxAttempts` 0: no end. */
export interface RetryPlan {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly maxAttempts: number;
}

export interface ChannelSize {
  /** Messages. */
  readonly bufferSize: number;
  /** Undefined: not bounded by bytes (channels that carry no records). */
  readonly bufferBytes: number | undefined;
  readonly overflow: OverflowPolicy;
  readonly sendTimeoutMs: number;
  /** Dynamic sizing between these, in messages; absent (both): `bufferSize` stays. */
  readonly bufferSizeMin?: number;
  readonly bufferSizeMax?: number;
  /** Critical messages overtake the others; default false. */
  readonly priorityLanes?: boolean;
  /** Messages that are alike wait once; default false. */
  readonly coalesce?: boolean;
}

export interface ChannelsPlan {
  /** Budget of all bytes in flight. */
  readonly totalBytes: number;
  /** THE channel of each file source (and the output channel of every other source). */
  readonly tailerPayload: ChannelSize;
  readonly supervisorErrors: ChannelSize;
  /** Commands to the agent. */
  readonly commands: ChannelSize;
  /** Lifecycle events on their way to whoever listens. */
  readonly eventPublisher: ChannelSize;
  /** Of each listener of its own, at the API and in this process. */
  readonly eventStream: ChannelSize;
  /** Records on their way to each `tailrace tap`. */
  readonly tap: ChannelSize;
  /** A designed channel that stages make: its path below `mpsc_channels`, with dots. */
  ofStages(section: StageChannelSection | "worker.in_process_events"): ChannelSize;
  /** A component's own input. */
  input(component: string): ChannelSize;
  /** Fraction of 1. */
  readonly warningThreshold: number;
}
