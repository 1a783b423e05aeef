import type { DeadLetter } from "./letter.ts";
import type { DeadLetterReader } from "./store.ts";

/** Of letters that are shown at once: an answer is a text in memory, and one letter may be some MiB. */
const MAX_SHOWN_CHARACTERS = 8 * 1024 * 1024;

/** The first `limit` letters, oldest first; fewer where these are large: none comes behind 8 MiB of text. */
export async function firstLetters(reader: Pick<DeadLetterReader, "list">, limit: number): Promise<DeadLetter[]> {
  const letters: DeadLetter[] = [];
  let characters = 0;
  for await (const letter of reader.list()) {
    letters.push(letter);
    // Its event and its bytes are the most of it; both grow with the record.
    characters += JSON.stringify(letter.event).length + letter.raw.length;
    if (letters.length >= limit || characters >= MAX_SHOWN_CHARACTERS) break;
  }
  return letters;
}
