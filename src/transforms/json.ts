import { z } from "zod";
import { type DataRecord, type EventFields, freshEvent, setField } from "../record/index.ts";
import { defineTransform, type Rejection } from "../stage/index.ts";

/**
 * Parses a field of text as a JSON object and puts its keys into the event; on a clash the parsed key wins, so a
 * `timestamp` or `message` of the line replaces ours. Record id and position never change. The same bytes always give
 * the same event, so a replay parses as the first run did.
 *
 * What is no JSON object (also an empty line, a list, a lone value, a piece of a line that was cut) is rejected: it goes
 * to the dead letters with the reason, and never stalls the file.
 *
 * What JavaScript's numbers and RFC 8259 leave open: integers beyond 2^53 lose their last digits (send such ids as
 * strings), a number beyond 1.8e308 is rejected since it could not be written again, of a duplicate key the last one
 * counts, a byte-order mark in front is ignored, and an object nested deeper than 1000 is rejected.
 */
export const json = defineTransform({
  type: "json",
  summary: "Parses a field as a JSON object and merges its keys into the event.",
  options: z.strictObject({
    field: z.string().min(1).default("message").describe("The field that holds the text."),
  }),
  async open({ field }) {
    return {
      apply(records) {
        const kept: DataRecord[] = [];
        const rejected: Rejection[] = [];
        for (const record of records) {
          const text = textOf(record, field);
          const parsed = typeof text === "string" ? parseObject(text) : undefined;
          if (parsed?.object !== undefined) kept.push(record.with(merged(record, parsed.object)));
          else rejected.push({ record, reason: `the field "${field}" ${parsed?.reason ?? whyNoText(text)}` });
        }
        return { kept, rejected };
      },
    };
  },
});

/** The text to parse, without making an event where the line itself is the text. */
function textOf(record: DataRecord, field: string): unknown {
  const { pieces } = record;
  if (record.isUntouched && field === "message" && pieces.form === "lines") return pieces.textOf(record.index);
  return Object.hasOwn(record.event, field) ? record.event[field] : undefined;
}

function whyNoText(value: unknown): string {
  return value === undefined ? "is missing" : `is no text but ${kindOf(value)}`;
}

/** Key by key: spreading two objects into a third takes five times as long in V8. */
function merged(record: DataRecord, object: EventFields): EventFields {
  const event = freshEvent(record);
  for (const name in object) setField(event, name, object[name]);
  return event;
}

type Parsed = { readonly object: EventFields } | { readonly object?: undefined; readonly reason: string };

function parseObject(text: string): Parsed {
  const content = text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (thrown) {
    return { reason: `is no JSON object: ${parseErrorOf(content, thrown)}; it starts with ${startOf(content)}` };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { reason: `is no JSON object but ${kindOf(value)}: ${startOf(content)}` };
  }
  if (isTooDeep(content)) {
    return { reason: `is nested deeper than ${MAX_DEPTH}; it starts with ${startOf(content)}` };
  }
  if (holdsInfinity(value)) {
    return { reason: `holds a number that is too large; it starts with ${startOf(content)}` };
  }
  return { object: value as EventFields };
}

/** V8 appends a piece of the text ("... is not valid JSON") and newer ones a position: only the first half is a reason. */
function parseErrorOf(text: string, thrown: unknown): string {
  if (text.trim() === "") return "it is empty";
  const { message } = thrown as Error;
  return message.replace(/, (?:\.\.\.)?".*is not valid JSON$/s, "").replace(/ in JSON at position /, " at position ");
}

/** Enough to recognize a line by. */
const SHOWN_CHARACTERS = 60;

function startOf(text: string): string {
  if (text.length <= SHOWN_CHARACTERS) return JSON.stringify(text);
  return `${JSON.stringify(text.slice(0, SHOWN_CHARACTERS))}...`;
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  return { string: "a string", number: "a number", boolean: "a boolean" }[typeof value as string] ?? "an object";
}

// JSON.parse takes any depth, JSON.stringify recurses and would throw at the sink, thousands of levels down.
const MAX_DEPTH = 1000;

function isTooDeep(text: string): boolean {
  // Each level needs two characters, so that the usual line is never scanned.
  if (text.length <= MAX_DEPTH * 2) return false;
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const character = text.charCodeAt(at);
    if (character === 0x22) at = endOfString(text, at);
    else if (character === 0x5b || character === 0x7b) {
      depth += 1;
      if (depth > MAX_DEPTH) return true;
    } else if (character === 0x5d || character === 0x7d) depth -= 1;
  }
  return false;
}

/** Index of the quote that closes the string opened at `at`; the text is known to be valid JSON. */
function endOfString(text: string, at: number): number {
  for (let end = text.indexOf('"', at + 1); ; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === 0x5c) backslashes += 1;
    if (backslashes % 2 === 0) return end;
  }
}

/** Walks the parsed value: a look at the text for what may overflow, by a regular expression, took five times as long. */
function holdsInfinity(value: unknown): boolean {
  if (typeof value === "number") return !Number.isFinite(value);
  if (typeof value !== "object" || value === null) return false;
  for (const name in value) if (holdsInfinity((value as EventFields)[name])) return true;
  return false;
}
