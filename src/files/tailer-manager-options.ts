/** What a `TailerManager` is to read, and how. */
export interface TailerManagerOptions {
  /** Globs, absolute or from the working folder. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  /** For files that have no checkpoint and were there before the start. */
  readonly readFrom: "beginning" | "end";
  readonly maxLineBytes: number;
  readonly lineDelimiter: Buffer;
  /** WHATWG label. */
  readonly encoding: string;
  readonly maxBatchBytes: number;
  readonly scanIntervalMs: number;
  readonly idleScanIntervalMs: number;
  /** 0: off. */
  readonly partialLineTimeoutMs: number;
  readonly rotateWaitMs: number;
  readonly archives: boolean;
  readonly maxOpenFiles: number;
  /** Paths that are looked at; more that match are left out. */
  readonly maxFiles: number;
  readonly tombstoneDays: number;
  /** 0: off. */
  readonly ignoreOlderMs: number;
  /** 0: never. */
  readonly removeAfterMs: number;
}
