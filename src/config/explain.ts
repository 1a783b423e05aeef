import { ConfigError } from "../errors.ts";
import { MASK, maskUrls } from "../telemetry/redact.ts";
import { CHANNEL_SECTIONS, COMPONENT_INPUT, overflowOf } from "./channel-sections.ts";
import { nearest } from "./nearest.ts";
import { descriptionAt, isSecretAt, isTable, keysOf, type Shapes, shapesAt } from "./schema-walk.ts";
import { parseTomlKey } from "./toml.ts";
import { formatKey, formatPlace, isPlainObject, type KeyPath, nodeAt, type Place, type TableNode } from "./tree.ts";

/** The effective value of one key, and who set it. */
export interface Explained {
  readonly key: string;
  /** Secrets and the user info of URLs are `***`; undefined: the key is not set and has no default. */
  readonly value: unknown;
  /** Where it was set; undefined: it is a built-in default. */
  readonly place: Place | undefined;
  /** `file:line`, `--set`, `built-in default`, `the channel's design`, ... */
  readonly setBy: string;
  /** Environment variables that were substituted into it. */
  readonly variables: readonly string[];
  /** Lower layers that had set the key too, nearest first. */
  readonly overrides: readonly Place[];
  readonly description: string | undefined;
}

export interface Explanation {
  /** True where the asked key is a table, of which `keys` are all below it. */
  readonly isTable: boolean;
  readonly keys: readonly Explained[];
}

export type Effective = { readonly [key: string]: unknown };

/** Answers `explain KEY` for one loaded configuration. */
export class Explainer {
  readonly #tree: TableNode;
  readonly #shapes: Shapes;
  readonly #effective: Effective;

  constructor(tree: TableNode, shapes: Shapes, effective: Effective) {
    this.#tree = tree;
    this.#shapes = shapes;
    this.#effective = effective;
  }

  /** @throws ConfigError for a key that cannot exist, naming its nearest neighbour */
  explain(key: string): Explanation {
    const path = parseTomlKey(key.trim());
    if (path === undefined) throw unknown(key, "write a dotted key, such as api.address");
    const shapes = shapesAt(this.#shapes, path);
    if (shapes.length === 0) throw unknown(key, this.#nearestKey(path));
    const value = this.#valueAt(path);
    if (!isTable(shapes) || (value !== undefined && !isPlainObject(value)))
      return { isTable: false, keys: [this.#leaf(path, value)] };
    return { isTable: true, keys: isPlainObject(value) ? [...this.#leaves(path, value)] : [] };
  }

  #valueAt(path: KeyPath): unknown {
    let value: unknown = this.#effective;
    for (const part of path) {
      if (!isPlainObject(value) || !Object.hasOwn(value, part)) return undefined;
      value = value[part];
    }
    return value;
  }

  *#leaves(path: KeyPath, table: Effective): Generator<Explained> {
    for (const [key, value] of Object.entries(table)) {
      const here = [...path, key];
      if (isPlainObject(value)) yield* this.#leaves(here, value);
      else if (value !== undefined) yield this.#leaf(here, value);
    }
    // A policy that follows from elsewhere is worth showing; any other unset key is not.
    if (table["overflow"] === undefined && isChannel(path)) yield this.#leaf([...path, "overflow"], undefined);
  }

  #leaf(path: KeyPath, value: unknown): Explained {
    const key = formatKey(path);
    const description = descriptionAt(this.#shapes, path);
    const derived = value === undefined && path.at(-1) === "overflow" ? this.#overflow(path.slice(0, -1)) : undefined;
    if (derived !== undefined) return { key, description, variables: [], overrides: [], ...derived };
    const node = nodeAt(this.#tree, path);
    const variables = node?.kind === "value" ? (node.variables ?? []) : [];
    const overrides = node === undefined || node.kind === "table" ? [] : (node.overrides ?? []);
    const setBy = node === undefined ? (value === undefined ? "not set" : "built-in default") : formatPlace(node.place);
    const isHidden = isSecretAt(this.#shapes, path) && value !== undefined;
    const shown = isHidden ? MASK : masked(value, this.#shapes, path);
    return { key, value: shown, place: node?.place, setBy, variables, overrides, description };
  }

  /** The overflow of a channel that names none itself. */
  #overflow(section: KeyPath): Pick<Explained, "value" | "place" | "setBy"> | undefined {
    if (!isChannel(section)) return undefined;
    const path = section.slice(1).join(".");
    const row = CHANNEL_SECTIONS.find((candidate) => candidate.path.join(".") === path) ?? COMPONENT_INPUT;
    const general = this.#leaf(DROP_POLICY, this.#valueAt(DROP_POLICY));
    const { overflow, from } = overflowOf(row, undefined, general.value as "block");
    if (from === "designed") return { value: overflow, place: undefined, setBy: "the channel's design" };
    return { value: overflow, place: general.place, setBy: `${formatKey(DROP_POLICY)}, ${general.setBy}` };
  }

  #nearestKey(path: readonly string[]): string {
    // As far as the path leads somewhere; then the neighbour of the first part that does not.
    let at = 0;
    while (at < path.length && shapesAt(this.#shapes, path.slice(0, at + 1)).length > 0) at += 1;
    const above = path.slice(0, at);
    const candidates = keysOf(shapesAt(this.#shapes, above));
    const neighbour = nearest(path[at]!, candidates);
    if (neighbour === undefined)
      return above.length === 0
        ? ""
        : `${formatKey(above)} ${isTable(shapesAt(this.#shapes, above)) ? "is empty" : "has no keys below it"}`;
    const rest = path.slice(at + 1);
    const whole = [...above, neighbour.word, ...rest];
    const meant = shapesAt(this.#shapes, whole).length > 0 ? whole : [...above, neighbour.word];
    const prefixed = ["mpsc_channels", ...path];
    if (shapesAt(this.#shapes, prefixed).length > 0) return `did you mean \`${formatKey(prefixed)}\`?`;
    return neighbour.isLikely ? `did you mean \`${formatKey(meant)}\`?` : `the nearest is \`${formatKey(meant)}\``;
  }
}

const DROP_POLICY = ["mpsc_channels", "overflow_policy", "drop_policy"];

function isChannel(path: KeyPath): boolean {
  if (path[0] !== "mpsc_channels") return false;
  if (path[1] === "components") return path.length === 3;
  const name = path.slice(1).join(".");
  return CHANNEL_SECTIONS.some((section) => section.path.join(".") === name);
}

const unknown = (key: string, meant: string): ConfigError =>
  new ConfigError([{ message: `unknown key "${maskUrls(key)}"${meant === "" ? "" : `; ${meant}`}` }], "TR_USAGE");

/** What a library user handed in as a function or an instance cannot be printed. */
function opaque(value: object | null): string | null {
  if (value === null) return null;
  return typeof value === "function" ? "[function]" : `[${value.constructor?.name ?? "object"}]`;
}

/** Lists may hold URLs, and tables with secret fields. */
function masked(value: unknown, shapes: Shapes, path: KeyPath): unknown {
  if (typeof value === "string") return maskUrls(value);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof RegExp || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map((item, at) => masked(item, shapes, [...path, at]));
  if (!isPlainObject(value)) return typeof value === "function" || typeof value === "object" ? opaque(value) : value;
  const entries = Object.entries(value).map(([key, child]) => {
    const here = [...path, key];
    return [key, isSecretAt(shapes, here) ? MASK : masked(child, shapes, here)];
  });
  return Object.fromEntries(entries);
}
