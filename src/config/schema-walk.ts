import { z } from "zod";

/*
 * Looking into a zod schema by key path, so that one schema answers all of: which keys exist here (nearest neighbour),
 * what a key wants (the message of a mistake), whether it is secret, and what it is for (`explain`).
 *
 * Several schemas may describe one place (a union, or a stage's own keys beside the common ones): a `Shapes` is that
 * list, without the wrappers (`optional`, `default`, ...) around them.
 */
export type Shapes = readonly z.core.$ZodType[];

type Def = {
  type: string;
  innerType?: z.core.$ZodType;
  in?: z.core.$ZodType;
  out?: z.core.$ZodType;
  left?: z.core.$ZodType;
  right?: z.core.$ZodType;
  options?: readonly z.core.$ZodType[];
  getter?: () => z.core.$ZodType;
  shape?: { readonly [key: string]: z.core.$ZodType };
  catchall?: z.core.$ZodType;
  valueType?: z.core.$ZodType;
  element?: z.core.$ZodType;
  items?: readonly z.core.$ZodType[];
  entries?: { readonly [key: string]: string | number };
  values?: readonly unknown[];
  format?: string;
  checks?: readonly z.core.$ZodCheck[];
};

const defOf = (schema: z.core.$ZodType): Def => schema._zod.def as unknown as Def;

/** The schema without its wrappers; a union or an intersection as its parts. */
export function shapesOf(schema: z.core.$ZodType): Shapes {
  const def = defOf(schema);
  if (def.innerType !== undefined && def.type !== "promise") return shapesOf(def.innerType);
  if (def.type === "pipe") {
    // A preprocessing step has no shape of its own; what it leads to has.
    const side = defOf(def.in!).type === "transform" ? def.out! : def.in!;
    return shapesOf(side);
  }
  if (def.type === "lazy" && def.getter !== undefined) return shapesOf(def.getter());
  if (def.type === "union") return (def.options ?? []).flatMap(shapesOf);
  if (def.type === "intersection") return [...shapesOf(def.left!), ...shapesOf(def.right!)];
  return [schema];
}

/** The keys that a table may have here. */
export function keysOf(shapes: Shapes): string[] {
  return [...new Set(shapes.flatMap((shape) => Object.keys(defOf(shape).shape ?? {})))];
}

/** Whether any key at all is welcome (a record, a loose object, or no opinion). */
export function takesAnyKey(shapes: Shapes): boolean {
  return shapes.some((shape) => {
    const def = defOf(shape);
    if (def.type === "object") return def.catchall !== undefined && defOf(def.catchall).type !== "never";
    return ["record", "map", "any", "unknown", "custom"].includes(def.type);
  });
}

export const isTable = (shapes: Shapes): boolean =>
  shapes.some((shape) => ["object", "record", "map"].includes(defOf(shape).type));

/** The schemas, wrappers and all, of one key or list item; empty if there is no such key. */
function childSchemas(shapes: Shapes, key: string | number): z.core.$ZodType[] {
  return shapes.flatMap((shape) => {
    const def = defOf(shape);
    if (typeof key === "number") {
      if (def.type === "tuple") return def.items?.[key] ?? [];
      return def.type === "array" ? def.element! : [];
    }
    if (def.shape !== undefined) {
      if (Object.hasOwn(def.shape, key)) return def.shape[key]!;
      return def.catchall !== undefined && defOf(def.catchall).type !== "never" ? def.catchall : [];
    }
    return def.type === "record" ? def.valueType! : [];
  });
}

export const childShapes = (shapes: Shapes, key: string | number): Shapes =>
  childSchemas(shapes, key).flatMap(shapesOf);

/** The shapes at a path; empty if the path leads nowhere. */
export function shapesAt(shapes: Shapes, path: readonly (string | number)[]): Shapes {
  return path.reduce<Shapes>((at, key) => childShapes(at, key), shapes);
}

/** Everything that `.meta()` and `.describe()` said about a key, on any of the wrappers around it. */
function metaAt(shapes: Shapes, path: readonly (string | number)[]): { [name: string]: unknown } {
  const last = path.at(-1);
  const above = shapesAt(shapes, path.slice(0, -1));
  const found = last === undefined ? [] : childSchemas(above, last);
  return Object.assign({}, ...found.flatMap(layersOf).map((layer) => z.globalRegistry.get(layer) ?? {}));
}

/** Innermost first, so that what stands outermost wins. */
function layersOf(schema: z.core.$ZodType): z.core.$ZodType[] {
  const def = defOf(schema);
  const inner = [def.innerType, def.type === "pipe" ? def.in : undefined, def.type === "pipe" ? def.out : undefined];
  const inside = [...inner, ...(def.type === "union" ? (def.options ?? []) : [])];
  return [...inside.flatMap((child) => (child === undefined ? [] : layersOf(child))), schema];
}

/** True for a field made with `secret()`, and for everything inside of one. */
export function isSecretAt(shapes: Shapes, path: readonly (string | number)[]): boolean {
  return path.some((_, at) => metaAt(shapes, path.slice(0, at + 1))["secret"] === true);
}

export function descriptionAt(shapes: Shapes, path: readonly (string | number)[]): string | undefined {
  const description = metaAt(shapes, path)["description"];
  return typeof description === "string" ? description : undefined;
}

/** What a key wants, in words: `a whole number from 1 to 65535`, `one of json, text, raw`. */
export function expectation(shapes: Shapes): string {
  const words = new Set(shapes.map(expectationOf));
  return [...words].join(", or ");
}

function expectationOf(schema: z.core.$ZodType): string {
  const def = defOf(schema);
  switch (def.type) {
    case "int":
    case "number":
      return numberWords(def);
    case "string":
      return checksOf(def).some((one) => one.check === "min_length") ? "a string that is not empty" : "a string";
    case "boolean":
      return "true or false";
    case "enum":
      return oneOf(Object.values(def.entries ?? {}));
    case "literal":
      return oneOf(def.values ?? []);
    case "array":
      return `a list, each item ${expectation(shapesOf(def.element!))}`;
    case "object":
    case "record":
      return "a table";
    case "date":
      return "a date";
    default:
      return "another value";
  }
}

type Check = { check: string; value?: number; inclusive?: boolean; format?: string };

const checksOf = (def: Def): Check[] => (def.checks ?? []).map((one) => one._zod.def as unknown as Check);

function numberWords(def: Def): string {
  const checks = checksOf(def);
  const isWhole = [def.format, ...checks.map((one) => one.format)].some((format) => format?.includes("int"));
  const bounds = checks.flatMap(({ check, value, inclusive }) => {
    if (value === undefined) return [];
    // Above 0, for a whole number, is from 1.
    if (check === "greater_than")
      return inclusive || isWhole ? `from ${inclusive ? value : value + 1}` : `above ${value}`;
    return check === "less_than" ? `${inclusive ? "up to" : "below"} ${value}` : [];
  });
  return [isWhole ? "a whole number" : "a number", ...bounds].join(" ");
}

function oneOf(values: readonly unknown[]): string {
  return values.length === 1 ? String(values[0]) : `one of ${values.join(", ")}`;
}
