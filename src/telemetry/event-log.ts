import { EVENTS, type EventName } from "./events.ts";
import type { Logger } from "./log.ts";

/** One lifecycle event as a log line: the level is the event's, its name stands in the field `event`, facts beside it. */
export function logEvent(
  log: Logger,
  { component, event, message, facts }: { component: string; event: EventName; message: string; facts: object },
): void {
  log[EVENTS[event].level]({ component, event, ...facts }, message);
}
