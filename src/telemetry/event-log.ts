import { EVENT_LEVELS, type EventSink } from "./events.ts";
import type { Logger } from "./log.ts";

/** Lifecycle events of one component, readable in the log: the level is the event's, its name stands in the field `event`. */
export function eventsToLog(log: Logger): EventSink {
  return {
    emit(name, message, facts = {}) {
      log[EVENT_LEVELS[name]]({ event: name, ...facts }, message);
    },
  };
}
