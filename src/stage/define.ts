import type { z } from "zod";
import type { FileEntry } from "../checkpoint/checkpoint-store.ts";
import type {
  Sink,
  SinkContext,
  Source,
  SourceContext,
  StageChannelSection,
  StageContext,
  Transform,
} from "./contract.ts";

/** What a stage finds wrong with its options beyond their shape. */
export interface OptionMistake {
  /** Keys from the component's own table on. */
  readonly path: readonly string[];
  /** What is wrong, and how to mend it. */
  readonly message: string;
}

/**
 * A kind of source, as `stages.ts` lists it and as a library user writes one. `options` is its zod schema: it gives the
 * types, the defaults, the checks and, through `.describe()`, the reference page. Keys are snake_case as in the TOML.
 */
export interface SourceDefinition<Options extends z.ZodType = z.ZodType, Type extends string = string> {
  readonly kind: "source";
  /** `type` in the configuration. */
  readonly type: Type;
  /** One sentence for the reference page. */
  readonly summary: string;
  readonly options: Options;
  /** Designed channels that it makes or shares, for `tailrace graph`. */
  readonly channels?: readonly SharedChannel[];
  /** Whether its origins can be read again from a position; states the guarantee in `validate`. */
  readonly replay: "replayable" | "acknowledged" | "fleeting";
  /** How its output channel overflows, and what its drop reports count. Default: `block`, as what was read must not get lost. */
  readonly output?: { readonly overflow: "drop_newest"; readonly unit: "time slots" };
  /** Whether it would read the file at `path`, absolute, once that is there. */
  reads?(options: z.infer<Options>, path: string): boolean;
  /** Bytes of memory that it takes beside the in-flight budget, for the ceiling. Default: little. */
  memoryBytes?(options: z.infer<Options>): number;
  /**
   * Before anything is started: whether this process may do, and the machine can, what the source needs. Rejects with what
   * is missing, in one sentence; changes nothing.
   */
  checkPrivilege?(options: z.infer<Options>): Promise<void>;
  /**
   * Before anything is started, at a reload, and by `validate`: whether what the options name outside of the configuration
   * (code of the user's, certificates) can be used. Resolves with every mistake; changes nothing.
   */
  check?(options: z.infer<Options>): Promise<readonly OptionMistake[]>;
  open(options: z.infer<Options>, context: SourceContext): Promise<Source>;
  /**
   * At a reload: goes on with other options from the next look and the next read on, and resolves once it does. Everything
   * that the source holds (positions of this process, open descriptors, what it knows of what it saw) stays, and nothing has
   * to settle before. Must not fail. Without this a source with other options is stopped, once everything that it has
   * handed on is committed, and another is opened, which begins at what is committed.
   */
  reconfigure?(source: Source, options: z.infer<Options>): Promise<void>;
  /** `validate --live`: tries the upstream, or what else it needs, and changes nothing. Rejects with what is wrong. */
  probe?(options: z.infer<Options>, context: StageContext): Promise<void>;
  /** `Source.why` while no agent runs: from what is stored. */
  whyAtRest?(options: z.infer<Options>, path: string, stored: StoredFiles): Promise<object>;
}

export interface TransformDefinition<Options extends z.ZodType = z.ZodType, Type extends string = string> {
  readonly kind: "transform";
  readonly type: Type;
  readonly summary: string;
  readonly options: Options;
  /** Part of it lies outside of the configuration (code of the user's): every reload opens it anew. */
  readonly readsFiles?: true;
  /** See `SourceDefinition.check`. */
  check?(options: z.infer<Options>): Promise<readonly OptionMistake[]>;
  open(options: z.infer<Options>, context: StageContext): Promise<Transform>;
}

/** What a sink promises of what it was sent twice. */
export type SinkGuarantee = "exactly_once" | "at_least_once";

export interface SinkDefinition<Options extends z.ZodType = z.ZodType, Type extends string = string> {
  readonly kind: "sink";
  readonly type: Type;
  readonly summary: string;
  readonly options: Options;
  /**
   * `exactly_once`: keeps positions beside the data, or marks that describe it (delivery contract, section 6).
   * `at_least_once`: a repeat carries the same record ids.
   * A function where it depends on the options.
   */
  readonly guarantee: SinkGuarantee | ((options: z.infer<Options>) => SinkGuarantee);
  /** Batches that may be in `write` at once. Default 1. */
  readonly concurrency?: number | ((options: z.infer<Options>) => number);
  /** `file` (the default): of one origin never more than one batch is in `write`, so that its order is kept. */
  readonly order?: "file" | "none";
  /**
   * What waits of one origin goes into `write` as one batch, up to so many source bytes: for a target where a write costs
   * much and a record in it little. Default: each batch alone. Not for sinks with `prepare`.
   */
  readonly gatherBytes?: number;
  /**
   * The target stores no record id twice: also what an acknowledged source brings again after a kill is there once.
   * Default: not so.
   */
  isUniqueOnRecordId?(options: z.infer<Options>): boolean;
  /** Designed channels that it makes or shares, for `tailrace graph`. */
  readonly channels?: readonly SharedChannel[];
  /** What it loses of a source that cannot repeat, beside what was in flight; a sentence for `validate`. */
  readonly fleetingLoss?: string;
  /** What it holds in memory beside the batches in flight, bytes, where that is more than an encoder's few MiB; for the memory ceiling. */
  memoryBytes?(options: z.infer<Options>): number;
  /** Part of it lies outside of the configuration (code of the user's): every reload opens it anew. */
  readonly readsFiles?: true;
  /** What names the target: two sinks of the same type and target are refused where `isExclusive`. */
  target?(options: z.infer<Options>): string;
  /** The one file that it writes, absolute; undefined where the records decide. */
  output?(options: z.infer<Options>): string | undefined;
  /** See `SourceDefinition.check`. */
  check?(options: z.infer<Options>): Promise<readonly OptionMistake[]>;
  open(options: z.infer<Options>, context: SinkContext): Promise<Sink>;
  /** `validate --live`: tries the target and changes nothing. Rejects with what is wrong. */
  probe?(options: z.infer<Options>, context: StageContext): Promise<void>;
}

/** A designed channel of stages, by its section below `mpsc_channels`. */
type SharedChannel = StageChannelSection | "worker.in_process_events";

/** What the checkpoint knows of the files of one source. */
export interface StoredFiles {
  readonly entries: ReadonlyMap<string, FileEntry>;
  /** Lowest committed prefix over the sinks that have a position of it; 0 where none has. */
  committedOf(fileKey: string): number;
}

export type StageDefinition = SourceDefinition | TransformDefinition | SinkDefinition;

export function defineSource<Options extends z.ZodType, const Type extends string>(
  definition: Omit<SourceDefinition<Options, Type>, "kind">,
): SourceDefinition<Options, Type> {
  return { kind: "source", ...definition };
}

export function defineTransform<Options extends z.ZodType, const Type extends string>(
  definition: Omit<TransformDefinition<Options, Type>, "kind">,
): TransformDefinition<Options, Type> {
  return { kind: "transform", ...definition };
}

export function defineSink<Options extends z.ZodType, const Type extends string>(
  definition: Omit<SinkDefinition<Options, Type>, "kind">,
): SinkDefinition<Options, Type> {
  return { kind: "sink", ...definition };
}

/** What a sink with these options promises. */
export function guaranteeOf({ guarantee }: SinkDefinition, options: unknown): SinkGuarantee {
  return typeof guarantee === "function" ? guarantee(options) : guarantee;
}
