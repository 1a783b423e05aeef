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
  /** Where else rotation puts old files: `/var/log/old/{name}*`; each holds `{name}`. */
  readonly rotatedTo?: readonly string[];
  /** Of logrotate; the first of these files that exists is read. Default: where distributions have it. */
  readonly logrotateConfiguration?: readonly string[];
  readonly maxOpenFiles: number;
  /** Paths that are looked at; more that match are left out. */
  readonly maxFiles: number;
  readonly tombstoneDays: number;
  /** 0: off. */
  readonly ignoreOlderMs: number;
  /** 0: never. */
  readonly removeAfterMs: number;
}
