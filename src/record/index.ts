export { Batch, type Memory, plainMemory } from "./batch.ts";
export { DataRecord, type EventFields } from "./data-record.ts";
export { ENDINGS, type Ending } from "./ending.ts";
export { freshEvent, setField } from "./fresh-event.ts";
export { type LineKind, Lines } from "./lines.ts";
export { fileOrigin, type Origin, recordIdPrefix } from "./origin.ts";
export { type Position, type Range, START } from "./position.ts";
