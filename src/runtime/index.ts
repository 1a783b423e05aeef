export { Backoff, type BackoffOptions } from "./backoff.ts";
export {
  type BytePath,
  baseName,
  folderOf,
  joinPath,
  pathFromBytes,
  pathFromText,
  pathToBytes,
  pathToText,
} from "./byte-path.ts";
export { CancellationToken } from "./cancellation-token.ts";
export { type Clock, sleepWith, systemClock, type Timer } from "./clock.ts";
export { type DirectoryLock, isLocked, lockDirectory } from "./directory-lock.ts";
export type { DirectoryEntry, FileHandle, FileStat, FileSystem, FolderWatch, OpenMode } from "./file-system.ts";
export { nodeFileSystem } from "./node-file-system.ts";
export { type Random, systemRandom } from "./random.ts";
export { type MonitoredSignal, type SignalEmitter, type SignalHandlers, SignalMonitor } from "./signal-monitor.ts";
export {
  type ProcessErrors,
  type SupervisedError,
  Supervisor,
  type SupervisorLog,
  type SupervisorOptions,
  type SupervisorResult,
} from "./supervisor.ts";
