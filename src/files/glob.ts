import { type BytePath, pathFromText } from "../runtime/byte-path.ts";
import { isMagic, NamePattern, withoutEscapes } from "./name-pattern.ts";
import { PatternError } from "./pattern-error.ts";
import { pathsOf, wordsIn } from "./pattern-words.ts";

type Segment =
  | { readonly kind: "name"; readonly name: BytePath }
  | { readonly kind: "magic"; readonly pattern: NamePattern }
  /** Any number of folders; as the last one, any file below. */
  | { readonly kind: "globstar" };

/** One word that the braces of a pattern stand for: an absolute path of names and wildcards. */
interface Alternative {
  /** The whole pattern, as it was written. */
  readonly text: string;
  readonly isExclude: boolean;
  readonly segments: readonly Segment[];
}

/** How far one alternative has come in a folder: which of its segments is next. */
interface Place {
  readonly alternative: number;
  readonly segment: number;
}

/** Where a folder stands in all patterns at once. Two folders with the same Standing take the same names. */
export interface Standing {
  readonly places: readonly Place[];
}

/** What the patterns say about one path. */
export type Verdict =
  | { readonly kind: "included"; readonly by: string }
  | { readonly kind: "excluded"; readonly by: string }
  | { readonly kind: "unmatched" };

interface BaseExclude {
  readonly text: string;
  readonly matches: (name: BytePath) => boolean;
}

const UNMATCHED: Verdict = { kind: "unmatched" };

/**
 * The include and exclude patterns of a source, with bash's meaning (`globstar` on, `dotglob` and `extglob` off): braces
 * first, then `*`, `?`, `[...]` within a name, `**` for any number of folders; no wildcard matches a leading dot. As in a
 * shell, a word with wildcards is also the very path that it spells (`lit[1].log`). Three things are other than in bash:
 * links to folders are walked by `**`, too; an exclude leaves out names with a leading dot as well, and without a slash is
 * compared with the base name; and a pattern that cannot mean what it says is refused.
 *
 * Patterns are text (UTF-8), paths are bytes; see NamePattern. Relative patterns start at `workingFolder`.
 *
 * @throws PatternError from the constructor
 */
export class PathPatterns {
  readonly #alternatives: Alternative[] = [];
  readonly #baseExcludes: readonly BaseExclude[];
  readonly #roots = new Set<BytePath>();
  readonly #standings = new Map<string, Standing>();
  readonly #top: Standing | undefined;

  constructor(include: readonly string[], exclude: readonly string[], workingFolder: string = process.cwd()) {
    for (const text of include) {
      for (const parts of pathsOf(text, workingFolder)) {
        this.#roots.add(rootOf(parts));
        this.#add(text, parts, false);
      }
    }
    for (const text of exclude) {
      if (!text.includes("/")) continue;
      for (const parts of pathsOf(text, workingFolder)) this.#add(text, parts, true);
    }
    this.#baseExcludes = exclude.filter((text) => !text.includes("/")).map(compileBaseExclude);
    this.#top = this.#standingAt(
      this.#closed(this.#alternatives.map((_, alternative) => ({ alternative, segment: 0 }))),
    );
  }

  /** Folders to start walking in: of each include the longest path without a wildcard. */
  get roots(): Iterable<BytePath> {
    return this.#roots;
  }

  /** Where the folder at this absolute path stands; undefined: nothing below it can match. */
  standingOf(folder: BytePath): Standing | undefined {
    let standing = this.#top;
    for (const name of namesOf(folder)) standing = standing && this.below(standing, name);
    return standing;
  }

  /** Where the subfolder `name` stands; undefined: nothing below it can match. */
  below(standing: Standing, name: BytePath): Standing | undefined {
    return this.#standingAt(this.#step(standing.places, name));
  }

  /** What the patterns say about the file `name` in a folder that stands there. */
  verdictIn({ places }: Standing, name: BytePath): Verdict {
    const include = this.#firstMatch(places, name, false);
    if (include === undefined) return UNMATCHED;
    const exclude = this.#baseExcludes.find(({ matches }) => matches(name)) ?? this.#firstMatch(places, name, true);
    return exclude === undefined ? { kind: "included", by: include.text } : { kind: "excluded", by: exclude.text };
  }

  /** Whether a file at this path is to be read, and which pattern says so. */
  judge(path: BytePath): Verdict {
    const names = namesOf(path);
    const name = names.pop();
    let places = this.#top?.places ?? [];
    // Not by `below`, which ends where everything is excluded: here the pattern that does it is to be named.
    for (const folder of names) places = this.#step(places, folder);
    return name === undefined ? UNMATCHED : this.verdictIn({ places }, name);
  }

  #add(text: string, parts: readonly string[], isExclude: boolean): void {
    const segments = parts.map((part) => compileSegment(part, isExclude));
    this.#alternatives.push({ text, isExclude, segments });
    if (segments.every(({ kind }) => kind === "name")) return;
    this.#alternatives.push({ text, isExclude, segments: parts.map(literalSegment) });
  }

  #firstMatch(places: readonly Place[], name: BytePath, isExclude: boolean): Alternative | undefined {
    for (const place of places) {
      const alternative = this.#alternatives[place.alternative]!;
      if (alternative.isExclude !== isExclude || place.segment !== alternative.segments.length - 1) continue;
      const segment = alternative.segments[place.segment]!;
      if (segment.kind === "globstar" ? isExclude || !name.startsWith(".") : matchesName(segment, name)) {
        return alternative;
      }
    }
    return undefined;
  }

  #step(places: readonly Place[], name: BytePath): readonly Place[] {
    const next: Place[] = [];
    for (const place of places) {
      const { segments, isExclude } = this.#alternatives[place.alternative]!;
      const segment = segments[place.segment]!;
      if (segment.kind === "globstar") {
        if (isExclude || !name.startsWith(".")) next.push(place);
      } else if (place.segment < segments.length - 1 && matchesName(segment, name)) {
        next.push({ alternative: place.alternative, segment: place.segment + 1 });
      }
    }
    return this.#closed(next);
  }

  /** `**` also stands for no folder at all, so the place behind it counts too. Sorted, no place twice. */
  #closed(places: readonly Place[]): readonly Place[] {
    const closed = new Map<string, Place>();
    for (let place of places) {
      for (;;) {
        closed.set(`${place.alternative}:${place.segment}`, place);
        const { segments } = this.#alternatives[place.alternative]!;
        if (segments[place.segment]!.kind !== "globstar" || place.segment === segments.length - 1) break;
        place = { alternative: place.alternative, segment: place.segment + 1 };
      }
    }
    return [...closed.values()].sort((a, b) => a.alternative - b.alternative || a.segment - b.segment);
  }

  /** The one Standing of these places: equal ones are the same object. */
  #standingAt(places: readonly Place[]): Standing | undefined {
    let isWanted = false;
    for (const { alternative, segment } of places) {
      const { isExclude, segments } = this.#alternatives[alternative]!;
      if (!isExclude) isWanted = true;
      else if (segments[segment]!.kind === "globstar" && segment === segments.length - 1) return undefined;
    }
    if (!isWanted) return undefined;
    const key = places.map(({ alternative, segment }) => `${alternative}:${segment}`).join();
    let standing = this.#standings.get(key);
    if (standing === undefined) {
      standing = { places };
      this.#standings.set(key, standing);
    }
    return standing;
  }
}

/** Why a pattern cannot mean what it says, and what to write; undefined: it can. */
export function patternMistake(text: string): string | undefined {
  try {
    // As an include, every name of it is compiled as strictly as in an exclude.
    new PathPatterns([text], [], "/");
    return undefined;
  } catch (error) {
    if (error instanceof PatternError) return error.message;
    throw error;
  }
}

function matchesName(segment: Segment, name: BytePath): boolean {
  if (segment.kind === "name") return segment.name === name;
  return segment.kind === "magic" && segment.pattern.matches(name);
}

function compileSegment(part: string, isExclude: boolean): Segment {
  if (part === "**") return { kind: "globstar" };
  const pattern = new NamePattern(part, isExclude);
  return isMagic(part) ? { kind: "magic", pattern } : literalSegment(part);
}

function literalSegment(part: string): Segment {
  return { kind: "name", name: pathFromText(withoutEscapes(part)) };
}

function compileBaseExclude(text: string): BaseExclude {
  // A name that is to be left out is left out with or without a leading dot.
  const patterns = wordsIn(text).map((word) => new NamePattern(word, true));
  const literal = pathFromText(withoutEscapes(text));
  return { text, matches: (name) => name === literal || patterns.some((pattern) => pattern.matches(name)) };
}

/** The longest folder without a wildcard. The last name is never part of it: it is a folder to list. */
function rootOf(parts: readonly string[]): BytePath {
  const plain = parts.findIndex((part, at) => at === parts.length - 1 || isMagic(part));
  return pathFromText(`/${parts.slice(0, plain).map(withoutEscapes).join("/")}`);
}

function namesOf(path: BytePath): BytePath[] {
  return path.split("/").filter((name) => name !== "") as BytePath[];
}
