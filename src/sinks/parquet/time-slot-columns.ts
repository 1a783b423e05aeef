import type { JournalEvent } from "./journal.ts";
import type { ColumnType } from "./options.ts";

/**
 * The columns of time slots, in order. A machine without counters has null in `cycles`, `instructions` and
 * `cache_misses`, from which no type could be seen.
 */
export const TIME_SLOT_COLUMNS: readonly (readonly [name: string, type: ColumnType])[] = [
  ["slot_start", "timestamp"],
  ["slot_ns", "int64"],
  ["pid", "int64"],
  ["comm", "string"],
  ["cgroup", "string"],
  ["cpu_ns", "int64"],
  ["runqueue_wait_ns", "int64"],
  ["context_switches", "int64"],
  ["migrations", "int64"],
  ["page_faults", "int64"],
  ["syscalls", "int64"],
  ["block_bytes", "int64"],
  ["net_sent_bytes", "int64"],
  ["net_received_bytes", "int64"],
  ["cycles", "int64"],
  ["instructions", "int64"],
  ["cache_misses", "int64"],
  ["complete", "boolean"],
  ["lost_events", "int64"],
];

export const isTimeSlot = (event: JournalEvent): boolean =>
  typeof event["slot_start"] === "string" && "slot_ns" in event && "cpu_ns" in event && "lost_events" in event;
