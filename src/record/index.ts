export { Batch } from "./batch.ts";
export { DataRecord, type EventFields } from "./data-record.ts";
export type { Ending } from "./ending.ts";
export { freshEvent, setField } from "./fresh-event.ts";
export { type LineKind, Lines } from "./lines.ts";
export { type Message, Messages } from "./messages.ts";
export { fileOrigin, type Origin } from "./origin.ts";
export type { Position, Range } from "./position.ts";
