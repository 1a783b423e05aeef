import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { errnoOf } from "../errors.ts";
import type { Ledger } from "./ledger.ts";
import type { LineNumber } from "./numbered-line.ts";

/** Comings that can be taken back: more than an agent writes between two commits. */
const REMEMBERED = 200_000;

/** One line of an output: what was delivered, and which file it is said to come from. */
export interface OutputLine {
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

/** Follows an output while it grows, and takes back what a crash cut off. */
export class OutputReader {
  readonly #path: string;
  readonly #sink: string;
  readonly #ledger: Ledger;
  #at = 0;
  #decoder = new StringDecoder();
  #rest = "";
  #ends: number[] = [];
  #lines: LineNumber[] = [];

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
      const { size } = fstatSync(descriptor);
      if (size < this.#at) this.#takeBack(size);
      const buffer = Buffer.allocUnsafe(1 << 20);
      for (;;) {
        const bytes = readSync(descriptor, buffer, 0, buffer.length, this.#at);
        if (bytes === 0) break;
        this.#take(buffer.subarray(0, bytes));
      }
    } finally {
      closeSync(descriptor);
    }
  }

  #take(bytes: Buffer): void {
    const text = this.#rest + this.#decoder.write(bytes);
    this.#at += bytes.length;
    const lines = text.split("\n");
    this.#rest = lines.pop()!;
    // Every line is ASCII but for what a fault makes of it, so characters count bytes well enough for taking back.
    let end = this.#at - text.length;
    for (const each of lines) {
      end += each.length + 1;
      const line = this.#ledger.recognise(outputLine(each).message);
      if (line === undefined) continue;
      this.#ledger.count(this.#sink, line);
      this.#ends.push(end);
      this.#lines.push(line);
    }
    if (this.#ends.length > 2 * REMEMBERED) {
      this.#ends = this.#ends.slice(-REMEMBERED);
      this.#lines = this.#lines.slice(-REMEMBERED);
    }
  }

  #takeBack(size: number): void {
    this.#rest = "";
    this.#decoder = new StringDecoder();
    if (this.#ends[0] === undefined || this.#ends[0] > size) {
      this.#ledger.forget(this.#sink);
      this.#ends = [];
      this.#lines = [];
      this.#at = 0;
      return;
    }
    while (this.#ends.length > 0 && this.#ends.at(-1)! > size) {
      this.#ends.pop();
      this.#ledger.uncount(this.#sink, this.#lines.pop()!);
    }
    // The cut is at a boundary of lines.
    this.#at = this.#ends.at(-1) ?? 0;
  }
}
