import { resolve } from "node:path";
import picomatch from "picomatch";
import { type BytePath, baseName, pathFromText, pathToBytes } from "../runtime/byte-path.ts";

/** A place in a pattern while walking down: which include pattern, and which of its segments comes next. */
export interface Place {
  readonly pattern: number;
  readonly segment: number;
}

type Segment =
  | { readonly kind: "name"; readonly name: BytePath }
  | { readonly kind: "magic"; readonly matches: (name: string) => boolean }
  | { readonly kind: "globstar" };

interface Include {
  readonly text: string;
  readonly root: BytePath;
  readonly segments: readonly Segment[];
  readonly matches: (path: string) => boolean;
}

interface Exclude {
  readonly text: string;
  readonly matches: (path: BytePath) => boolean;
}

/** What the patterns say about one path. */
export type Verdict =
  | { readonly kind: "included"; readonly by: string }
  | { readonly kind: "excluded"; readonly by: string }
  | { readonly kind: "unmatched" };

/** Braces may hold slashes, and extended globs too: such a stretch cannot be walked name by name. */
const SPANS_SLASHES = /[{(][^})]*\/[^})]*[})]/;

/**
 * The include and exclude patterns of a source. Patterns are text (UTF-8), paths are bytes: a path that is valid UTF-8
 * is matched as text, any other one byte by byte. As in a shell, `*` does not match a leading dot and `**` any number of
 * folders; an exclude without a slash is matched against the base name. Relative patterns start at `workingFolder`.
 */
export class PathPatterns {
  readonly #includes: readonly Include[];
  readonly #excludes: readonly Exclude[];

  constructor(include: readonly string[], exclude: readonly string[], workingFolder: string = process.cwd()) {
    this.#includes = include.map((text) => compileInclude(text, workingFolder));
    this.#excludes = exclude.map((text) => compileExclude(text, workingFolder));
  }

  /** Folders to start walking in, each with the places to start at. */
  get roots(): ReadonlyMap<BytePath, readonly Place[]> {
    const roots = new Map<BytePath, Place[]>();
    this.#includes.forEach((include, pattern) => {
      const places = roots.get(include.root) ?? [];
      places.push(...this.#closure([{ pattern, segment: 0 }]));
      roots.set(include.root, places);
    });
    return roots;
  }

  /** The places in the subfolder `name` of a folder with `places`; empty: nothing below it can match. */
  below(places: readonly Place[], name: BytePath): readonly Place[] {
    const next: Place[] = [];
    const text = textOf(name);
    for (const place of places) {
      const segments = this.#includes[place.pattern]!.segments;
      const segment = segments[place.segment];
      if (segment === undefined) continue;
      if (segment.kind === "globstar") {
        if (!name.startsWith(".")) next.push(place);
      } else if (place.segment < segments.length - 1 && matchesName(segment, name, text)) {
        next.push({ pattern: place.pattern, segment: place.segment + 1 });
      }
    }
    return this.#closure(next);
  }

  /** Whether a file at this path is to be read, and which pattern says so. */
  judge(path: BytePath): Verdict {
    const text = textOf(path);
    const include = this.#includes.find((candidate) => candidate.matches(text));
    if (include === undefined) return { kind: "unmatched" };
    const exclude = this.#excludes.find((candidate) => candidate.matches(path));
    if (exclude !== undefined) return { kind: "excluded", by: exclude.text };
    return { kind: "included", by: include.text };
  }

  /** `**` also stands for no folder at all, so the place behind it counts too. */
  #closure(places: readonly Place[]): Place[] {
    const seen = new Set<string>();
    const closed: Place[] = [];
    const todo = [...places];
    for (let place = todo.pop(); place !== undefined; place = todo.pop()) {
      const name = `${place.pattern}:${place.segment}`;
      if (seen.has(name)) continue;
      seen.add(name);
      closed.push(place);
      const segments = this.#includes[place.pattern]!.segments;
      if (segments[place.segment]?.kind === "globstar" && place.segment < segments.length - 1) {
        todo.push({ pattern: place.pattern, segment: place.segment + 1 });
      }
    }
    return closed;
  }
}

function matchesName(segment: Segment, name: BytePath, text: string): boolean {
  if (segment.kind === "name") return segment.name === name;
  return segment.kind === "magic" && segment.matches(text);
}

function compileInclude(text: string, workingFolder: string): Include {
  const pattern = absolutePattern(text, workingFolder);
  const parts = pattern.split("/").slice(1);
  let plain = 0;
  // The last name is never part of the root: the root is a folder to list.
  while (plain < parts.length - 1 && !isMagic(parts[plain]!)) plain += 1;
  const root = pathFromText(`/${parts.slice(0, plain).map(withoutEscapes).join("/")}`);
  const rest = parts.slice(plain);
  const segments: Segment[] = SPANS_SLASHES.test(rest.join("/"))
    ? [{ kind: "globstar" }]
    : rest.map((part) => compileSegment(part));
  const isMatch = picomatch(pattern, { nonegate: true });
  const literal = pathFromText(pattern);
  return { text, root, segments, matches: (path) => isMatch(path) || path === pattern || path === literal };
}

function compileSegment(part: string): Segment {
  if (part === "**") return { kind: "globstar" };
  if (!isMagic(part)) return { kind: "name", name: pathFromText(withoutEscapes(part)) };
  const isMatch = picomatch(part, { nonegate: true });
  return { kind: "magic", matches: (name) => isMatch(name) || name === part };
}

function compileExclude(text: string, workingFolder: string): Exclude {
  if (!text.includes("/")) {
    // A name that is to be left out is left out with or without a leading dot.
    const isMatch = picomatch(text, { nonegate: true, dot: true });
    return { text, matches: (path) => isMatch(textOf(baseName(path))) || baseName(path) === pathFromText(text) };
  }
  const pattern = absolutePattern(text, workingFolder);
  const isMatch = picomatch(pattern, { nonegate: true, dot: true });
  return { text, matches: (path) => isMatch(textOf(path)) };
}

/** Absolute, without `.`, `..` and doubled slashes; wildcards survive, since they are ordinary names to `resolve`. */
function absolutePattern(text: string, workingFolder: string): string {
  const absolute = text.startsWith("/") ? text : `${workingFolder}/${text}`;
  return resolve("/", absolute);
}

function isMagic(part: string): boolean {
  return /[*?[\]{}()!+@]/.test(part.replace(/\\./g, ""));
}

function withoutEscapes(part: string): string {
  return part.replace(/\\(.)/g, "$1");
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isAscii(path: string): boolean {
  for (let at = 0; at < path.length; at += 1) if (path.charCodeAt(at) > 0x7f) return false;
  return true;
}

function textOf(path: BytePath): string {
  if (isAscii(path)) return path;
  try {
    return strictUtf8.decode(pathToBytes(path));
  } catch {
    return path;
  }
}
