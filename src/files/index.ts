/**
 * Files, followed through rotation and restarts, as a library: a `TailerManager` reads what its globs match, line by line,
 * into one channel. It takes positions from, and hands file entries to, whoever keeps them (`SourcePositions`).
 */
export type { FileFacts, FileStatus } from "./file-report.ts";
export { TailerManager } from "./tailer-manager.ts";
export type { TailerManagerOptions } from "./tailer-manager-options.ts";
export type { ReadCounters, TailerPayload } from "./tailer-options.ts";
