export { batchOf, type DeadLetter, type LetterRecord, letterId, letterOf } from "./letter.ts";
export { openDeadLetters, openDeadLettersForReading } from "./lmdb-store.ts";
export { memoryDeadLetters } from "./memory-store.ts";
export type { DeadLetterReader, DeadLetterStore, LetterFilter, ReplayOrder } from "./store.ts";
export { DeadLetterWriter } from "./writer.ts";
