export type { ReadCounters, TailerPayload } from "./tailer.ts";
export { type FileStatus, TailerManager, type TailerManagerOptions } from "./tailer-manager.ts";
