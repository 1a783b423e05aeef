import type { Answer } from "./task.ts";

/** Longest line of an answer. */
export const MAX_ANSWER_BYTES = 1048576;

/** Of a line that is no answer, in a message. */
const SHOWN_CHARACTERS = 100;

/**
 * Cuts what a foreign worker writes into lines, keeping at most one line that is not complete. `onLine` gets each without
 * its newline, decoded; false from it ends the cutting. So does false from `onTooLong`, which is told of a line of more than
 * `maxBytes`; after true the rest of that line is left out.
 */
export class LineCutter {
  readonly #maxBytes: number;
  readonly #onLine: (line: string) => boolean;
  readonly #onTooLong: () => boolean;
  #rest: Buffer[] = [];
  #restBytes = 0;
  #isOver = false;
  #isLeavingOut = false;

  constructor(maxBytes: number, onLine: (line: string) => boolean, onTooLong: () => boolean) {
    this.#maxBytes = maxBytes;
    this.#onLine = onLine;
    this.#onTooLong = onTooLong;
  }

  push(chunk: Buffer): void {
    let from = 0;
    while (!this.#isOver) {
      const at = chunk.indexOf(10, from);
      if (!this.#isLeavingOut) this.#keep(chunk.subarray(from, at < 0 ? chunk.length : at));
      if (this.#restBytes > this.#maxBytes) {
        this.#take();
        this.#isLeavingOut = true;
        this.#isOver = !this.#onTooLong();
      }
      if (this.#isOver || at < 0) return;
      from = at + 1;
      if (this.#isLeavingOut) this.#isLeavingOut = false;
      else this.#isOver = !this.#onLine(this.#take().toString());
    }
  }

  #keep(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#rest.push(bytes);
    this.#restBytes += bytes.length;
  }

  #take(): Buffer {
    const line = this.#rest.length === 1 ? this.#rest[0]! : Buffer.concat(this.#rest);
    this.#rest = [];
    this.#restBytes = 0;
    return line;
  }
}

/**
 * `{"id", "ok": true, "events": [...]?}` or `{"id", "error": "...", "retry": true|false}`; `retry` is true where it is
 * missing. A text: why the line is no answer.
 */
export function answerOf(line: string): Answer | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return `it wrote a line that is no JSON: ${shown(line)}`;
  }
  const noAnswer = (why: string) => `it wrote a line that is no answer (${why}): ${shown(line)}`;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return noAnswer("it is no object");
  const { id, ok, error, retry, events } = value as { readonly [field: string]: unknown };
  if (typeof id !== "string") return noAnswer('"id" is not the text that it was given');
  if (ok === true) {
    if (error !== undefined && error !== null) return noAnswer('it has "ok" and "error"');
    if (events !== undefined && events !== null && !Array.isArray(events)) return noAnswer('"events" is no list');
    return { id, ok: true, events: Array.isArray(events) ? events.length : 0 };
  }
  if (typeof error !== "string") return noAnswer('it has neither "ok": true nor a text as "error"');
  if (retry !== undefined && retry !== null && typeof retry !== "boolean")
    return noAnswer('"retry" is neither true nor false');
  return { id, ok: false, error, retry: retry !== false };
}

function shown(line: string): string {
  return JSON.stringify(line.length > SHOWN_CHARACTERS ? `${line.slice(0, SHOWN_CHARACTERS)}...` : line);
}
