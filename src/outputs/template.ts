import { resolve } from "node:path";
import type { DataRecord, EventFields } from "../record/index.ts";
import { type BytePath, pathFromText, pathToText } from "../runtime/byte-path.ts";
import { isStrftime, strftime } from "./strftime.ts";

/**
 * The `path` of a file sink: text with `{field}` (dotted for a field within a field) and `{time:%Y-%m-%d}`.
 *
 *     /data/logs/{host}/{time:%Y-%m-%d}.ndjson
 *     `- root -´ `- outputs are made here, and nowhere else
 *
 * A value never adds a folder: what is not A-Z a-z 0-9 . _ - becomes "_", and so do "." and ".." and a missing field.
 */
export class PathTemplate {
  /** The literal folder in front of the first placeholder; absolute. */
  readonly root: BytePath;
  /** Without placeholders there is this one output. */
  readonly fixed: BytePath | undefined;
  /** True if all records of untouched lines go to the same output. */
  readonly isSameForLines: boolean;
  readonly #rest: readonly Part[];
  /** What each time of the path was last, down to the hour. */
  readonly #hours = new Map<Part, { readonly hour: number; readonly text: string }>();

  /** @throws Error saying what is wrong with the text; relative paths start at the working directory. */
  constructor(text: string) {
    const parts = parse(text);
    const first = parts[0];
    const literal = first?.kind === "literal" ? first.text : "";
    if (parts.length <= 1) {
      if (literal === "" || literal.endsWith("/")) throw new Error("give the path of a file");
      this.fixed = pathFromText(resolve(literal));
    }
    const slash = literal.lastIndexOf("/");
    this.root = pathFromText(resolve(slash < 0 ? "." : literal.slice(0, slash + 1)));
    const rest: Part[] = [{ kind: "literal", text: literal.slice(slash + 1) }, ...parts.slice(literal === "" ? 0 : 1)];
    checkRest(rest);
    this.#rest = rest;
    this.isSameForLines = rest.every((part) => part.kind !== "field" || CONSTANT_FIELDS.has(part.text));
  }

  /** Where a record goes, as names below `root`: folders, then the file. */
  namesFor(record: DataRecord): readonly BytePath[] {
    return this.#names((part) => (part.kind === "time" ? strftime(part.text, timeOf(record)) : fieldIn(record, part)));
  }

  /** The same, but down to the hour only: of minutes and below the letters of the conversion are left. */
  namesByHourFor(record: DataRecord): readonly BytePath[] {
    return this.#names((part) => (part.kind === "time" ? this.#hourText(part, timeOf(record)) : fieldIn(record, part)));
  }

  /** Neighbours are nearly always of the same hour. */
  #hourText(part: Part, ms: number): string {
    const hour = Math.floor(ms / HOUR_MS);
    const known = this.#hours.get(part);
    if (known?.hour === hour) return known.text;
    const text = strftime(byHour(part.text), ms);
    this.#hours.set(part, { hour, text });
    return text;
  }

  /** The names for an event that is no record any more; `ms`: its time, where it does not say it itself. */
  namesForEvent(event: EventFields, ms: number): readonly BytePath[] {
    return this.#names((part) =>
      part.kind === "time" ? strftime(part.text, timeIn(event) ?? ms) : fieldOf(event, part.text),
    );
  }

  #names(textFor: (part: Part) => string | undefined): readonly BytePath[] {
    let path = "";
    for (const part of this.#rest) path += part.kind === "literal" ? part.text : nameOf(textFor(part));
    return path.split("/").map((name) => pathFromText(name));
  }
}

/** The one file, absolute, that a `path` without placeholders names. */
export function fixedOutput(path: string): string | undefined {
  const { fixed } = new PathTemplate(path);
  return fixed === undefined ? undefined : pathToText(fixed);
}

const HOUR_MS = 3_600_000;

const fieldIn = (record: DataRecord, part: Part): string | undefined => fieldOf(record.event, part.text);

/** `%M` becomes `%%M`, which is written as `%M`: the same for all records of an hour. */
const byHour = (format: string): string =>
  format.replace(/%(.)/gsu, (whole, letter: string) => ("MSLsT".includes(letter) ? `%${whole}` : whole));

interface Part {
  readonly kind: "literal" | "field" | "time";
  /** The literal, the field's name, or the strftime format. */
  readonly text: string;
}

/** Fields that are the same for all lines read together. */
const CONSTANT_FIELDS = new Set(["source", "file", "host"]);

function parse(text: string): Part[] {
  const parts: Part[] = [];
  let at = 0;
  while (at < text.length) {
    const open = text.indexOf("{", at);
    const literal = text.slice(at, open < 0 ? text.length : open);
    if (literal.includes("}")) throw new Error(`"}" without "{" in ${JSON.stringify(text)}`);
    if (literal !== "") parts.push({ kind: "literal", text: literal });
    if (open < 0) break;
    const close = text.indexOf("}", open);
    if (close < 0) throw new Error(`"{" without "}" in ${JSON.stringify(text)}`);
    parts.push(placeholder(text.slice(open + 1, close)));
    at = close + 1;
  }
  return parts;
}

function placeholder(inside: string): Part {
  if (inside.startsWith("time:")) {
    const format = inside.slice("time:".length);
    if (!isStrftime(format)) throw new Error(`{${inside}}: use %Y %m %d %H %M %S %j %L %s %F %T %y %b %a %u %%`);
    return { kind: "time", text: format };
  }
  if (inside === "" || inside.includes("{")) throw new Error(`{${inside}}: write the name of a field, such as {host}`);
  return { kind: "field", text: inside };
}

/** Behind the root no literal may climb, and the last name must not be empty. */
function checkRest(rest: readonly Part[]): void {
  const shape = rest.map((part) => (part.kind === "literal" ? part.text : "x")).join("");
  const names = shape.split("/");
  if (names.at(-1) === "") throw new Error("give the path of a file");
  if (names.some((name) => name === "" || name === "." || name === "..")) {
    throw new Error('behind the first placeholder no folder may be empty, "." or ".."');
  }
}

/** Longest value in a name: a name has room for 255 bytes. */
const MAX_VALUE_LENGTH = 200;

function nameOf(value: string | undefined): string {
  if (value === undefined || value === "") return "_";
  const name = value.replace(/[^A-Za-z0-9._-]/gu, "_").slice(0, MAX_VALUE_LENGTH);
  return name === "." || name === ".." ? name.replaceAll(".", "_") : name;
}

/** A field as text: by its whole name, else along its dots; undefined where there is no plain value. */
function fieldOf(event: EventFields, name: string): string | undefined {
  let value: unknown = event[name];
  if (!Object.hasOwn(event, name)) {
    value = event;
    for (const key of name.split(".")) {
      value = isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
    }
  }
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "boolean" || typeof value === "bigint"
    ? String(value)
    : undefined;
}

function isObject(value: unknown): value is { [key: string]: unknown } {
  return typeof value === "object" && value !== null;
}

/** The event's time, milliseconds; the time of reading where a transform left none that can be read. */
function timeOf(record: DataRecord): number {
  if (record.isUntouched) return record.pieces.readAtMs;
  return timeIn(record.event) ?? record.pieces.readAtMs;
}

function timeIn({ timestamp }: EventFields): number | undefined {
  const ms =
    typeof timestamp === "number" ? timestamp : typeof timestamp === "string" ? Date.parse(timestamp) : Number.NaN;
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? ms : undefined;
}
