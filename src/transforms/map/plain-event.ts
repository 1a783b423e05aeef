import { type EventFields, setField } from "../../record/index.ts";

/** Deeper structures are a mistake, most often one that contains itself; JSON.stringify would exhaust the stack. */
const MAX_DEPTH = 1000;

/**
 * A copy of what user code returned, made of plain data only: whatever comes out survives JSON, and nobody else holds a
 * reference into it. A `Date` becomes its RFC 3339 text, a field that is undefined is left out (as JSON does).
 *
 * @returns the event, or in plain words why it is none, with the path of the offending field.
 */
export function plainEvent(
  value: unknown,
): { readonly event: EventFields; readonly mistake?: undefined } | { readonly mistake: string } {
  if (!isPlainObject(value)) return { mistake: `it is ${kindOf(value)}, not an event (a plain object)` };
  try {
    return { event: copyObject(value, "", 1) };
  } catch (thrown) {
    if (thrown instanceof NotPlain) return { mistake: thrown.message };
    // A getter of the user's object threw.
    return { mistake: `reading it failed: ${thrown instanceof Error ? thrown.message : String(thrown)}` };
  }
}

/** A deep copy of plain data, for code that may change what it is handed. */
export function copyOfPlain(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(copyOfPlain);
  const copy: EventFields = { ...value };
  for (const name in copy) {
    const field = copy[name];
    if (typeof field === "object" && field !== null) setField(copy, name, copyOfPlain(field));
  }
  return copy;
}

class NotPlain extends Error {}

/** Spreading one object takes a sixth of the time of going key by key, so only what must be otherwise is set again. */
function copyObject(object: EventFields, path: string, depth: number): EventFields {
  if (depth > MAX_DEPTH) throw new NotPlain("it is nested too deeply, or contains itself");
  const copy: EventFields = { ...object };
  let isWhole = Object.getOwnPropertySymbols(copy).length === 0;
  for (const name in copy) {
    const field = copy[name];
    const value = copyValue(field, path, name, depth);
    if (value !== field) setField(copy, name, value);
    if (value === undefined) isWhole = false;
  }
  return isWhole ? copy : definedFields(copy);
}

function definedFields(object: EventFields): EventFields {
  const copy: EventFields = {};
  for (const name of Object.keys(object)) if (object[name] !== undefined) setField(copy, name, object[name]);
  return copy;
}

function pathOf(outer: string, name: string): string {
  return outer === "" ? name : `${outer}.${name}`;
}

/** `outer`: path of the object that holds the value as `name`. */
function copyValue(value: unknown, outer: string, name: string, depth: number): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
    case "undefined":
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      throw new NotPlain(`its field "${pathOf(outer, name)}" is ${value}, which JSON has no way to write`);
    case "bigint":
      throw new NotPlain(`its field "${pathOf(outer, name)}" is a bigint; make it a string or a number`);
    case "object":
      break;
    default:
      throw new NotPlain(`its field "${pathOf(outer, name)}" is ${kindOf(value)}`);
  }
  if (value === null) return null;
  const path = pathOf(outer, name);
  if (Array.isArray(value)) {
    if (depth >= MAX_DEPTH) throw new NotPlain("it is nested too deeply, or contains itself");
    // A hole, or undefined in a list, is null in JSON.
    return Array.from(value, (item, index) => copyValue(item, "", `${path}[${index}]`, depth + 1) ?? null);
  }
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw new NotPlain(`its field "${path}" is an invalid Date`);
    return value.toISOString();
  }
  if (!isPlainObject(value)) throw new NotPlain(`its field "${path}" is ${kindOf(value)}, not plain data`);
  return copyObject(value, path, depth + 1);
}

function isPlainObject(value: unknown): value is EventFields {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}

/** What a value is, with an article. */
export function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "undefined";
  if (Array.isArray(value)) return "a list";
  if (typeof value !== "object") return `a ${typeof value}`;
  const { name } = value.constructor ?? {};
  return typeof name === "string" && name !== "" ? `a ${name}` : "an object of a class";
}
