import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { errnoOf } from "../errors.ts";
import type { Ledger } from "./ledger.ts";
import type { LineNumber } from "./numbered-line.ts";

/** Lines that can be taken back: more than an agent writes between two commits. */
const REMEMBERED = 200_000;

/** One line of an output: what was delivered, and which file it is said to come from. */
interface OutputLine {
  readonly message: string;
  readonly file?: string;
  readonly offset?: number;
}

/** Reads an event as JSON, or the bare line. */
export function outputLine(text: string): OutputLine {
  if (!text.startsWith("{")) return { message: text };
  try {
    const event = JSON.parse(text) as { readonly message?: unknown; readonly file?: string; readonly offset?: number };
    return typeof event.message === "string" ? { ...event, message: event.message } : { message: text };
  } catch {
    return { message: text };
  }
}

/** A line that was counted, and where it lies. */
interface Counted {
  readonly start: number;
  readonly end: number;
  readonly line: LineNumber;
}

/**
 * Follows an output while it grows. A crash cuts what was not committed, and the agent may have written on past the old
 * end before anybody looks: the last line that was counted tells whether it is still there.
 */
export class OutputReader {
  readonly #path: string;
  readonly #sink: string;
  readonly #ledger: Ledger;
  /** Grows with the longest line: a hole of NUL bytes that came as one is six times as long in JSON. */
  #buffer = Buffer.allocUnsafe(1 << 20);
  /** End of the last whole line. */
  #at = 0;
  #counted: Counted[] = [];

  constructor(path: string, sink: string, ledger: Ledger) {
    this.#path = path;
    this.#sink = sink;
    this.#ledger = ledger;
  }

  /** Counts what is there now. */
  read(): void {
    let descriptor: number;
    try {
      descriptor = openSync(this.#path, "r");
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      throw error;
    }
    try {
      this.#takeBack(descriptor);
      while (this.#take(descriptor)) {}
    } finally {
      closeSync(descriptor);
    }
  }

  /** False: nothing whole was left. */
  #take(descriptor: number): boolean {
    const bytes = readSync(descriptor, this.#buffer, 0, this.#buffer.length, this.#at);
    let start = 0;
    for (;;) {
      const end = this.#buffer.subarray(0, bytes).indexOf(10, start) + 1;
      if (end === 0) break;
      const line = this.#ledger.recognise(outputLine(this.#buffer.toString("utf8", start, end - 1)).message);
      if (line !== undefined) {
        this.#ledger.count(this.#sink, line);
        this.#counted.push({ start: this.#at + start, end: this.#at + end, line });
      }
      start = end;
    }
    this.#at += start;
    if (start === 0 && bytes === this.#buffer.length) {
      this.#buffer = Buffer.allocUnsafe(bytes * 2);
      return true;
    }
    if (this.#counted.length > 2 * REMEMBERED) this.#counted = this.#counted.slice(-REMEMBERED);
    return start > 0;
  }

  #takeBack(descriptor: number): void {
    const { size } = fstatSync(descriptor);
    if (this.#counted.length === 0 ? size >= this.#at : this.#isThere(descriptor, this.#counted.at(-1)!)) return;
    let low = 0;
    let high = this.#counted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#isThere(descriptor, this.#counted[middle]!)) low = middle + 1;
      else high = middle;
    }
    if (low === 0) {
      this.#ledger.forget(this.#sink);
      this.#counted = [];
      this.#at = 0;
      return;
    }
    for (const { line } of this.#counted.splice(low)) this.#ledger.uncount(this.#sink, line);
    this.#at = this.#counted.at(-1)!.end;
  }

  #isThere(descriptor: number, { start, end, line }: Counted): boolean {
    const bytes = Buffer.allocUnsafe(end - start);
    if (readSync(descriptor, bytes, 0, bytes.length, start) < bytes.length) return false;
    const found = this.#ledger.recognise(outputLine(bytes.toString("utf8", 0, bytes.length - 1)).message);
    return found?.family === line.family && found.number === line.number;
  }
}
