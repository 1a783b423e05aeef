export { Checkpoint } from "./checkpoint.ts";
export type { Change, CheckpointStore, ContentMark, FileEntry, Json, StoredState } from "./checkpoint-store.ts";
export { exportRows, importRows } from "./export-rows.ts";
export { type Contributor, GroupCommit, type GroupCommitOptions } from "./group-commit.ts";
export { isCommitComplaint, isStrayCommitRejection } from "./lmdb-environment.ts";
export {
  type CheckpointReader,
  type LmdbStoreOptions,
  openLmdbStore,
  openLmdbStoreForReading,
} from "./lmdb-store.ts";
export { MemoryCheckpointStore, type MemoryCheckpointStoreOptions } from "./memory-store.ts";
export { keepReserve, RESERVE_BYTES, releaseReserve } from "./reserve-file.ts";
export { intersectPositions, MAX_RANGES, SettledSet, unitePositions } from "./settled-set.ts";
export { prepareStateDirectory } from "./state-directory.ts";
