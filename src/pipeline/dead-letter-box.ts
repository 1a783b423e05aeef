import type { Rejection } from "../stage/contract.ts";

/** Where stages put what was refused for good. */
export interface DeadLetterBox {
  /**
   * Stores letters, trying until it is done: a full dead letter store means to wait, never to drop. False if `signal`
   * aborted before they were durable.
   */
  put(component: string, rejections: readonly Rejection[], attempts: number, signal: AbortSignal): Promise<boolean>;
}
