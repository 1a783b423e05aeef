import { ConfigError, type Mistake } from "../errors.ts";
import type { ChannelClock } from "./clock.ts";
import type { Coalescing } from "./coalescing.ts";
import type { PriorityLanes } from "./lanes.ts";

/**
 * What happens to a message that finds no room.
 *
 * - `block`: its sender waits; nothing is ever lost.
 * - `drop_newest`: the message itself is dropped.
 * - `drop_oldest`: the oldest messages in the queue are dropped, until it fits.
 * - `error`: its sender gets it back, after waiting `sendTimeoutMs` at most.
 */
export type OverflowPolicy = "block" | "drop_newest" | "drop_oldest" | "error";

export const OVERFLOW_POLICIES = ["block", "drop_newest", "drop_oldest", "error"] as const satisfies OverflowPolicy[];

export interface ChannelOptions<T> {
  /** Messages, a positive integer. */
  readonly capacity: number;
  /** Bytes; a larger message enters alone, when the channel is empty. Default: no bound by bytes. */
  readonly capacityBytes?: number;
  /** Bytes of one message, a whole number; default 0. Asked once, as the message enters. */
  readonly sizeOf?: (value: T) => number;
  /** Records in one message, a whole number; default 1. Asked once, as the message enters. */
  readonly recordsOf?: (value: T) => number;
  /** Default `block`. */
  readonly overflow?: OverflowPolicy;
  /**
   * Longest wait of a plain `send` in milliseconds, under `block` and `error`; then it rejects with ChannelFullError.
   * Default 0: under `block` no limit, under `error` refused at once.
   */
  readonly sendTimeoutMs?: number;
  /**
   * Under `block`: with this, a send that has waited `sendTimeoutMs` is not rejected but told of, and again each time as
   * much has passed, and waits on. Gets the milliseconds waited so far.
   */
  readonly onSlowSend?: (waitedMs: number) => void;
  /** Two lanes, critical before normal. Not for messages with bytes or records: those keep their order. */
  readonly priorityLanes?: PriorityLanes<T>;
  /** Merges messages that are alike. Not for messages with bytes or records: no record may vanish in another. */
  readonly coalesce?: Coalescing<T>;
  /**
   * Gets each value that a policy drops, and (reason "closed") each that a closing receiver leaves behind. It may use
   * the channel. What it throws is thrown on, outside of the channel, as an uncaught exception.
   */
  readonly onDrop?: (value: T, reason: "policy" | "closed") => void;
  /** For time-outs and send durations; default: the machine's. */
  readonly clock?: ChannelClock;
}

/** Throws a ConfigError that names every option that is wrong. */
export function checkChannelOptions<T>(options: ChannelOptions<T>): void {
  const mistakes: Mistake[] = [];
  const { capacity, capacityBytes, overflow, sendTimeoutMs } = options;
  if (!isPositiveInteger(capacity)) {
    mistakes.push({
      key: "capacity",
      message: `${shown(capacity)} is no capacity; give a whole number of messages, at least 1, such as 1000`,
    });
  }
  if (capacityBytes !== undefined && capacityBytes !== Number.POSITIVE_INFINITY && !isPositiveInteger(capacityBytes)) {
    mistakes.push({
      key: "capacityBytes",
      message: `${shown(capacityBytes)} is no capacity; give a whole number of bytes, at least 1, such as 67108864`,
    });
  }
  if (overflow !== undefined && !OVERFLOW_POLICIES.includes(overflow)) {
    mistakes.push({
      key: "overflow",
      message: `${shown(overflow)} is no policy; give one of ${OVERFLOW_POLICIES.join(", ")}`,
    });
  }
  if (sendTimeoutMs !== undefined && !(sendTimeoutMs >= 0)) {
    mistakes.push({
      key: "sendTimeoutMs",
      message: `${shown(sendTimeoutMs)} is no time to wait; give milliseconds, 0 or more`,
    });
  }
  const isWeighed = options.sizeOf !== undefined || options.recordsOf !== undefined || capacityBytes !== undefined;
  for (const key of ["priorityLanes", "coalesce"] as const) {
    if (!isWeighed || options[key] === undefined) continue;
    mistakes.push({
      key,
      message: `is not for a channel with sizeOf, recordsOf or capacityBytes: ${
        key === "coalesce" ? "a record may not vanish in another one" : "records keep their order"
      }; leave one of the two out`,
    });
  }
  const burst = options.priorityLanes?.burst;
  if (burst !== undefined && !isPositiveInteger(burst)) {
    mistakes.push({
      key: "priorityLanes.burst",
      message: `${shown(burst)} is no number of messages in a row; give a whole number, at least 1, such as 8`,
    });
  }
  if (options.onSlowSend !== undefined && overflow !== undefined && overflow !== "block") {
    mistakes.push({ key: "onSlowSend", message: `is for \`block\`; a send under \`${overflow}\` does not wait on` });
  }
  if (mistakes.length > 0) throw new ConfigError(mistakes);
}

function isPositiveInteger(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
