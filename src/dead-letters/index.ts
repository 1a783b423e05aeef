export { firstLetters } from "./first-letters.ts";
export { batchOf, type DeadLetter, letterOf } from "./letter.ts";
export { openDeadLetters, openDeadLettersForReading } from "./lmdb-store.ts";
export { memoryDeadLetters } from "./memory-store.ts";
export type { DeadLetterReader, DeadLetterStore, ReplayOrder } from "./store.ts";
export { DeadLetterWriter } from "./writer.ts";
