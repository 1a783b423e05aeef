import type { DataRecord, EventFields } from "./data-record.ts";

/**
 * An event that the caller may change: branches share `record.event`. Only the outer object is new; what it holds is
 * still shared (in an untouched record that is text and numbers only, so there it is all new, and made without a copy).
 */
export function freshEvent(record: DataRecord): EventFields {
  return record.isUntouched ? record.pieces.eventOf(record.index, record.origin) : { ...record.event };
}

/** Sets an own field whatever its name: assigning `__proto__` would change the prototype instead. */
export function setField(event: EventFields, name: string, value: unknown): void {
  if (name === "__proto__") {
    Object.defineProperty(event, name, { value, enumerable: true, configurable: true, writable: true });
  } else event[name] = value;
}
