/**
 * What the programs in the kernel and the code here have agreed on: where things lie in the memory that both see, and in
 * the records of the ring. All numbers are little-endian; offsets are bytes.
 *
 * The shared value: header | state of processor 0 | state of processor 1 | ... | losses by slot
 */

export const HEADER_BYTES = 128;
/** Whole cache lines, so that processors do not write to each other's. A power of two. */
export const STATE_SHIFT = 7;
export const STATE_BYTES = 1 << STATE_SHIFT;

/** In the header: what to add to CLOCK_MONOTONIC so that slot edges are multiples of the slot. */
export const HEADER = { edgeOffsetNs: 0 } as const;

/** In the state of a processor. 64 bits each. */
export const STATE = {
  /** Where the slot ends that the sums below belong to, CLOCK_MONOTONIC. */
  slotEndNs: 0,
  // Sums since the last run record: of the process that runs now.
  syscalls: 8,
  blockBytes: 16,
  sentBytes: 24,
  receivedBytes: 32,
  /** Not 0: there were page faults since; how many, the task itself knows. */
  hasFaults: 40,
  /** The task that the last switch put on the processor, and when; 0: no switch was seen yet. */
  task: 48,
  sinceNs: 56,
  /** Records begun, and records through (in the ring or lost). Equal: nothing is under way on this processor. */
  begun: 64,
  through: 72,
  /** Records that found the ring full. */
  lost: 80,
  /** Hardware counters when they were last claimed. */
  claimedCycles: 88,
  claimedInstructions: 96,
  claimedCacheMisses: 104,
  /** Hardware counters that could not be read, times. */
  counterErrors: 112,
} as const;

/** Losses are counted by slot, modulo this. A power of two; 32 bits each. */
export const LOSS_SLOTS = 4096;

export const lossesAt = (processors: number): number => HEADER_BYTES + processors * STATE_BYTES;
export const sharedBytes = (processors: number): number => lossesAt(processors) + LOSS_SLOTS * 4;

/** Kinds of record. */
export const RECORD = {
  /** A task left a processor, another came: with the sums of the one that left. */
  SWITCH: 1,
  /** The sums of the running task, since a slot is over. */
  SUMS: 2,
  /** A task waits for a processor. */
  WAKE: 3,
  /** The same, for the first time in its life. */
  NEW: 4,
  /** Name and cgroup of a process. */
  PROCESS: 5,
  /** Path of a cgroup. */
  CGROUP: 6,
  /** A process is gone. */
  GONE: 7,
} as const;

/** All records: time (64), then kind in bits 0-7 and processor above (32). */
export const COMMON = { timeNs: 0, kind: 8 } as const;

/**
 * SWITCH and SUMS. What a task has used up in its life (runtime, faults, switches, migrations; 32 bits modulo 2^32) is told
 * as such, and not what is new of it: so nothing of it is lost with a record, or with a switch that the kernel hid from
 * us (some do), but comes with the next one.
 */
export const RUN = {
  flags: 12,
  /** Since when the task has been on the processor; 0: not known. */
  sinceNs: 16,
  /** End of the slot that the sums belong to. */
  slotEndNs: 24,
  task: 32,
  process: 36,
  nextTask: 40,
  nextProcess: 44,
  faults: 48,
  switches: 52,
  migrations: 56,
  syscalls: 60,
  /** 64 bits, as are all below but for the 32 of faults, switches and migrations. In SUMS of up to a tick ago. */
  runtimeNs: 64,
  nextFaults: 72,
  nextSwitches: 76,
  nextMigrations: 80,
  nextRuntimeNs: 88,
  blockBytes: 96,
  sentBytes: 104,
  receivedBytes: 112,
  byteLength: 120,
  // Only where the machine has counters.
  cycles: 120,
  instructions: 128,
  cacheMisses: 136,
  byteLengthWithCounters: 144,
} as const;

export const RUN_FLAGS = { isRunnable: 1, isDead: 2 } as const;

/** WAKE and NEW. */
export const WAKE = { task: 12, process: 16, byteLength: 24 } as const;

export const COMM_BYTES = 16;
export const PROCESS = { process: 12, cgroupId: 16, comm: 24, byteLength: 40 } as const;

/** Names from the leaf up, each ended by a zero byte; the root has none. */
export const CGROUP = { cgroupId: 16, names: 24, levels: 10, nameBytes: 256, byteLength: 24 + 10 * 256 } as const;

export const GONE = { process: 12, byteLength: 16 } as const;
